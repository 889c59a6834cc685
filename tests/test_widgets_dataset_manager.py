"""The dataset manager: every control and every way it can go wrong without a browser, then both record widgets in Chromium"""

import asyncio
import copy
import json
import re
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from record_stations import IMAGE, SCRIPT, draw_stations, stations_with_a_run
from servers.loopback import kept_port
from test_widgets_page import (
    ARTIFACTS,
    BIN,
    FAINT,
    NAMELESS,
    SECONDS,
    TOO_WIDE,
    _answers,
    opened,
    process,
    wait_for,  # noqa: F401
)

from vote_experiments.datasets import ground_truth as g
from vote_experiments.datasets import review_flags
from vote_experiments.datasets import second_readings
from vote_experiments.datasets import truth_origins
from vote_experiments.datasets import truth_values
from vote_experiments.datasets.files import read_dataset_file
from vote_experiments.datasets.changes import diff_versions
from vote_experiments.datasets.dataset import get_dataset, list_datasets, list_versions
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.store.database import Store
from vote_experiments.platforms import publishing
from vote_experiments.widgets.dataset_manager import DatasetManager
from vote_experiments.widgets.add_tab import keep_uploads
from vote_experiments.widgets.item_list import listed_items
from vote_experiments.widgets.truth_draft import Draft
from vote_experiments.widgets.truth_form import TruthForm

GOOD = "ballot_statistics.good_ballots"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    return SimpleNamespace(folder=folder, records=draw_stations(folder))


@pytest.fixture
def desk(drawn, tmp_path):
    "A manager over four items in a store of its own"
    store = Store(tmp_path / "store.db")
    save_dataset(
        "stations",
        copy.deepcopy(drawn.records),
        root=drawn.folder,
        store=store,
        provenance={"imported_from": "stations.json"},
    )
    manager = DatasetManager(store)
    manager.desk.name.value = "Noi"
    yield manager
    store.close()


def said(manager):
    return manager.desk.said.value


def harmless(html):
    assert "<script" not in html and "<img src=x" not in html
    return html


def buttons(widget):
    return {
        b.description: b
        for row in widget.children
        for part in getattr(row, "children", ())
        for b in getattr(part, "children", ())
    }


# -- correcting


def test_one_value_edited_and_saved_is_a_version_with_a_difference_of_one_field(desk):
    field, truth = desk.truth.form.counts[GOOD], desk.truth
    before = int(field.value)
    assert truth.save.disabled and "All checks pass" in truth.form.checks.value
    field.value = str(before + 3)
    assert "good + bad + no vote" in truth.form.checks.value and not truth.save.disabled
    assert "Good ballots" in truth.pending.value and str(before + 3) in truth.pending.value
    assert truth.items.label.endswith("edited") is False  # the list is renewed when something is stored
    truth.note.value = "struck out"
    truth.save.click()
    assert "Version 2 is saved" in said(desk) and desk.desk.dataset.version == 2
    [changed] = diff_versions("stations", 1, 2, desk.desk.store).changed
    assert [(f.path, f.old, f.new) for f in changed.fields] == [(f"expected_output.{GOOD}", before, before + 3)]
    assert truth.outcome.value.count("ve-new") == 1 and truth.changed == {} and truth.save.disabled
    origin = truth_origins.value_origins("stations", changed.item_id, store=desk.desk.store)[GOOD]
    assert (origin.name, origin.note, origin.old) == ("Noi", "struck out", before)
    assert "Noi" in truth.origins.value and "Noi" in truth.form.counts[GOOD].tooltip


def test_edits_of_several_items_wait_and_are_saved_together(desk):
    truth = desk.truth
    ids = [i for _, i in truth.items.options]
    for item_id in ids[:2]:
        truth.items.value = item_id
        truth.form.rows[0][1]["vote_count"].value = "77"
    truth.items.value = ids[2]
    truth.items.value = ids[0]
    assert truth.form.rows[0][1]["vote_count"].value == "77", "what was typed is still there"
    truth.save.click()
    assert {c.item_id for c in diff_versions("stations", 1, 2, desk.desk.store).changed} == set(ids[:2])


def test_what_cannot_be_read_is_said_in_place_and_not_saved(desk):
    field = desk.truth.form.counts[GOOD]
    field.value = f"4o{SCRIPT}"
    assert "ve-wrong" in field._dom_classes and "2.2.1 Good ballots" in harmless(desk.truth.form.checks.value)
    harmless(desk.truth.pending.value)
    desk.truth.save.click()
    assert "cannot be read" in harmless(said(desk)) and len(list_versions("stations", desk.desk.store)) == 1
    field.value = ""
    assert "ve-wrong" not in field._dom_classes and desk.truth.form.draft.changes() == {GOOD: None}


