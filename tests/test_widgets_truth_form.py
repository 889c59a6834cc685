"""The form of a ground truth without a browser; the dataset manager's tests use it as a person does"""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vote_experiments.datasets.truth_values import truth_values
from vote_experiments.synthesis.reports import draft_report
from vote_experiments.widgets.report_fields import ROWS_SHOWN, Entries
from vote_experiments.widgets.truth_draft import Draft
from vote_experiments.widgets.truth_form import TruthForm

GOOD = "ballot_statistics.good_ballots"
LONG = draft_report(4, "PartyList").report


def fields_of(form):
    return [
        *form.header.values(),
        *form.counts.values(),
        *form.other.values(),
        *(cell for _, cells in form.rows for cell in cells.values()),
    ]


def test_json_that_was_wrong_for_one_item_is_not_marked_wrong_for_the_next():
    form = TruthForm()
    form.load(Draft({"answer": 4}))
    form.json.value = '{"answer": '
    assert "ve-wrong" in form.json._dom_classes and "not JSON yet" in form.checks.value
    form.load(Draft({"answer": 6}))
    assert "ve-wrong" not in form.json._dom_classes and form.checks.value == '<div aria-live="polite"></div>'
    assert json.loads(form.json.value) == {"answer": 6}


def test_a_report_edited_as_json_comes_back_into_the_fields():
    form, changes = TruthForm(on_change=lambda: changes.append(form.draft.is_changed)), []
    form.load(Draft(LONG))
    form.as_json.value = True
    form.json.value = json.dumps({**LONG, "ballot_statistics": {**LONG["ballot_statistics"], "good_ballots": 7}})
    form.as_json.value = False
    assert form.counts[GOOD].value == "7" and changes == [True]
    assert form.draft.changes()[""]["ballot_statistics"]["good_ballots"] == 7


@pytest.mark.parametrize("is_blind", [False, True])
def test_showing_a_draft_changes_nothing(is_blind):
    changes = []
    form = TruthForm(on_change=lambda: changes.append(1))
    form.load(Draft(LONG), is_blind=is_blind)
    form.later.click(), form.earlier.click()
    assert not changes and not form.draft.is_changed
    assert not any(c in f._dom_classes for f in fields_of(form) for c in ("ve-changed", "ve-wrong", "ve-suspect"))
    assert len([1 for number, _ in form.rows if number.value]) == ROWS_SHOWN


def test_a_second_reader_is_told_nothing():
    form = TruthForm()
    form.load(Draft(LONG), suspects={GOOD: "2 of 2 models read 50"}, is_blind=True)
    assert (
        form.counts[GOOD].value == ""
        and form.counts[GOOD].tooltip == ""
        and "ve-suspect" not in form.counts[GOOD]._dom_classes
    )
    stored = str(truth_values(LONG)[GOOD])
    form.counts[GOOD].value = stored
    assert form.draft.typed == {GOOD: stored} and form.checks.value == ""
    form.counts[GOOD].value = " "
    assert form.draft.typed == {} and form.reading()["ballot_statistics"]["good_ballots"] is None


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(truth_values(LONG))), st.text(max_size=12) | st.integers(0, 10**7).map(str))
def test_whatever_is_typed_is_shown_and_either_read_or_said_to_be_wrong(path, text):
    entries = Entries(Draft(LONG))
    entries.type(path, text)
    assert entries.text(path, truth_values(LONG)[path]).strip() in (text.strip(), str(truth_values(LONG)[path]))
    if entries.marks(path)["ve-wrong"]:
        with pytest.raises(ValueError, match="."):
            entries.draft.changes()
        assert truth_values(entries.draft.value()) == truth_values(LONG)
    else:
        assert set(entries.draft.changes()) <= {path}
