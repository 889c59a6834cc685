"""Who set a value of the ground truth, a second reader next to the first, and the queue of what needs a look"""

import copy
import json

import pytest
import sqlalchemy as sa
from hypothesis import given, strategies as st

from vote_experiments.datasets import ground_truth as g
from vote_experiments.datasets import review_flags as dataset_review_flags
from vote_experiments.datasets import second_readings
from vote_experiments.datasets import truth_origins
from vote_experiments.datasets import truth_values
from vote_experiments.datasets.saving import DatasetChangedError, save_dataset
from vote_experiments.datasets.dataset import DatasetNotFoundError, get_dataset
from vote_experiments.datasets.changes import diff_versions
from vote_experiments.store.database import RowInsert
from vote_experiments.store.tables import dataset_items, observations, traces
from vote_experiments.compat.variants import dataset_from_traces
from vote_experiments.forms.schema import read_reports
from vote_experiments.synthesis.reports import draft_report
from vote_experiments.scoring.suspect_labels import SuspectLabel

TRUTH = {
    "form_info": {
        "form_type": "Constituency",
        "date": "2566-05-14",
        "province": "แพร่",
        "district": "สูงเม่น",
        "sub_district": "หัวฝาย",
        "constituency_number": "1",
        "polling_station_number": "4",
    },
    "voter_statistics": {"eligible_voters": 620, "present_voters": 500},
    "ballot_statistics": {
        "ballots_allocated": 640,
        "ballots_used": 500,
        "good_ballots": {"arabic": 480, "thai_text": "สี่ร้อยแปดสิบ"},
        "bad_ballots": 15,
        "no_vote_ballots": 5,
        "ballots_remaining": 140,
    },
    "vote_results": [
        {
            "number": 1,
            "candidate_name": "นาย ก",
            "party_name": "ก้าวไกล",
            "vote_count": 300,
            "vote_count_text": "สามร้อย",
        },
        {"number": 2, "candidate_name": "นาง ข", "party_name": "เพื่อไทย", "vote_count": "180", "vote_count_text": None},
    ],
}
GOOD = "ballot_statistics.good_ballots"
SCRIPT = "<script>window.pwned=1</script>"


@pytest.fixture
def stations(store):
    "A store with three items, imported"
    save_dataset(
        "stations",
        [{"id": f"s{i}", "input": {"n": i}, "ground_truth": copy.deepcopy(TRUTH)} for i in range(3)],
        store=store,
        provenance={"imported_from": "/scans/stations.json"},
    )
    return store


# -- changing values


@pytest.mark.parametrize(
    "wrap",
    [lambda t: t, lambda t: [t], lambda t: {"reports": [t]}, lambda t: {"success": True, "data": [t]}],
    ids=["bare", "list", "reports", "success"],
)
@pytest.mark.parametrize("path", list(truth_values.truth_values(TRUTH)))
def test_one_value_changes_and_nothing_else(wrap, path):
    truth = wrap(TRUTH)
    before = json.dumps(truth, sort_keys=True)
    old = truth_values.truth_values(truth)
    value = {
        "form_info.form_type": "PartyList",
        "form_info.form_code": "5/17 (บช)",
        "form_info.date": "1999-01-02",
    }.get(path, "77")
    new = truth_values.truth_values(changed := truth_values.with_values(truth, {path: value}))
    assert {k for k in {*old, *new} if old.get(k) != new.get(k)} == {path}
    assert json.dumps(truth, sort_keys=True) == before, "the original was changed"
    assert truth_values.truth_values(truth_values.with_values(changed, {path: old[path]})) == old


@given(st.integers(0, 5000), st.data())
def test_what_is_written_back_leaves_the_ground_truth_as_it_was(seed, data):
    truth = draft_report(seed % 20, "Constituency" if seed % 2 else "PartyList").report
    values = truth_values.truth_values(truth)
    some = data.draw(st.lists(st.sampled_from(sorted(values)), unique=True, max_size=5))
    assert truth_values.truth_values(truth_values.with_values(truth, {k: values[k] for k in some})) == values


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_any_json_has_values_that_can_be_changed(truth):
    for path in truth_values.truth_values(truth):
        assert truth_values.truth_values(truth_values.with_values(truth, {path: "new"}))[path] == "new"