def test_typing_the_old_value_again_is_no_change(desk):
    field = desk.truth.form.counts[GOOD]
    before = field.value
    field.value = "1"
    field.value = f" {before} "
    assert desk.truth.changed == {} and "Nothing was changed" in desk.truth.pending.value


def test_discarding_asks_twice(desk):
    field = desk.truth.form.counts[GOOD]
    before, field.value = field.value, "1"
    desk.truth.discard.click()
    assert desk.truth.discard.description == "Press again to discard" and desk.truth.changed
    desk.truth.discard.click()
    assert desk.truth.changed == {} and desk.truth.form.counts[GOOD].value == before


def test_nobody_saves_without_a_name(desk):
    desk.desk.name.value = " "
    desk.truth.form.counts[GOOD].value = "1"
    desk.truth.save.click()
    assert "Type your name" in said(desk) and len(list_versions("stations", desk.desk.store)) == 1


def test_what_somebody_else_saved_meanwhile_is_not_overwritten(desk):
    item_id = desk.truth.item_id
    desk.truth.form.counts[GOOD].value = "1"
    g.correct_truth("stations", {item_id: {GOOD: 2}}, "Lek", store=desk.desk.store)
    desk.truth.save.click()
    assert "DatasetChangedError" in said(desk) and "version 2" in said(desk)
    assert (
        truth_values.truth_values(get_dataset("stations", store=desk.desk.store).item(item_id).expected_output)[GOOD]
        == 2
    )
    assert desk.truth.changed, "what was typed is not lost"


def test_a_dataset_is_not_left_with_unsaved_changes(desk):
    save_dataset("other", [{"id": "x", "input": 1, "expected_output": {"answer": 4}}], store=desk.desk.store)
    desk.refreshing.click()
    desk.truth.form.counts[GOOD].value = "1"
    desk.dataset.value = "other"
    assert desk.dataset.value == "stations" and "unsaved changes" in said(desk)
    desk.truth.discard.click(), desk.truth.discard.click()
    desk.dataset.value = "other"
    assert desk.desk.dataset.name == "other" and desk.truth.item_id == "x"
    desk.truth.form.json.value = '{"answer": '
    assert "not JSON yet" in desk.truth.form.checks.value
    desk.truth.form.json.value = '{"answer": 5}'
    desk.truth.save.click()
    assert get_dataset("other", store=desk.desk.store)[0].expected_output == {"answer": 5}


def test_two_reports_rows_beyond_the_first_twenty_and_json(desk):
    truth = desk.truth
    truth.items.value = next(i for _, i in truth.items.options if i.startswith("d"))
    form = truth.form
    assert len(form.report.options) == 2 and SCRIPT not in harmless(truth.head.value)
    form.report.value = 1
    form.later.click()
    assert form.rows[0][0].value == "21" and not form.earlier.disabled
    form.rows[0][1]["vote_count"].value = "1234"
    assert form.draft.changes() == {"reports[1].vote_results[number=21].vote_count": 1234}
    form.as_json.value = True
    assert json.loads(form.json.value)[1]["vote_results"][20]["vote_count"] == 1234
    form.as_json.value = False
    truth.save.click()
    assert len(diff_versions("stations", 1, 2, desk.desk.store).changed[0].fields) == 1


def test_a_page_that_is_gone_is_a_sentence(desk):
    desk.truth.items.value = "c gone"
    desk.truth.viewer.page.value = 2
    assert "deleted.jpg" in desk.truth.viewer.picture.value and "cannot be shown" in desk.truth.viewer.picture.value


def test_an_item_without_ground_truth_gets_one(desk):
    save_dataset("stations", [{"id": "new", "input": {"n": 1}}], store=desk.desk.store)
    desk.refreshing.click()
    desk.truth.items.value = "new"
    form = desk.truth.form
    assert "ve-hidden" not in form.start._dom_classes and "ve-hidden" in form._fields._dom_classes
    form.start_rows.value = 3
    form._start("Constituency", None)
    form.rows[2][1]["vote_count"].value = "๑๒"
    desk.truth.save.click()
    assert (
        get_dataset("stations", store=desk.desk.store).item("new").expected_output["vote_results"][2]["vote_count"]
        == 12
    )


# -- the list


