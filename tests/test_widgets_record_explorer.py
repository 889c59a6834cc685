"""The record explorer without a browser: every filter and every way it can go wrong; and the cards it is made of"""

import asyncio
import copy
import re
import threading

import pytest
import sqlalchemy as sa
from IPython.core.formatters import HTMLFormatter
from record_stations import IMAGE, SCRIPT, stations_with_a_run

import vote_experiments
from vote_experiments.analysis.comparison import compare
from vote_experiments.datasets.saving import delete_dataset, save_dataset
from vote_experiments.datasets.dataset import get_dataset
from vote_experiments.store.record_paths import record_places, record_tags, results_at
from vote_experiments.store.result_writer import Finished, ResultWriter
from vote_experiments.store.runs import create_experiment_row
from vote_experiments.experiments.result import experiment_result
from vote_experiments.store.database import Store
from vote_experiments.store.encoding import new_trace_id, now_us
from vote_experiments.widgets import open_runs
from vote_experiments.widgets.field_comparison import field_rows
from vote_experiments.widgets.open_runs import run_choices, run_ids
from vote_experiments.widgets.record_explorer import RecordExplorer
from vote_experiments.records import DatasetItem, Evaluation, ItemError, ItemResult
from vote_experiments.forms.schema import Report, parse_reports


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    made = stations_with_a_run(tmp_path_factory.mktemp("explorer"))
    yield made
    made.store.close()


@pytest.fixture
def explorer(ran):
    return RecordExplorer(ran.group, ran.store)


def displayed(value):
    "What a notebook shows for a value at the end of a cell"
    html = HTMLFormatter()
    vote_experiments._register_displays(html)
    return html(value)


def shown_ids(explorer):
    return [p.item_id for p in explorer.shown_places]


def go_to(explorer, beginning):
    explorer.at.value = 1 + next(i for i, p in enumerate(explorer.shown_places) if p.item_id.startswith(beginning))
    return explorer


def harmless(html):
    assert "<script" not in html and "<img src=x" not in html
    return html


# -- places in the database


def test_places_are_what_reading_everything_would_find(store):
    ids = [create_experiment_row(store, n, n) for n in ("a", "b")]
    with ResultWriter(store) as writer:
        for k, e in enumerate(ids):
            for repeat in range(2):
                for i in range(30):
                    item = DatasetItem(
                        f"f{i:02}",
                        {"n": i},
                        {},
                        {"level": "poor" if i % 2 else "clean", "difficulties": ["stamps", "fold"][: i % 3]},
                    )
                    failed = ItemError("OSError", "x") if (i + k) % 10 == 9 else None
                    values = (
                        []
                        if failed
                        else [
                            Evaluation("exact_form_match", i % 2 == 0),
                            Evaluation("ballot_accuracy_score", i / 30),
                            Evaluation("vote_results_quality", None if i == 3 else 0.5 * k),
                            Evaluation("note", "text"),
                        ]
                    )
                    writer.add(
                        Finished(
                            ItemResult(
                                item,
                                None if failed else i,
                                values,
                                failed,
                                new_trace_id(),
                                e,
                                position=i if k == 0 else 29 - i,
                                repeat=repeat,
                                status="failed" if failed else "ok",
                            ),
                            now_us(),
                            now_us(),
                        )
                    )
    weights = {"exact_form_match": 0.2, "ballot_accuracy_score": 0.4, "vote_results_quality": 0.4}
    from vote_experiments.scoring.summary import item_accuracy

    places = {p.item_id: p for p in record_places(store, ids, weights)}
    assert len(places) == 30
    for p in places.values():
        its = [r for results in results_at(store, ids, p).values() for r in results]
        assert len(its) == 4 and {r.item.id for r in its} == {p.item_id} and p.n_repeats == 2
        values = [item_accuracy(r.scores, r.status == "failed") for r in its]
        assert p.score == pytest.approx(sum(values) / 4) and p.spread == pytest.approx(max(values) - min(values))
        assert p.n_failed == sum(r.status == "failed" for r in its)
    assert {k: len(v) for k, v in record_tags(store, ids).items()} == {
        ("level", "clean"): 15,
        ("level", "poor"): 15,
        ("difficulty", "stamps"): 20,
        ("difficulty", "fold"): 10,
    }


def test_metadata_that_is_no_list_of_difficulties_makes_no_tags(store):
    experiment = create_experiment_row(store, "a", "a")
    with ResultWriter(store) as writer:
        for i, metadata in enumerate((None, {}, {"difficulties": None}, {"difficulties": []}, {"level": None})):
            writer.add(
                Finished(
                    ItemResult(
                        DatasetItem(f"f{i}", 1, 1, metadata), 1, [], None, new_trace_id(), experiment, position=i
                    ),
                    now_us(),
                    now_us(),
                )
            )
    assert record_tags(store, [experiment]) == {}
    assert [p.score for p in record_places(store, [experiment], {"x": 1.0})] == [None] * 5