def test_a_ground_truth_that_is_json_text_can_be_corrected():
    changed = truth_values.with_values(json.dumps(TRUTH), {GOOD: "๔๗๙"})
    assert changed["ballot_statistics"]["good_ballots"] == {"arabic": 479, "thai_text": "สี่ร้อยแปดสิบ"}


@pytest.mark.parametrize(
    "path, value, words",
    [
        (GOOD, "48o", "48o"),
        ("ballot_statistics.nothing", 1, "no value of this name"),
        ("reports[3].notes", "x", "there are 1 reports"),
        ("vote_results[number=7].vote_count", 1, "no row number=7"),
        ("form.x.y", 1, "no part 'form.x'"),
        ("form_info.form_type", "Senate", "form_type"),
    ],
)
def test_a_bad_correction_is_refused_in_words(path, value, words):
    with pytest.raises(ValueError, match=words.replace("[", r"\[")):
        truth_values.with_values(TRUTH, {path: value})


def test_a_value_that_could_not_be_read_before_does_not_forbid_correcting_another():
    truth = copy.deepcopy(TRUTH)
    truth["ballot_statistics"]["bad_ballots"] = "l5"
    assert truth_values.truth_values(truth_values.with_values(truth, {GOOD: 479}))[GOOD] == 479
    assert (
        truth_values.truth_values(truth_values.with_values(truth, {"ballot_statistics.bad_ballots": 15}))[
            "ballot_statistics.bad_ballots"
        ]
        == 15
    )


# -- who


def test_an_import_notes_who_without_a_row_per_value(stations):
    origins = truth_origins.value_origins("stations", "s1", store=stations)
    assert set(origins) == {k for k, v in truth_values.truth_values(TRUTH).items() if v is not None}
    assert {(o.kind, o.name, o.reason, o.version, o.is_first) for o in origins.values()} == {
        ("import", "stations.json", "imported", 1, True)
    }
    with stations.read() as c:
        assert c.scalars(sa.select(dataset_items.c.provenance).distinct()).all() == [None]


def test_a_correction_keeps_who_when_and_what_was_there_across_versions(stations):
    saved = g.correct_truth("stations", {"s1": {GOOD: 479}}, "Noi", note="struck out", store=stations)
    g.correct_truth(
        "stations",
        {"s1": {"ballot_statistics.bad_ballots": 16}, "s2": {GOOD: 481}},
        "model:ocr-fused",
        reason="accepted",
        store=stations,
    )
    origins = truth_origins.value_origins("stations", "s1", store=stations)
    noi = origins[GOOD]
    assert (noi.kind, noi.name, noi.old, noi.value, noi.version, noi.note) == (
        "person",
        "Noi",
        480,
        479,
        2,
        "struck out",
    )
    assert noi.at == saved.version_created_at and not noi.is_first
    assert str(origins["ballot_statistics.bad_ballots"].author) == "model ocr-fused"
    assert str(origins["form_info.province"].author) == "import stations.json"
    assert [d.fields[0].path for d in diff_versions("stations", 1, 2, stations).changed] == [
        "expected_output.ballot_statistics.good_ballots.arabic"
    ]
    save_dataset(
        "stations",
        [{"id": "s1", "input": {"n": 1}, "ground_truth": TRUTH}],
        store=stations,
        provenance={"imported_from": "new.json"},
    )
    assert [(o.value, o.name) for o in truth_origins.value_history("stations", "s1", GOOD, store=stations)] == [
        (480, "stations.json"),
        (479, "Noi"),
        (480, "new.json"),
    ]
    assert truth_origins.value_origins("stations", "s1", 2, stations)[GOOD].name == "Noi"