def test_what_needs_review_comes_first_and_names_can_be_searched(desk):
    store = desk.desk.store
    assert [i for _, i in desk.truth.items.options][0] == "a right"
    review_flags.flag_item("stations", "c gone", "look", "Lek", store=store)
    desk.refreshing.click()
    assert desk.truth.items.options[0] == ("c gone · 1 to review", "c gone") and desk.truth.item_id == "c gone"
    desk.truth.order.value = "data"
    assert desk.truth.items.options[0][1] == "a right"
    desk.truth.find.value = "WRO"
    assert [i for _, i in desk.truth.items.options] == ["b wrong"] and desk.truth.item_id == "b wrong"
    desk.truth.find.value = "100%_"
    assert desk.truth.items.options == () and "No item fits" in desk.truth.part.value


def test_a_long_list_comes_in_parts(sqlite_store):
    save_dataset(
        "long", [{"id": f"i{n:03}", "input": n, "expected_output": {"n": n}} for n in range(250)], store=sqlite_store
    )
    manager = DatasetManager(sqlite_store)
    assert "1 to 100 of 250" in manager.truth.part.value and manager.truth.earlier.disabled
    manager.truth.later.click(), manager.truth.later.click()
    assert (
        "201 to 250 of 250" in manager.truth.part.value
        and manager.truth.item_id == "i200"
        and manager.truth.later.disabled
    )
    assert listed_items(get_dataset("long", store=sqlite_store), 0, 3, "i24") == (["i240", "i241", "i242"], 10)


# -- flags, second readers, decisions


def test_flags_by_hand_are_raised_and_closed(desk):
    desk.truth.flag.click()
    assert "say what should be looked at" in said(desk)
    desk.truth.flag_text.value = f"the stamp {SCRIPT}"
    desk.truth.flag.click()
    assert "in the queue" in said(desk) and "1 to review" in desk.truth.items.label
    harmless(desk.truth.flags.children[0].children[0].value)
    buttons(desk.truth.flags)["Dismiss"].click()
    assert g.queue_counts("stations", desk.desk.store) == {"open": 0, "resolved": 0, "dismissed": 1}


def test_a_second_reader_sees_no_counts_and_a_third_person_decides(desk):
    truth, store, item_id = desk.truth, desk.desk.store, desk.truth.item_id
    shown = {k: f.value for k, f in truth.form.counts.items()}
    votes = [cells["vote_count"].value for _, cells in truth.form.rows]
    desk.desk.name.value = "Lek"
    truth.mode.value = "second"
    assert {f.value for f in truth.form.counts.values()} == {
        ""
    } and "ve-hidden" in truth._shown.flags.widget._dom_classes
    assert {cells["vote_count"].value for _, cells in truth.form.rows} == {""} and truth.form.header[
        "form_info.province"
    ].value
    assert truth.form.checks.value == "" and truth.origins.value == ""
    for path, field in truth.form.counts.items():
        field.value = shown[path] if path != GOOD else "1"
    for (_, cells), v in zip(truth.form.rows, votes):
        cells["vote_count"].value = v
    truth.keep.click()
    found = {d.path for d in second_readings.disagreements("stations", item_id, store)}
    assert GOOD in found and all(p == GOOD or p.endswith("_text") or p.startswith("total") for p in found)
    assert (
        "values differ" in said(desk) and truth.mode.value == "correct" and len(list_versions("stations", store)) == 1
    )
    desk.desk.name.value = "Daeng"
    choice, third = truth._shown.decisions.choices[GOOD]
    assert [name for name, _ in choice.options] == [f"ground truth: {int(shown[GOOD]):,}", "Lek: 1", "another value:"]
    choice.value, third.value = 2, "5"
    truth.decide()
    assert "decisions are kept, by Daeng" in said(desk) and desk.desk.dataset.version == 2
    assert truth_values.truth_values(get_dataset("stations", store=store).item(item_id).expected_output)[GOOD] == 5
    assert {a.name for a in g.list_adjudications("stations", item_id, store)} == {
        "Daeng"
    } and truth.decisions.children == ()


def test_the_same_reading_agrees(drawn):
    form = TruthForm()
    record = drawn.records[0]
    form.load(Draft(record["ground_truth"]), is_blind=True)
    for path, value in truth_values.truth_values(record["ground_truth"]).items():
        if value is not None and (path in form.counts or path in form.other):
            {**form.counts, **form.other}[path].value = str(value)
    for (_, cells), row in zip(form.rows, record["ground_truth"]["vote_results"]):
        cells["vote_count"].value, cells["vote_count_text"].value = str(row["vote_count"]), row["vote_count_text"] or ""
    differing = {
        k
        for k, v in truth_values.truth_values(record["ground_truth"]).items()
        if truth_values.truth_values(form.reading()).get(k) != v
    }
    assert {k for k in differing if not k.endswith("_text")} == set()