def test_what_names_a_run(ran):
    ids = run_ids(ran.group, ran.store)
    assert len(ids) == 2 and run_ids(ran.result, ran.store) == ids
    assert run_ids([experiment_result(i, ran.store) for i in ids], ran.store) == ids
    with pytest.raises(TypeError, match="int is no run"):
        run_ids(3, ran.store)


# -- fields side by side


def test_each_way_to_be_wrong_has_its_word():
    truth = parse_reports(
        {
            "form_info": {"form_type": "Constituency"},
            "ballot_statistics": {"good_ballots": 5, "bad_ballots": 1},
            "vote_results": [{"number": 1, "vote_count": 3}, {"number": 2, "vote_count": 0}],
        }
    )[0]
    answer = parse_reports(
        {
            "form_info": {"form_type": "Constituency"},
            "ballot_statistics": {"good_ballots": 6, "bad_ballots": 1},
            "vote_results": [{"number": 1, "vote_count": None}, {"number": 3, "vote_count": 7}],
        }
    )[0]
    words = {r.path: r.answers["m"][1] for r in field_rows(truth, {"m": answer})}
    assert words["ballot_statistics.good_ballots"] == "differs" and words["ballot_statistics.bad_ballots"] == "same"
    assert (
        words["vote_results[number=1].vote_count"] == "missing"
        and words["vote_results[number=2].vote_count"] == "missing"
    )
    assert words["vote_results[number=3].vote_count"] == "invented"
    assert all(r.n_off == 0 for r in field_rows(truth, {"m": truth})) and field_rows(Report(), {}) == []


# -- the widget


def test_it_opens_on_the_worst_record_of_the_newest_run(ran):
    explorer = RecordExplorer(store=ran.store)
    assert ran.group in explorer.run.label and shown_ids(explorer)[0] == "b wrong" and len(explorer.shown_places) == 4
    assert "b wrong" in explorer.head.value and explorer.said.value == ""


def test_a_known_wrong_field_is_marked_in_a_word(explorer):
    html = harmless(go_to(explorer, "b").answers.value)
    rows = [r for r in html.split("<tr")[2:] if "ve-off" in r]
    assert len(rows) == 2
    votes = next(r for r in rows if "4,321" in r)
    assert "Votes, no. 3" in votes and '<span class="ve-diff">4,321<small>differs</small></span>' in votes
    assert votes.count("ve-diff") == 1, "only the model that is wrong is marked"
    assert "window.pwned" in html and IMAGE not in html
    assert "Every" not in html and "2 fields differ" in html


def test_all_fields_are_shown_when_asked(explorer):
    few = go_to(explorer, "b").answers.value.count("<tr")
    explorer.only.value = False
    assert explorer.answers.value.count("<tr") > few + 20 and "ve-same" in explorer.answers.value


def test_a_failed_model_says_why_and_harms_nobody(explorer):
    html = harmless(go_to(explorer, "c").answers.value)
    assert (
        "ocr-words" in html
        and "TimeoutError: no answer in 60 s &lt;script&gt;" in html
        and "Failed" in explorer.head.value
    )


def test_a_page_that_is_gone_is_a_sentence(explorer):
    go_to(explorer, "c")
    explorer.viewer.page.value = 2
    assert "Page 2 cannot be shown" in explorer.viewer.picture.value and "deleted.jpg" in explorer.viewer.picture.value
    explorer.viewer.page.value = 1
    assert 'alt="page 1 of c gone"' in explorer.viewer.picture.value


def test_an_item_with_two_reports_has_a_table_for_each_and_a_hostile_name(explorer):
    html = harmless(go_to(explorer, "d").answers.value)
    assert html.count("<caption>") == 2 and "Party list" in html
    assert SCRIPT not in harmless(explorer.head.value) and "&lt;script&gt;" in explorer.head.value
    harmless(explorer.viewer.picture.value)


def test_checks_are_beside_each_other(explorer):
    go_to(explorer, "a")
    assert explorer.checks.value.count('class="is-fail"') == 3, (
        "the wrong label fails two sums, and its words say another number"
    )
    assert "good + bad + no vote" in explorer.checks.value and ">pass<" in explorer.checks.value


