"""Ensembles: out of stored outputs alone, nothing invented, sums never worse, scored like any model."""

import random

import pytest
from hypothesis import given, settings, strategies as st

from vote_experiments.datasets.dataset import get_dataset
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.store.runs import get_experiment, list_groups
from vote_experiments.experiments.ensemble import (
    arithmetic,
    combine,
    compare_with_members,
    ensemble,
    majority,
    matched_answers,
    tied_fields,
    weights_of,
)
from vote_experiments.experiments.experiment import run_experiment
from vote_experiments.forms.checks import ARITHMETIC_CHECKS, check_report
from vote_experiments.forms.schema import parse_reports, report_fields
from vote_experiments.scoring.evaluators import vote_results_quality


def form(votes, good=None, total=None, words=None, kind="Constituency", **ballots):
    rows = [
        {"number": i + 1, "vote_count": v, "vote_count_text": words[i] if words else None} for i, v in enumerate(votes)
    ]
    return {
        "form_info": {"form_type": kind, "province": "แพร่"},
        "ballot_statistics": {"good_ballots": good, **ballots},
        "total_votes_recorded": total,
        "vote_results": rows,
    }


def votes(report):
    return [r.vote_count for r in report.vote_results]


def failed(report):
    return len(check_report(report, ARITHMETIC_CHECKS).failed)


counts = st.none() | st.integers(0, 40)
forms = st.builds(
    form,
    st.lists(counts, max_size=4),
    counts,
    counts,
    bad_ballots=counts,
    no_vote_ballots=counts,
    ballots_used=counts,
    ballots_remaining=counts,
    ballots_allocated=counts,
)


@settings(max_examples=150)
@given(st.lists(forms, min_size=1, max_size=4))
def test_nothing_is_invented_and_arithmetic_never_makes_more_sums_wrong(answers):
    members = matched_answers(answers)[0]
    read = [report_fields(m) for m in members]
    for decide in (majority, arithmetic):
        for path, value in report_fields(decide(members)).items():
            assert value is None or any(value == r.get(path) for r in read), path
    assert failed(arithmetic(members)) <= failed(majority(members))


@given(forms, st.integers(1, 4))
def test_one_voice_is_heard_as_it_is(answer, n):
    (same,) = parse_reports(answer)
    assert report_fields(majority([same] * n)) == report_fields(same)


def test_majority_counts_members_not_blanks():
    a, b, c = form([7, 5, None]), form([None, 6, None]), form([7, 6, 9])
    assert votes(majority(matched_answers([a, b, c])[0])) == [7, 6, 9]
    assert votes(majority([*matched_answers([a, b])[0], None])) == [7, None, None], "5 and 6 have a vote each"


def test_words_go_with_the_number_that_was_chosen():
    a, b = form([17], words=["สิบเจ็ด"], good=11), form([11], words=["สิบเอ็ด"], good=11)
    row = arithmetic(matched_answers([a, b])[0]).vote_results[0]
    assert (row.vote_count, row.vote_count_text) == (11, "สิบเอ็ด")


def test_two_wrong_numbers_are_found_together_and_the_cheapest_way_is_taken():
    truth = form([17, 20, 30], 67, 67, bad_ballots=2, no_vote_ballots=1, ballots_used=70)
    a, b, c = (
        form(v, g, t, bad_ballots=2, no_vote_ballots=1, ballots_used=70)
        for v, g, t in (([17, 26, 39], 67, 67), ([10, 20, 30], 67, 67), ([10, 26, 39], 61, 67))
    )
    assert votes(majority(matched_answers([a, b, c])[0])) == [10, 26, 39]
    assert votes(majority(matched_answers([a, b, c, truth])[0])) == [None, None, None]
    fixed = arithmetic(matched_answers([a, b, c, truth])[0])
    assert votes(fixed) == [17, 20, 30] and failed(fixed) == 0
    either = [form([10, 5], 20), form([10, 10], 20), form([10, 5], 20), form([15, 5], 20)]
    assert votes(arithmetic(matched_answers(either)[0])) == [10, 5], "two ways are as good: a person has to look"
    assert votes(arithmetic(matched_answers([*either, form([10, 10], 20)])[0])) == [10, 10]