def test_the_queue_checks_finds_suspects_and_opens_items(tmp_path):
    made = stations_with_a_run(tmp_path)
    manager = DatasetManager(made.store)
    manager.desk.name.value = "Noi"
    review = manager.review
    assert "Nothing here" in review.counts.value and review.open.disabled
    review.check_all.click()
    assert "items fail a check" in said(manager) and len(review.queue.options) >= 2
    assert review.run.options[0][1] == made.group
    review.suspects.click()
    assert "1 suspect labels" in said(manager)
    assert "a right · suspect label · 2.2.1 Good ballots: the ground truth says" in review.queue.options[0][0], (
        "suspect labels come first"
    )
    review.open.click()
    assert manager.tabs.selected_index == 0 and manager.truth.item_id == "a right"
    good = manager.truth.form.counts[GOOD]
    right = made.truths["a right"]["ballot_statistics"]["good_ballots"]
    assert "ve-suspect" in good._dom_classes and "2 of 2 models" in good.tooltip
    buttons(manager.truth.flags)[f"Take {right:,}"].click()
    assert good.value == str(right)
    manager.truth.save.click()
    assert "a right" not in [f.item_id for f in g.review_queue("stations", store=made.store)], (
        "saving resolved its flags"
    )
    manager.review.state.value = "resolved"
    assert "Closed by" in manager.review.queue.options[0][0]
    made.store.close()


def test_flags_are_closed_in_the_queue(desk):
    review_flags.flag_item("stations", "b wrong", "look", "Lek", store=desk.desk.store)
    desk.refreshing.click()
    desk.review.resolve.click()
    assert g.queue_counts("stations", desk.desk.store)["resolved"] == 1 and desk.review.resolve.disabled


# -- new data


def test_an_empty_store_says_what_to_do(tmp_path):
    manager = DatasetManager(tmp_path / "new.db")
    assert "There is no dataset in this store yet" in manager.truth.empty.value and manager.tabs.selected_index == 2
    assert said(manager) == "" and manager.versions.push.disabled


def test_importing_by_path(drawn, tmp_path):
    manager = DatasetManager(tmp_path / "store.db")
    file = drawn.folder / "stations.json"
    file.write_text(
        json.dumps({"name": f"from file {SCRIPT}", "records": drawn.records[:2]}, ensure_ascii=False), encoding="utf-8"
    )
    manager.add.path.value = str(file)
    manager.add.importing.click()
    assert (
        "has 2 items now, version 1" in harmless(said(manager)) and manager.desk.dataset.name == f"from file {SCRIPT}"
    )
    assert manager.truth.item_id == "a right" and "data:image" in manager.truth.viewer.picture.value
    manager.add.path.value, manager.add.name.value = str(drawn.folder / "pages"), "scans"
    manager.add.importing.click()
    assert manager.desk.dataset.name == "scans" and len(manager.desk.dataset) >= 4
    manager.add.path.value = "/nowhere/at all"
    manager.add.importing.click()
    assert "FileNotFoundError" in said(manager) and "/nowhere/at all" in said(manager)
    bad = tmp_path / "bad.json"
    bad.write_text("[{]")
    manager.add.path.value = str(bad)
    manager.add.importing.click()
    assert 'role="alert"' in said(manager) and "bad.json" in said(manager)


def upload(name, content):
    return {
        "name": name,
        "type": "",
        "size": len(content),
        "content": memoryview(content),
        "last_modified": datetime(2026, 1, 1, tzinfo=UTC),
    }


def test_uploading_a_file_and_own_scans(drawn, tmp_path):
    manager = DatasetManager(tmp_path / "store.db")
    manager.add.upload.value = (upload("mine.jsonl", json.dumps(drawn.records[0]).encode()),)
    assert "has 1 items now" in said(manager) and manager.add.upload.value == ()
    pages = sorted((drawn.folder / "pages").glob("*"))[:2]
    manager.add.upload.value = tuple(upload(p.name, p.read_bytes()) for p in pages)
    assert "Give the new dataset a name" in said(manager)
    manager.add.upload_name.value = "my scans"
    manager.add.upload.value = tuple(upload(p.name, p.read_bytes()) for p in pages)
    assert manager.desk.dataset.name == "my scans" and "ve-hidden" not in manager.truth.form.start._dom_classes