@pytest.mark.parametrize(
    "order, first", [("worst", "b wrong"), ("failed", "c gone"), ("data", "a right"), ("disagree", "b wrong")]
)
def test_orders(explorer, order, first):
    explorer.order.value = order
    assert shown_ids(explorer)[0] == first and first in explorer.head.value and explorer.at.value == 1


def test_a_model_that_fails_does_not_fill_the_top_and_has_its_own_worst(explorer):
    labels = explorer.source.records.table.models
    explorer.model.value = labels[1]
    assert shown_ids(explorer)[0] == "b wrong" and shown_ids(explorer)[-1] == "c gone", (
        "what it failed says nothing about the form"
    )
    explorer.order.value = "failed"
    assert shown_ids(explorer) == ["c gone"]
    explorer.model.value = labels[0]
    assert shown_ids(explorer) == [] and "No record fits" in explorer.said.value


def test_filters_by_field_and_by_one_right_and_one_wrong(explorer):
    first, second = explorer.source.records.table.models
    explorer.filters.right.value, explorer.filters.wrong.value = first, second
    assert "b wrong" in shown_ids(explorer) and "a right" not in shown_ids(explorer)
    explorer.filters.right.value, explorer.filters.wrong.value = second, first
    assert "b wrong" not in shown_ids(explorer)
    explorer.filters.right.value = explorer.filters.wrong.value = None
    votes = next(path for _, path in explorer.filters.field.options if path and path.endswith("[number=3].vote_count"))
    explorer.filters.field.value = votes
    assert shown_ids(explorer) == ["b wrong"] and explorer.view.path == votes


def test_the_table_has_what_is_shown_and_a_row_leads_to_its_item(explorer):
    frame = explorer.grid.table.df
    assert list(frame.iloc[:, 0]) == [i for i in shown_ids(explorer)] and len(explorer.grid.index) == 4
    explorer.grid.table.selected_rows = [2]
    assert explorer.at.value == 3 and shown_ids(explorer)[2] in explorer.view.record.item.id
    explorer.step(-1)
    assert explorer.grid.table.selected_rows == [1]


def test_keys_hide_models_and_links(explorer):
    before = explorer.viewer.zoom.value
    for count, name in enumerate(("next", "zoom_in", "help", "differences")):
        explorer.events.event = {"kind": "key", "value": name, "count": count}
    assert explorer.at.value == 2 and explorer.viewer.zoom.value == before + 50 and not explorer.only.value
    assert "ve-hidden" not in explorer.help._dom_classes
    item = explorer.view.record.item.id
    assert f"item={item}" in explorer.events.link
    explorer.view.models.children[0].value = False
    assert explorer.view.hidden and explorer.view.hidden[0] not in explorer.answers.value
    explorer.events.event = {"kind": "link", "value": "item=b wrong&field=form_info.province", "count": 9}
    assert explorer.view.record.item.id == "b wrong" and explorer.view.path == "form_info.province"
    explorer.events.event = {"kind": "field", "value": "x'] {} </style><script>", "count": 10}
    assert explorer.view.path is None and "<script" not in explorer.view._style.value


def test_filters_by_difficulty_and_name(explorer):
    label, tag = next((label, value) for label, value in explorer.tag.options if value and value[0] == "difficulty")
    explorer.tag.value = tag
    assert set(shown_ids(explorer)) == {"b wrong"} and label.endswith("(1)")
    explorer.tag.value = None
    explorer.find.value = "GON"
    assert shown_ids(explorer) == ["c gone"] and explorer.next.disabled and explorer.previous.disabled
    explorer.find.value = "nowhere"
    assert "No record fits" in explorer.said.value and "ve-hidden" in explorer._side._dom_classes
    explorer.find.value = ""
    assert (
        len(shown_ids(explorer)) == 4 and "ve-hidden" not in explorer._side._dom_classes and explorer.said.value == ""
    )


def test_next_and_previous_stop_at_the_ends(explorer):
    for _ in range(6):
        explorer.next.click()
    assert explorer.at.value == 4 and explorer.next.disabled and "4 of 4" in explorer.place.value
    explorer.previous.click()
    assert (
        explorer.at.value == 3
        and not explorer.next.disabled
        and shown_ids(explorer)[2] in explorer.head.value.replace("&lt;", "<").replace("&gt;", ">")
    )


def test_another_score_orders_anew(explorer):
    assert [s for _, s in explorer.score.options][0] == "overall_accuracy"
    explorer.score.value = "exact_form_match"
    assert explorer.shown_places[0].score == 0.5 and 'aria-label="Header exact"' in explorer.head.value


def test_another_run_is_opened(ran):
    explorer = RecordExplorer(ran.result, ran.store)
    assert explorer.run.value == "given"
    explorer.run.value = ran.group
    assert shown_ids(explorer)[0] == "b wrong"


