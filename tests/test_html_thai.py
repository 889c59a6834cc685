"""Thai in Chromium: no mark above or below a letter is cut off, in any kind of control, and the page brings its font along"""

import io
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

from vote_experiments.html.styles import font_faces, page, sheet, tokens
from vote_experiments.html.markup import Html
from vote_experiments.widgets.controls import stylesheet

STACKED = ("สิบสี่", "ปี่ฟี้", "น้ำ", "ญู่กู้", "ผู้ใหญ่บ้าน", "ฎีกุฏุ", "เที่ยงตรง")
TEXT = "ที่ปู่ฎุฟี้"  # marks two high above, and below
CSS = files("vote_experiments.widgets").joinpath("widgets.css").read_text(encoding="utf-8")

LOADED = "Promise.all([400, 700].map(weight => document.fonts.load(`${weight} 16px Sarabun`, 'ที่')))"

# The controls as ipywidgets builds them, without its JavaScript: what is tested is the style sheet.
CONTROLS = {
    "text": '<div class="widget-inline-hbox"><label class="widget-label">x</label><input id="{id}" type="text" value="{text}"></div>',
    "label": '<div class="widget-inline-hbox"><label class="widget-label" id="{id}">{text}</label><input type="text"></div>',
    "textarea": '<div class="widget-inline-hbox widget-textarea"><textarea id="{id}" rows="2">{text}</textarea></div>',
    "dropdown": '<div class="widget-inline-hbox widget-dropdown"><select id="{id}"><option>{text}</option></select></div>',
    "button": '<button class="jupyter-button widget-button" id="{id}">{text}</button>',
    "small button": '<button class="jupyter-button widget-button ve-small" id="{id}">{text}</button>',
    "chip": '<button class="jupyter-button widget-button ve-small ve-chip" id="{id}">{text}</button>',
    "heading": '<h2 id="{id}">{text}</h2>',
    "cell": '<table><tbody><tr><td id="{id}">{text}</td></tr></tbody></table>',
    "message": '<div class="ve-message" id="{id}">{text}</div>',
    "tile": '<div class="ve-tile"><span id="{id}">{text}</span></div>',
    "summary": '<details><summary id="{id}">{text}</summary></details>',
    "tab": '<div class="ve-tabs"><div class="lm-TabBar"><ul><li class="lm-TabBar-tab"><div class="lm-TabBar-tabLabel" id="{id}">{text}</div></li></ul></div></div>',
}
ALONE = """.ve * { color: #000 !important; border-color: transparent !important; background: #fff !important; box-shadow: none !important; visibility: hidden; }
.ve #control, .ve #control * { visibility: visible; } summary { list-style: none; } .ve #control { text-align: left !important; }"""

# What ipywidgets' own sheet does to labels and buttons, and JupyterLab's to inputs: the place where marks were lost
HOST = """.widget-label, .jupyter-button, .lm-TabBar-tabLabel { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
input, select, textarea, button { font-family: Arial, sans-serif; line-height: 1.2; }"""


def ink_rows(page, selector):
    "Height of the ink in rows, of the widest part that has text only"
    box = page.locator(selector).bounding_box()
    style = page.evaluate(
        "s => { const c = getComputedStyle(document.querySelector(s)); return [c.paddingLeft, c.borderLeftWidth].map(parseFloat) }",
        selector,
    )
    left = box["x"] + sum(style) - 1
    clip = {"x": max(left, 0), "y": max(box["y"] - 12, 0), "width": 42, "height": box["height"] + 24}
    shot = np.asarray(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("L")).astype(int)
    dark = (shot < 160).any(axis=1)
    rows = np.flatnonzero(dark)
    return int(rows[-1] - rows[0] + 1)


@pytest.fixture
def shown(chromium):
    tab = chromium.new_page(viewport={"width": 900, "height": 2400}, device_scale_factor=1)
    yield tab
    tab.close()


@pytest.mark.browser
@pytest.mark.parametrize("kind", CONTROLS)
def test_no_mark_is_cut_off_in_a_control(shown, kind):
    "The ink of a text in a control is as high as the ink of the same text in the report, where nothing is clipped"
    control = CONTROLS[kind].format(id="control", text=TEXT)
    shown.set_content(
        f"<style>{font_faces()}{tokens(False)}{HOST}{CSS} {ALONE}</style>"
        f'<div class="ve"><div style="padding: 30px">{control}</div></div>'
    )
    shown.evaluate(LOADED)
    style = shown.evaluate(
        "() => { const c = getComputedStyle(document.querySelector('#control')); return [c.fontSize, c.fontWeight, c.fontFamily] }"
    )
    assert style[2].startswith("Sarabun"), style
    height = ink_rows(shown, "#control")
    shown.set_content(
        f"<style>{font_faces()}{tokens()}{sheet('page.css')} p {{ color: #000; font-size: {style[0]} !important; font-weight: {style[1]} !important; "
        f'line-height: 3 !important; }}</style><p id="plain" lang="th">{TEXT}</p>'
    )
    shown.evaluate(LOADED)
    whole = ink_rows(shown, "#plain")
    assert abs(height - whole) <= 1, f"{kind}: {height} rows of ink, {whole} where nothing is clipped"


@pytest.mark.browser
def test_a_clipped_text_is_found_by_this_measure(shown):
    "The measure itself: with the old line height and clipping, ink is missing"
    body = f'<div style="padding:30px"><div id="old" style="font-size:13px; line-height:1; overflow:hidden; height:13px">{TEXT}</div><p id="new">{TEXT}</p></div>'
    shown.set_content(
        f"<style>{font_faces()} * {{ font-family: Sarabun; color: #000; font-size: 13px; }} p {{ line-height: 3; margin: 0 }}</style>{body}"
    )
    shown.evaluate(LOADED)
    assert ink_rows(shown, "#old") < ink_rows(shown, "#new") - 2


@pytest.mark.browser
def test_pages_bring_their_font_and_each_stacked_word_has_glyphs(shown):
    made = page(
        "ทดสอบ", Html("".join(f'<p id="w{i}">{word}</p>' for i, word in enumerate(STACKED))), lead="", language="th"
    )
    requests = []
    shown.on("request", lambda r: requests.append(r.url))
    shown.set_content(str(made))
    assert shown.evaluate("document.fonts.load('16px Sarabun', 'ที่').then(f => f.length)") > 0
    widths = [
        shown.evaluate(
            f"(() => {{ const r = document.createRange(); r.selectNodeContents(document.querySelector('#w{i}')); return r.getBoundingClientRect().width }})()"
        )
        for i in range(len(STACKED))
    ]
    assert all(width > 10 for width in widths)
    assert [u for u in requests if not u.startswith(("data:", "about:"))] == []


def test_the_sheet_of_the_widgets_has_the_font_and_the_tokens():
    sheet_of_widgets = stylesheet().value
    assert (
        sheet_of_widgets.count("@font-face") == 2
        and "--ve-leading" in sheet_of_widgets
        and "line-height: 1.35" not in sheet_of_widgets
    )