@pytest.mark.parametrize("name", ["../../evil.json", "/etc/evil.json", "..\\evil.json", "a/b/evil.json"])
def test_an_uploaded_name_stays_in_its_folder(tmp_path, name):
    [kept] = keep_uploads([upload(name, b"{}")], tmp_path / "in")
    assert kept.parent == tmp_path / "in" and kept.name == "evil.json"
    assert keep_uploads([upload("..", b"{}"), upload("", b"")], tmp_path / "in") == []


def test_drawing_and_creating(tmp_path):
    manager = DatasetManager(tmp_path / "store.db")
    manager.add.n.value, manager.add.drawn_name.value, manager.add.level.value, manager.add.kind.value = (
        1,
        "drawn",
        "clean",
        "5/18",
    )
    manager.add.draw.click()
    assert "drawn has 1 items now" in said(manager) and manager.add.progress.value == 1
    manager.add.create.click()
    assert "Type a name" in said(manager)
    manager.add.new_name.value, manager.add.description.value = "empty one", "for later"
    manager.desk.name.value = "Noi"
    manager.add.create.click()
    assert manager.desk.dataset.name == "empty one" and "No item fits" in manager.truth.part.value
    assert [d.name for d in list_datasets(manager.desk.store)] == ["drawn", "empty one"]
    manager.add.create.click()
    assert "version 1" in said(manager), "the same again changes nothing"


# -- versions, export, push