@pytest.mark.parametrize("language, words", [("en", "Only fields that differ"), ("th", "เฉพาะช่องที่ต่างกัน")])
def test_it_speaks_both_languages(ran, language, words):
    explorer = RecordExplorer(ran.group, ran.store, language)
    assert explorer.only.description == words
    go_to(explorer, "b")
    assert ("ต่าง" in explorer.answers.value) == (language == "th")
    with pytest.raises(ValueError, match="language='fr'"):
        RecordExplorer(ran.group, ran.store, "fr")


def test_no_run_yet_is_said_kindly(tmp_path):
    explorer = RecordExplorer(store=tmp_path / "new.db")
    assert "There is no run in this store yet" in explorer.said.value and "ve-hidden" in explorer._side._dom_classes


def test_a_run_that_is_not_there_is_an_error_in_the_widget(ran):
    explorer = RecordExplorer("grp_nothing", ran.store)
    assert 'role="alert"' in explorer.said.value and "RunNotFoundError" in explorer.said.value


def test_answers_that_are_no_reports_and_repeats(tmp_path):
    store = Store(tmp_path / "store.db")
    experiment = create_experiment_row(store, "plain", "plain")
    with ResultWriter(store) as writer:
        for repeat in range(2):
            for i, expected in enumerate(("yes", None)):
                writer.add(
                    Finished(
                        ItemResult(
                            DatasetItem(f"q{i}", {"n": i}, expected),
                            f"answer {repeat} {SCRIPT}",
                            [Evaluation("ok", repeat == 1)],
                            None,
                            new_trace_id(),
                            experiment,
                            position=i,
                            repeat=repeat,
                        ),
                        now_us(),
                        now_us(),
                    )
                )
    explorer = RecordExplorer(experiment, store)
    assert "answer 0" in harmless(explorer.answers.value) and len(explorer.repeat.options) == 2
    explorer.repeat.value = 1
    assert "answer 1" in explorer.answers.value and "no page images" in explorer.viewer.picture.value
    go_to(explorer, "q1")
    assert "no ground truth" in explorer.answers.value
    store.close()


def test_a_dataset_deleted_since_and_a_run_deleted_meanwhile(tmp_path):
    made = stations_with_a_run(tmp_path)
    explorer = RecordExplorer(made.group, made.store)
    delete_dataset("stations", force=True, store=made.store)
    explorer.step(1)
    assert explorer.said.value == "" and "no page" not in explorer.viewer.picture.value
    with made.store.write() as c:
        c.execute(sa.text("DELETE FROM item_results"))
    explorer.step(1)
    assert "LookupError" in explorer.said.value and "may have been deleted" in explorer.said.value
    made.store.close()


def test_in_a_kernel_it_works_beside_the_loop(ran):
    async def through():
        explorer = RecordExplorer(ran.group, ran.store)
        assert explorer.places == {}, "nothing was waited for"
        await explorer.opening.idle()
        await explorer.reading.idle()
        for _ in range(3):
            explorer.step(1)  # as a key that is held down
        await explorer.reading.idle()
        return explorer

    explorer = asyncio.run(through())
    assert (
        explorer.at.value == 4 and explorer.shown_places[3].item_id[:1] in re.search(r"<h3>(.)", explorer.head.value)[1]
    )


# -- requested while something else is under way


@pytest.fixture
def two_runs(tmp_path):
    "A store with two runs over items of their own, the first of another level"
    store = Store(tmp_path / "store.db")
    for name, level in (("first", "poor"), ("second", "clean")):
        experiment = create_experiment_row(store, name, name)
        with ResultWriter(store) as writer:
            for i in range(3):
                item = DatasetItem(f"{name} {i}", {"n": i}, "yes", {"level": level})
                writer.add(
                    Finished(
                        ItemResult(
                            item,
                            "long " * 100,
                            [Evaluation("ok", i == 1), Evaluation("sure", i / 2)],
                            None,
                            new_trace_id(),
                            experiment,
                            position=i,
                        ),
                        now_us(),
                        now_us(),
                    )
                )
    yield store, *(i for name in ("first", "second") for label, i in run_choices(store) if f"· {name} ·" in label)
    store.close()


async def waited_for(explorer):
    for aside in (explorer.opening, explorer.reading, explorer.source.counting):
        await aside.idle()
    return explorer


def test_a_score_chosen_while_another_run_opens_judges_that_run(two_runs):
    store, first, second = two_runs

    async def through():
        explorer = await waited_for(RecordExplorer(first, store))
        explorer.run.value = second
        explorer.score.value = "sure"
        return await waited_for(explorer)

    explorer = asyncio.run(through())
    assert (
        shown_ids(explorer) == ["second 0", "second 1", "second 2"]
        and explorer.score.value == "sure"
        and explorer.run.value == second
    )


