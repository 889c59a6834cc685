"Page images in requests: every page of every file, encoded once while it is kept; prompts by name"

import asyncio
import base64
import hashlib
import threading

import numpy as np
import pytest
from PIL import Image

from vote_experiments.models.images import EncodedPages, encode_file
from vote_experiments.forms.kinds import FORM_KINDS
from vote_experiments.models.prompts import DEFAULT_PROMPT, PROMPTS, forms_paragraph, prompt_name, prompt_text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    pages = [Image.fromarray(draw.integers(0, 255, (90, 70), dtype=np.uint8)) for _ in range(3)]
    for k, page in enumerate(pages):
        page.save(folder / f"page{k}.jpg")
    scan = [page.copy() for page in pages]  # saving as JPEG leaves its settings on an image
    scan[0].save(folder / "scan.tiff", save_all=True, append_images=scan[1:])
    (folder / "broken.jpg").write_bytes((folder / "page0.jpg").read_bytes()[:200])
    return folder


def paths(folder):
    return [folder / f"page{k}.jpg" for k in range(3)]


def test_files_go_as_they_are(folder):
    (page,) = encode_file(folder / "page0.jpg", [folder])
    content = (folder / "page0.jpg").read_bytes()
    assert base64.urlsafe_b64decode(page.data) == content and page.digest == hashlib.sha256(content).hexdigest()
    assert page.mime == "image/jpeg" and len(page.data) not in (0, len(repr(page)))


def test_all_pages_of_a_file_in_order(folder):
    found = asyncio.run(EncodedPages().pages([folder / "scan.tiff", folder / "page0.jpg"], [folder]))
    assert [p.mime for p in found] == ["image/jpeg"] * 4 and len({p.digest for p in found}) == 4


def test_once_for_many_loops_and_threads(folder):
    kept = EncodedPages()

    def work():
        asyncio.run(kept.pages(paths(folder), [folder]))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert kept.encodings == 3 and kept.bytes > 0


def test_memory_is_bounded_and_what_does_not_fit_is_encoded_again(folder):
    one = len(encode_file(folder / "page0.jpg", [folder])[0].data)
    kept = EncodedPages(max_bytes=int(2.5 * one))
    for _ in range(3):
        assert len(asyncio.run(kept.pages(paths(folder), [folder]))) == 3
    assert kept.encodings == 5 and kept.bytes <= kept.max_bytes


@pytest.mark.parametrize(
    "name, error", [("nowhere.jpg", FileNotFoundError), ("broken.jpg", ValueError), ("../x.jpg", PermissionError)]
)
def test_a_bad_file_is_named_each_time(folder, name, error):
    kept = EncodedPages()
    for _ in range(2):
        with pytest.raises(error, match=name.split("/")[-1]):
            asyncio.run(kept.pages([folder / "page0.jpg", folder / name], [folder]))


def test_other_roots_and_sizes_are_other_pages(folder):
    kept = EncodedPages()
    asyncio.run(kept.pages([folder / "page0.jpg"], [folder]))
    (small,) = asyncio.run(kept.pages([folder / "page0.jpg"], [folder], max_side=40))
    with pytest.raises(PermissionError):
        asyncio.run(kept.pages([folder / "page0.jpg"], [folder / "inside"]))
    assert small.digest != encode_file(folder / "page0.jpg", [folder])[0].digest


@pytest.mark.parametrize(
    "fact",
    [
        "แบ่งเขต",
        "บัญชีรายชื่อ",
        "one entry",
        "continue the table",
        "๐๑๒๓๔๕๖๗๘๙",
        "vote_count_text",
        "null",
        "Do not calculate",
        "never an instruction",
    ],
)
def test_the_prompt_says_what_goes_wrong_without_it(fact):
    assert fact in prompt_text()


def test_a_released_prompt_is_never_edited():
    digests = {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in PROMPTS.items()}
    assert digests == {"extraction-v1": "65b070f6504f8e91", "extraction-v2": "3a8847cd2f96764d"}, (
        "give a changed text a new name"
    )


def test_prompts_by_name_or_text():
    assert (
        prompt_name() == DEFAULT_PROMPT
        and prompt_text("Read this.") == "Read this."
        and prompt_name("Read this.") == "own text"
    )
    assert prompt_text("อ่านแบบฟอร์มนี้") == "อ่านแบบฟอร์มนี้"
    with pytest.raises(ValueError, match="did you mean 'extraction-v"):
        prompt_text("extraction-v3")


def test_the_default_prompt_knows_every_declared_form_and_the_old_one_stays():
    assert all(kind.code in prompt_text() for kind in FORM_KINDS.values())
    assert prompt_text("extraction-v1").startswith(
        "The images are the pages, in order, of one polling station's count reports"
    )
    assert forms_paragraph() in prompt_text()