def test_versions_are_compared_exported_and_pushed(desk, tmp_path, monkeypatch):
    versions = desk.versions
    desk.truth.form.counts[GOOD].value = "1"
    desk.truth.save.click()
    assert versions.history.value.count("<tr>") == 3 and "Noi" in versions.history.value
    versions.compare.click()
    assert versions.difference.value.count("ve-new") == 1
    versions.b.value = 1
    versions.compare.click()
    assert "say the same" in versions.difference.value
    versions.path.value = str(tmp_path / "out" / "x.json")
    versions.export.click()
    assert (
        len(list(read_dataset_file(tmp_path / "out" / "x.json", roots=desk.desk.dataset.roots).items)) == 4
        and "download=" in versions.exported.value
    )
    versions.format.value = "jsonl"
    assert versions.path.value.endswith("stations-v2.jsonl")
    versions.path.value = ""
    versions.export.click()
    assert 'role="alert"' in said(desk)
    for name in ("DD_API_KEY", "DD_APP_KEY", "DATADOG_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    versions.push.click()
    assert 'role="alert"' in said(desk) and "DD_API_KEY" in said(desk)


def test_a_failing_platform_is_a_message(desk, monkeypatch):
    def refuses(*_, **__):
        raise publishing.PlatformDown(f"no answer {SCRIPT}{IMAGE}")

    monkeypatch.setattr("vote_experiments.widgets.versions_tab.push_dataset", refuses)
    desk.versions.push.click()
    assert "PlatformDown" in harmless(said(desk)) and not desk.versions.push.disabled


def test_in_thai(drawn, tmp_path):
    store = Store(tmp_path / "store.db")
    save_dataset("stations", copy.deepcopy(drawn.records[:1]), root=drawn.folder, store=store)
    manager = DatasetManager(store, "th")
    assert manager.truth.save.description == "บันทึกเป็นรุ่นใหม่" and "บัตรดี" in manager.truth.form.counts[GOOD].description
    store.close()


def test_in_a_kernel_it_works_beside_the_loop(drawn, tmp_path):
    async def through():
        store = Store(tmp_path / "store.db")
        save_dataset("stations", copy.deepcopy(drawn.records[:1]), root=drawn.folder, store=store)
        manager = DatasetManager(store)
        assert manager.truth.head.value == ""
        await manager.truth._shown.reading.idle()
        manager.add.n.value, manager.add.kind.value = 1, "5/18"
        manager.add.draw.click()
        assert manager.add.draw.disabled and "Working" in said(manager)
        await manager.add._aside.idle()
        await asyncio.sleep(0.05)
        assert not manager.add.draw.disabled and manager.add.progress.value == 1
        store.close()
        return manager

    assert "has 1 items now" in said(asyncio.run(through()))


# -- in a browser


@pytest.fixture(scope="module")
def page(tmp_path_factory, request):
    "The page with a run and a dataset, open in Chromium"
    browser = request.getfixturevalue("chromium")
    pytest.importorskip("voila", reason="Voila is not installed")
    made = stations_with_a_run(tmp_path_factory.mktemp("page"))
    with (
        kept_port() as port,
        process(
            made.folder, BIN / "vote-experiments", "ui", "--no-browser", "--port", port, "--store", made.path
        ) as server,
    ):
        address = wait_for(
            lambda: re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", server.log.read_text()), server.log.read_text
        )[0]
        wait_for(lambda: _answers(address), server.log.read_text)
        page = opened(browser, address, 1600)
        page.made = made
        yield page
        page.close()
    made.store.close()


def looked_at(page, name):
    "No control without a name, nothing faint, nothing wider than the window, at both widths; with pictures"
    for width in (1600, 1000):
        page.set_viewport_size({"width": width, "height": 1400})
        page.wait_for_timeout(250)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (
            f"{name} is wider than {width}"
        )
        assert page.evaluate(TOO_WIDE) == []
        page.screenshot(path=ARTIFACTS / f"{name}-{width}.png")
    assert page.evaluate(FAINT) == []
    assert page.evaluate(NAMELESS) == []
    page.set_viewport_size({"width": 1600, "height": 1400})


def open_tab(page, name):
    page.get_by_role("tab", name=name).first.click(timeout=120 * SECONDS)


@pytest.mark.browser
def test_a_known_wrong_field_is_marked_and_keys_go_through_the_records(page):
    open_tab(page, "Explore")
    page.wait_for_selector(".ve-record h3", timeout=120 * SECONDS)
    page.locator(".ve-sheet img").first.wait_for(timeout=60 * SECONDS)
    first = page.locator(".ve-record h3").first.inner_text()
    assert first == "b wrong"  # what got no response has an order of its own
    page.locator(".ve-go [role=slider]").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.ve-record h3').innerText != 'b wrong'")
    page.get_by_role("button", name="More filters").first.click()
    page.get_by_label("Item id contains").first.fill("wrong")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('.ve-record h3').innerText == 'b wrong'")
    page.get_by_label("Item id contains").first.fill("")
    page.keyboard.press("Enter")
    page.locator(".ve-grid-box tbody tr", has_text="c gone").first.wait_for()
    page.locator(
        ".ve-grid-box tbody tr", has_text="c gone"
    ).first.click()  # a table that was filled again still reports
    page.wait_for_function("document.querySelector('.ve-record h3').innerText == 'c gone'")
    page.locator(".ve-grid-box tbody tr", has_text="b wrong").first.click()
    page.wait_for_function("document.querySelector('.ve-record h3').innerText == 'b wrong'")
    row = page.locator(".ve-compare tr.ve-off", has_text="Votes, no. 3")
    assert row.locator(".ve-diff").inner_text().split() == ["4,321", "differs"]
    page.wait_for_function("document.querySelectorAll('.ve-compare tr.ve-off').length == 2")
    looked_at(page, "records")
    assert page.evaluate("window.pwned") is None and not [
        u
        for u in page.asked
        if not u.startswith(("data:", "http://127.0.0.1", "ws://127.0.0.1", "blob:")) and "cdn" not in u
    ]


@pytest.mark.browser
def test_one_value_is_edited_in_the_browser_and_saved_as_a_version(page):
    open_tab(page, "Datasets")
    manager = page.locator(".ve", has=page.get_by_label("Your name"))
    manager.get_by_label("Your name").fill("Noi", timeout=120 * SECONDS)
    manager.locator(".ve-sheet img").first.wait_for(timeout=60 * SECONDS)
    field = manager.get_by_label("2.2.1 Good ballots").first
    before = field.input_value()
    field.fill("99999")
    manager.get_by_text("99999, not").or_(manager.get_by_text("99999 +")).first.wait_for()
    field.fill(str(int(before) - 7))
    manager.get_by_text("All checks pass").first.wait_for()
    looked_at(page, "datasets")
    manager.get_by_role("button", name="Save as a new version").click()
    manager.get_by_text("Version 2 is saved").first.wait_for(timeout=30 * SECONDS)
    manager.locator(".ve-diffs .ve-new").first.wait_for()
    assert manager.locator(".ve-diffs .ve-new").count() == 1
    store = page.made.store
    [changed] = diff_versions("stations", 1, 2, store).changed
    assert [(f.path, f.old - f.new) for f in changed.fields] == [(f"expected_output.{GOOD}", 7)]
    page.screenshot(path=ARTIFACTS / "datasets-saved-1600.png")
    assert page.evaluate("window.pwned") is None