def test_a_record_that_arrives_when_it_is_filtered_away_leaves_the_reason_alone(two_runs):
    async def through():
        explorer = await waited_for(RecordExplorer(two_runs[1], two_runs[0]))
        explorer.step(1)
        explorer.find.value = "nowhere"
        return await waited_for(explorer)

    assert "No record fits" in asyncio.run(through()).said.value


def test_difficulties_of_the_run_before_do_not_come_late(two_runs, monkeypatch):
    store, first, second = two_runs
    is_left, is_late, real = threading.Event(), threading.Event(), open_runs.record_tags

    def slow_for_the_first(store, ids):
        assert ids != [first] or is_left.wait(20)
        found = real(store, ids)
        if ids == [first]:
            is_late.set()
        return found

    monkeypatch.setattr(open_runs, "record_tags", slow_for_the_first)

    async def through():
        explorer = RecordExplorer(first, store)
        await explorer.opening.idle()
        explorer.run.value = second
        await explorer.opening.idle()
        await asyncio.sleep(0.1)
        is_left.set()
        assert await asyncio.to_thread(is_late.wait, 20)
        await asyncio.sleep(0.1)
        return await waited_for(explorer)

    assert list(asyncio.run(through()).tags) == [("level", "clean")]


def test_answers_that_are_no_reports_are_shown_whole(two_runs):
    assert "long " * 99 in RecordExplorer(two_runs[1], two_runs[0]).answers.value


# -- cards


def test_cards_are_small_escaped_and_made_when_asked(ran):
    dataset = get_dataset("stations", store=ran.store)
    for shown in (
        dataset,
        dataset[0],
        dataset[2],
        dataset[3],
        experiment_result(run_ids(ran.group, ran.store)[1], ran.store),
    ):
        html = harmless(displayed(shown))
        assert "ve-item" in html and len(html) < 80_000
    assert "deleted.jpg" in displayed(dataset[2]) and "does not exist" in displayed(dataset[2])
    assert "data:image/jpeg" in displayed(dataset[0]) and ">fail<" in displayed(dataset[0])
    assert "1 failed" in experiment_result(run_ids(ran.group, ran.store)[1], ran.store)._repr_html_()


def test_a_comparison_with_hostile_names_is_harmless():
    found = compare([{"experiment": e, "item_id": i, "value": (i % 3) / 2} for e in (SCRIPT, IMAGE) for i in range(9)])
    harmless(found._repr_html_())
    assert SCRIPT not in found._repr_markdown_()


def test_a_dataset_of_anything_has_a_card(sqlite_store):
    odd = [
        {"id": "n", "input": None},
        {"id": "t", "input": "text", "expected_output": "[1, 2"},
        {
            "id": "l",
            "input": {"image_paths": "x.jpg"},
            "expected_output": {"form_info": {"province": 3}},
            "metadata": {"difficulties": "all", "level": 4},
        },
    ]
    saved = save_dataset("odd", copy.deepcopy(odd), description=SCRIPT, store=sqlite_store)
    harmless(displayed(saved))
    for item in saved:
        harmless(displayed(item))


def test_where_there_is_no_truth_the_readings_stand_side_by_side(sqlite_store):
    def report(votes, name="นาย ก"):
        return {
            "form_info": {"form_type": "Constituency", "province": "ขอนแก่น"},
            "voter_statistics": {"eligible_voters": 480},
            "ballot_statistics": {"good_ballots": 290},
            "vote_results": [{"number": 1, "candidate_name": name, "vote_count": votes}],
        }

    e = [create_experiment_row(sqlite_store, n, n) for n in ("careful", "hasty", "silent")]
    with ResultWriter(sqlite_store) as writer:
        for i, output in zip(e, ({"reports": [report(200, SCRIPT)]}, {"reports": [report(201, SCRIPT)]}, "no idea")):
            writer.add(
                Finished(
                    ItemResult(DatasetItem("f", {"n": 1}), output, trace_id=new_trace_id(), experiment_id=i),
                    now_us(),
                    now_us(),
                )
            )
    explorer = RecordExplorer(e, sqlite_store)
    seen = harmless(explorer.view.answers.value)
    assert (
        "200" in seen and "201" in seen and "290" not in seen and "no ground truth" in seen and "form_info" not in seen
    )
    alone = RecordExplorer(e[:1], sqlite_store)
    assert "290" in harmless(alone.view.answers.value) and "480" in alone.view.answers.value
