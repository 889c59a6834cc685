"""The tab for outcome checks in a real Chromium, used by keyboard"""

import contextlib
import re
from types import SimpleNamespace

import httpx
import pandas as pd
import pytest
from PIL import Image
from servers.loopback import kept_port
from test_widgets_page import BIN, SECONDS, opened, process, wait_for

from vote_experiments import OutcomeCheck, start_outcome_check
from vote_experiments.store.database import Store

SEED = "27182818284590452353"
HOSTILE = '<img src=x onerror="window.pwned=1">'
CHOICES = ("1 ก", f"2 {HOSTILE}")


def station_truth(i):
    return dict(zip(CHOICES, (250 + i, 60 + i)))


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    "A check of 30 stations; the machine read 31 votes too many for the second on every form"
    folder = tmp_path_factory.mktemp("night")
    rows = []
    for i in range(30):
        Image.new("RGB", (60, 80), (250, 250, 240 - i)).save(folder / f"{i}.png")
        rows += [(f"s{i:02}", c, v + 31 * (c != CHOICES[0]), 500, f"{i}.png") for c, v in station_truth(i).items()]
    store = Store(folder / "store.db")
    table = pd.DataFrame(rows, columns=["station", "choice", "votes", "ballots", "pages"])
    check = start_outcome_check(table, seed=SEED, store=store)
    yield SimpleNamespace(folder=folder, store=store, check=check)
    store.close()


@pytest.fixture(scope="module")
def page(night, chromium):
    pytest.importorskip("voila", reason="Voila is not installed")
    path = night.folder / "store.db"
    with (
        kept_port() as port,
        process(
            night.folder, BIN / "vote-experiments", "ui", "--no-browser", "--port", port, "--store", path
        ) as server,
    ):
        address = wait_for(
            lambda: re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", server.log.read_text()), server.log.read_text
        )[0]

        def answers():
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(address.split("?")[0] + "voila/static/none").status_code

        wait_for(answers, server.log.read_text)
        page = opened(chromium, address, 1500)
        page.get_by_role("tab", name="Check an outcome").click(timeout=120 * SECONDS)
        page.get_by_label("Your name").wait_for(timeout=60 * SECONDS)
        yield page


def field(page, choice):
    return page.get_by_label(choice, exact=True)


@pytest.mark.browser
def test_forms_are_read_by_keyboard_and_the_machines_numbers_come_after(night, page):
    page.get_by_label("Your name").press_sequentially("Anong")
    page.keyboard.press("Enter")
    for number in range(2):
        field(page, CHOICES[0]).wait_for(timeout=60 * SECONDS)
        station = wait_for(
            lambda: re.search(r"Station (s\d\d)\b(?!:)", page.locator("h3").last.inner_text()), "no station"
        )[1]
        truth = station_truth(int(station[1:]))
        machine = truth[CHOICES[1]] + 31
        assert not re.search(rf"(?<![\d.]){machine}\b", page.locator(".ve").last.inner_text()), (
            "what the machine read is not shown yet"
        )
        field(page, CHOICES[0]).focus()
        page.keyboard.type(str(truth[CHOICES[0]]))
        page.keyboard.press("Enter")
        page.wait_for_function("document.activeElement.tagName == 'INPUT' && document.activeElement.value == ''")
        page.keyboard.type(str(truth[CHOICES[1]]))
        page.keyboard.press("Enter")
        page.get_by_text(f"Station {station}: stored. The machine read").wait_for(timeout=60 * SECONDS)
        readings = OutcomeCheck.resume(night.check.id, night.store).readings()
        assert readings["station"].tolist()[number] == station and readings["reader"].tolist()[number] == "Anong"
        assert readings.iloc[number][list(CHOICES)].tolist() == list(truth.values())
    assert re.search(
        r"Risk 0\.\d+ of 0\.05 · 2 forms read · about \d+ more", page.locator(".ve-check-bar").inner_text()
    )


@pytest.mark.browser
def test_names_from_the_data_are_text(page):
    assert page.evaluate("window.pwned") is None
    assert page.complaints == []