def test_several_reports_of_one_item_and_members_that_answered_nothing():
    both = {"reports": [form([1, 2]), form([9], kind="PartyList")]}
    out = combine([None, {"reports": [form([9], kind="PartyList")]}, both, "no report"], "majority")["reports"]
    assert [[r["vote_count"] for r in o["vote_results"]] for o in out] == [[1, 2], [9]]
    with pytest.raises(ValueError, match="no member of the ensemble has an answer"):
        combine([None, "nothing"])
    assert combine([both], lambda answers: answers[-1])["reports"][0]["vote_results"][0]["vote_count"] == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(forms, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_the_members_does_not_matter(answers, rng):
    shuffled = rng.sample(answers, len(answers))
    for rule in ("majority", "arithmetic", "weighted"):
        assert combine(answers, rule) == combine(shuffled, rule)
    assert sorted(tied_fields(answers)) == sorted(tied_fields(shuffled))


def test_sums_settle_a_tie_and_what_they_do_not_settle_stays_blank():
    a, b = form([10, 20], 30, 30, ballots_used=30), form([10, 26], 30, 30, ballots_used=30)
    assert votes(arithmetic(matched_answers([a, b])[0])) == [10, 20]
    assert tied_fields([a, b]) == ["vote_results.number=2"]
    c, d = form([10, 20], 30, 30), form([12, 18], 30, 30)
    assert votes(arithmetic(matched_answers([c, d])[0])) == [None, None], "both readings add up: a person has to look"


def test_agreement_alone_tells_who_is_reliable():
    rng = random.Random(3)
    truths = [[rng.randrange(5, 300) for _ in range(6)] for _ in range(120)]

    def reader(share):
        return [
            form([v + (rng.choice([-6, 6, 10, -1, 100]) if rng.random() < share else 0) for v in t]) for t in truths
        ]

    reads = list(zip(reader(0.02), reader(0.3), reader(0.3), reader(0.3)))
    weights = weights_of(reads)
    assert weights[0] > max(weights[1:]) + 1
    right = {
        rule: sum(
            r["vote_count"] == v
            for t, outputs in zip(truths, reads)
            for r, v in zip(combine(outputs, rule, weights)["reports"][0]["vote_results"], t)
        )
        for rule in ("majority", "weighted")
    }
    assert right["weighted"] > right["majority"]


@pytest.fixture
def members(sqlite_store):
    "Three readers that err in places of their own, over 40 forms whose sums are right"
    truths = [
        form(v, sum(v), sum(v))
        for i in range(40)
        for v in [[random.Random(i * 7 + k).randrange(5, 300) for k in range(5)]]
    ]
    save_dataset(
        "forms", [{"id": f"f{i}", "input": i, "expected_output": t} for i, t in enumerate(truths)], store=sqlite_store
    )

    def reader(name, share, fails=()):
        def task(item):
            if item.input in fails:
                raise RuntimeError("no page")
            rng, answer = (
                random.Random(f"{name}{item.input}"),
                {**truths[item.input], "vote_results": [dict(r) for r in truths[item.input]["vote_results"]]},
            )
            for row in answer["vote_results"]:
                row["vote_count"] += rng.choice([-6, 6, 10, -1]) if rng.random() < share else 0
            return answer

        return run_experiment(
            name=name,
            data=get_dataset("forms", store=sqlite_store),
            task=task,
            evaluators=[vote_results_quality],
            store=sqlite_store,
            repeats=2 if name == "careful" else 1,
        ).experiment_id

    return [reader("careful", 0.06), reader("hasty", 0.15, fails=(3, 4)), reader("sloppy", 0.25, fails=(3,))]


def test_an_ensemble_is_an_experiment_like_any_other(sqlite_store, members):
    result = ensemble(members, "arithmetic", evaluators=[vote_results_quality], store=sqlite_store)
    assert [r.item.id for r in result.item_results] == [f"f{i}" for i in range(40)] and not len(result.failed_items)
    row = get_experiment(sqlite_store, result.experiment_id)
    assert (
        row["dataset_name"] == "forms"
        and row["config"]["members"]["hasty"] == members[1]
        and result.summary["usage"] is None
    )
    assert list_groups(sqlite_store)[0]["kind"] == "ensemble" and list_groups(sqlite_store)[0]["status"] == "finished"
    assert "is best" in list_groups(sqlite_store)[0]["result"]["headline"]
    ties = list_groups(sqlite_store)[0]["result"]["ties"]
    assert 0 < ties["items"] == len(ties["by_item"]) <= ties["fields"]
    other = ensemble(members[::-1], "arithmetic", evaluators=[vote_results_quality], store=sqlite_store)
    assert [r.output for r in other.item_results] == [r.output for r in result.item_results]
    found = compare_with_members(result)
    assert found.best == "ensemble-arithmetic" and found.distinguishable and found.items == 40
    assert "is best" in found.sentence and found.table["experiment"].tolist()[1] == "careful"


def test_where_all_members_failed_the_ensemble_fails_too(sqlite_store, members):
    result = ensemble(members[1:], "majority", evaluators=[vote_results_quality], store=sqlite_store, name="two")
    assert [r.item.id for r in result.failed_items] == ["f3"] and "no member" in result.failed_items[0].error.message
    assert result.name == "two" and len(result.item_results) == 39


def test_what_is_no_ensemble_is_said(sqlite_store, members):
    other = run_experiment(
        name="other", data=[{"id": "x", "input": 1}], task=lambda item: form([1]), store=sqlite_store
    ).experiment_id
    for runs, rule, words in [
        (members[:1], "majority", "at least two"),
        (members, "vote", "'vote' is not one of majority, arithmetic, weighted"),
        ([members[0], other], "majority", "share no items"),
    ]:
        with pytest.raises(ValueError, match=words):
            ensemble(runs, rule, store=sqlite_store)
    with pytest.raises(ValueError, match="is no ensemble"):
        compare_with_members(run_experiment(name="o", data=[{"input": 1}], task=lambda item: 1, store=sqlite_store))