def test_a_change_of_other_things_leaves_the_author_of_a_value(stations):
    g.correct_truth("stations", {"s1": {GOOD: 479}}, "Noi", store=stations)
    item = get_dataset("stations", store=stations).item("s1")
    item.metadata = {"level": "poor"}
    save_dataset("stations", [item], store=stations, provenance={"imported_from": "levels.json"})
    assert truth_origins.value_origins("stations", "s1", store=stations)[GOOD].name == "Noi"


def test_what_somebody_else_changed_is_not_overwritten(stations):
    g.correct_truth("stations", {"s1": {GOOD: 479}}, "Noi", base_version=1, store=stations)
    g.correct_truth("stations", {"s2": {GOOD: 479}}, "Lek", base_version=1, store=stations)  # another item
    with pytest.raises(DatasetChangedError, match="'s1' was changed in version 2, after version 1"):
        g.correct_truth("stations", {"s0": {GOOD: 1}, "s1": {GOOD: 478}}, "Lek", base_version=1, store=stations)
    assert get_dataset("stations", store=stations).version == 3, "nothing of a refused change is kept"


def test_a_model_answer_that_became_ground_truth_says_so(store):
    with store.write() as c:
        RowInsert(traces, ("id", "timestamp", "name", "input", "output"), store.dialect)(
            c, [("t" * 32, 1, "x", '{"n":1}', json.dumps(TRUTH))]
        )
        RowInsert(observations, ("id", "trace_id", "type", "start_time", "model", "model_version"), store.dialect)(
            c, [("o" * 16, "t" * 32, "GENERATION", 1, "gemini-2.5-flash", "gemini-2.5-flash-002")]
        )
    golden = dataset_from_traces("golden", store=store)
    origin = truth_origins.value_origins("golden", golden[0].id, store=store)[GOOD]
    assert (origin.kind, origin.name) == ("model", "gemini-2.5-flash-002")


@pytest.mark.parametrize("by", ["", " ", None, 3, "x" * 201])
def test_nobody_cannot_set_a_value(stations, by):
    with pytest.raises(ValueError, match="say who"):
        g.correct_truth("stations", {"s1": {GOOD: 1}}, by, store=stations)


def test_what_is_not_there_is_named(stations):
    with pytest.raises(LookupError, match="'stations' version 1 has no item 's9'"):
        g.correct_truth("stations", {"s9": {GOOD: 1}}, "Noi", store=stations)
    with pytest.raises(LookupError, match="no item 's9'"):
        truth_origins.value_history("stations", "s9", store=stations)
    with pytest.raises(DatasetNotFoundError):
        g.review_queue("station", store=stations)
    with pytest.raises(LookupError, match="no item 's9'"):
        g.annotate("stations", "s9", TRUTH, "Lek", store=stations)


# -- a second reader


def second_reading(**changes):
    return truth_values.with_values(TRUTH, {k.replace("__", "."): v for k, v in changes.items()})


def test_a_second_reading_stands_beside_the_first_and_differences_are_listed(stations):
    found = g.annotate(
        "stations",
        "s1",
        second_reading(ballot_statistics__good_ballots=470, form_info__province="จังหวัดแพร่"),
        "Lek",
        store=stations,
    )
    assert [(d.path, d.truth, d.answers) for d in found] == [(GOOD, 480, {"Lek": 470})], (
        "a province with its title is the same province"
    )
    assert get_dataset("stations", store=stations).version == 1
    assert [(f.reason, f.item_id) for f in g.review_queue("stations", store=stations)] == [("disagreement", "s1")]
    g.annotate(
        "stations",
        "s1",
        second_reading(ballot_statistics__good_ballots=480),
        "Lek",
        note="looked again",
        store=stations,
    )
    assert second_readings.disagreements("stations", "s1", stations) == []
    assert [a.note for a in second_readings.list_annotations("stations", "s1", stations)] == ["looked again"], (
        "the newest of each counts"
    )
    assert g.queue_counts("stations", stations)["open"] == 0


def test_the_adjudicator_accepts_one_or_types_a_third_and_is_kept(stations):
    g.annotate(
        "stations",
        "s1",
        second_reading(ballot_statistics__good_ballots=470, ballot_statistics__bad_ballots=25),
        "Lek",
        store=stations,
    )
    g.annotate("stations", "s1", second_reading(ballot_statistics__good_ballots=471), "model:ocr-words", store=stations)
    done = g.adjudicate(
        "stations", "s1", {GOOD: "๔๗๒", "ballot_statistics.bad_ballots": 15}, "Daeng", note="page 2", store=stations
    )
    assert done.version == 2 and second_readings.disagreements("stations", "s1", stations) == []
    assert [
        (a.path, a.decided, a.answers, a.name, a.note) for a in g.list_adjudications("stations", "s1", stations)
    ] == [
        (GOOD, 472, {"ground truth": 480, "Lek": 470, "model ocr-words": 471}, "Daeng", "page 2"),
        ("ballot_statistics.bad_ballots", 15, {"ground truth": 15, "Lek": 25}, "Daeng", "page 2"),
    ]
    origin = truth_origins.value_origins("stations", "s1", store=stations)[GOOD]
    assert (origin.name, origin.reason, origin.old) == ("Daeng", "adjudicated", 480)
    assert [
        (f.state, f.closed_by) for f in g.review_queue("stations", None, reason="disagreement", store=stations)
    ] == [("resolved", "Daeng")]
    g.annotate("stations", "s1", second_reading(ballot_statistics__bad_ballots=25), "Noi", store=stations)
    assert "ballot_statistics.bad_ballots" in [
        d.path for d in second_readings.disagreements("stations", "s1", stations)
    ], "a new reader opens it again"


def test_a_decision_that_keeps_the_ground_truth_makes_no_version(stations):
    g.annotate("stations", "s1", second_reading(ballot_statistics__good_ballots=470), "Lek", store=stations)
    assert g.adjudicate("stations", "s1", {GOOD: 480}, "Daeng", store=stations).version == 1
    assert g.list_adjudications("stations", store=stations)[0].decided == 480
    assert g.queue_counts("stations", stations) == {"open": 0, "resolved": 1, "dismissed": 0}


def test_a_blank_reading_is_a_difference_and_a_bad_decision_is_refused(stations):
    g.annotate("stations", "s1", second_reading(ballot_statistics__good_ballots=""), "Lek", store=stations)
    assert second_readings.disagreements("stations", "s1", stations)[0].answers == {"Lek": None}
    with pytest.raises(ValueError, match="no one disagrees on it; open are ballot_statistics.good_ballots"):
        g.adjudicate("stations", "s1", {"form_info.province": "x"}, "Daeng", store=stations)
    with pytest.raises(ValueError, match="4x"):
        g.adjudicate("stations", "s1", {GOOD: "4x"}, "Daeng", store=stations)
    assert g.list_adjudications("stations", store=stations) == []


# -- what needs a look


def wrong(item_id, answered, fails=(), models=("a", "b")):
    return SuspectLabel(item_id, "Constituency", GOOD, 480, answered, models, 3, ("ballots_used",), tuple(fails))


def test_the_queue_is_worst_first_and_oldest_first(stations):
    dataset_review_flags.flag_item("stations", "s0", "look", "Noi", store=stations)
    dataset_review_flags.flag_item("stations", "s2", "look too", "Noi", store=stations)
    assert (
        dataset_review_flags.flag_suspects(
            "stations",
            [wrong("s1", 470), wrong("s2", 471, ["ballots_used"]), wrong("gone", 1)],
            "run grp_1",
            store=stations,
        )
        == 2
    )
    queue = g.review_queue("stations", store=stations)
    assert [(f.item_id, f.reason) for f in queue] == [
        ("s2", "suspect_label"),
        ("s1", "suspect_label"),
        ("s0", "by_hand"),
        ("s2", "by_hand"),
    ]
    assert queue[0].detail["answered"] == 471 and "480" in queue[0].message
    assert list(g.items_to_review("stations", store=stations).items()) == [("s2", 2), ("s1", 1), ("s0", 1)]
    assert [f.item_id for f in g.review_queue("stations", limit=1, offset=1, store=stations)] == ["s1"]


def test_a_correction_resolves_what_it_corrects(stations):
    broken = copy.deepcopy(TRUTH)
    broken["ballot_statistics"]["good_ballots"] = 470
    save_dataset("stations", [{"id": "s1", "input": {"n": 1}, "ground_truth": broken}], store=stations)
    assert dataset_review_flags.flag_failed_checks("stations", store=stations) == 1
    failed = g.review_queue("stations", reason="failed_check", store=stations)
    assert {f.path for f in failed} >= {"ballots_used", "votes_equal_good_ballots"}
    dataset_review_flags.flag_suspects("stations", [wrong("s1", 480)], store=stations)
    g.correct_truth("stations", {"s1": {"ballot_statistics.no_vote_ballots": 15}}, "Noi", store=stations)
    assert "suspect_label" in {f.reason for f in g.review_queue("stations", item_id="s1", store=stations)}, (
        "another value was corrected"
    )
    g.correct_truth("stations", {"s1": {GOOD: 480, "ballot_statistics.no_vote_ballots": 5}}, "Noi", store=stations)
    assert g.review_queue("stations", item_id="s1", store=stations) == []
    assert {f.closed_by for f in g.review_queue("stations", "resolved", store=stations)} == {"Noi"}


def test_what_was_dismissed_stays_dismissed_until_it_says_something_else(stations):
    dataset_review_flags.flag_suspects("stations", [wrong("s1", 470)], store=stations)
    g.close_flag(
        g.review_queue("stations", store=stations)[0].id, "dismissed", "Noi", note="it says 480", store=stations
    )
    dataset_review_flags.flag_suspects("stations", [wrong("s1", 470)], store=stations)
    assert g.review_queue("stations", store=stations) == []
    dataset_review_flags.flag_suspects("stations", [wrong("s1", 490)], store=stations)
    [again] = g.review_queue("stations", store=stations)
    assert again.closed_by is None and again.note is None


def test_flags_of_a_second_report_say_which(store):
    both = [TRUTH, truth_values.with_values(TRUTH, {"form_info.form_type": "PartyList", GOOD: 470})]
    save_dataset("pairs", [{"id": "p", "input": 1, "ground_truth": both}], store=store)
    assert dataset_review_flags.flag_failed_checks("pairs", store=store) == 1
    assert all(f.path.startswith("reports[1].") for f in g.review_queue("pairs", store=store) if "ballots" in f.path)
    dataset_review_flags.flag_suspects(
        "pairs", [SuspectLabel("p", "PartyList", GOOD, 470, 480, ("a", "b"), 2, (), ())], store=store
    )
    assert g.review_queue("pairs", reason="suspect_label", store=store)[0].path == f"reports[1].{GOOD}"


def test_items_without_a_report_have_nothing_to_check(store):
    save_dataset("plain", [{"id": "a", "input": 1, "ground_truth": "yes"}, {"id": "b", "input": 2}], store=store)
    assert dataset_review_flags.flag_failed_checks("plain", store=store) == 0


def test_hostile_names_and_texts_are_kept_as_they_are(stations):
    dataset_review_flags.flag_item("stations", "s0", f"{SCRIPT}\0 %s ' \"", SCRIPT, store=stations)
    [flag] = g.review_queue("stations", store=stations)
    assert flag.message.startswith(SCRIPT) and flag.name == SCRIPT


def test_deleting_a_dataset_takes_its_annotations_along(stations):
    from vote_experiments.datasets.saving import delete_dataset

    g.annotate("stations", "s1", second_reading(ballot_statistics__good_ballots=1), "Lek", store=stations)
    delete_dataset("stations", store=stations)
    with stations.read() as c:
        assert c.execute(
            sa.text("SELECT (SELECT count(*) FROM annotations), (SELECT count(*) FROM review_flags)")
        ).one() == (0, 0)


def test_readings_are_not_changed_by_reading_them(stations):
    item = get_dataset("stations", store=stations).item("s1")
    before = json.dumps(item.expected_output, sort_keys=True)
    truth_values.truth_values(item.expected_output)
    assert json.dumps(item.expected_output, sort_keys=True) == before and read_reports(item.expected_output)[1] == []
