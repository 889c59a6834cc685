"""Items without ground truth are unknown, and a truth that changed is named, in every comparison"""

import math

import pytest

from vote_experiments import run_experiment, run_model_experiments
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.engine.run_truth import AnswersWithTruth, count_without_truth, differing_truth, newer_truth
from vote_experiments.engine.stored_comparison import accuracy_frame, compare_experiments_by_item
from vote_experiments.store.runs import get_experiment


def form(votes):
    return {"form_info": {"form_type": "Constituency"}, "vote_results": [{"number": 1, "vote_count": votes}]}


def items(truths):
    return [{"id": i, "input": {"n": i}, "expected_output": t and [form(t)]} for i, t in truths.items()]


def reads_ten(input, config):
    if config["model"] == "ten-or-nothing" and input["n"] in "df":
        raise RuntimeError("torn page")
    return {"reports": [form(10)]}


def ran(store, **options):
    configs = [{"model": m, "temperature": 0.0} for m in ("ten", "ten-or-nothing")]
    options = {
        "task_function": reads_ten,
        "raise_errors": False,
        "show_comparison": False,
        "backend": "local",
        "store": store,
        **options,
    }
    return run_model_experiments(dataset_name="forms", model_configs=configs, **options)


def test_items_without_truth_count_neither_as_right_nor_as_wrong(store):
    save_dataset("forms", items({"a": 10, "b": 7, "c": None, "d": None, "e": 10, "f": 10}), store=store)
    result = ran(store)
    ids = {e["experiment_name"]: e["experiment_id"] for e in result["experiments"]}
    assert count_without_truth(store, ids.values()) == (2, 6)
    frame = accuracy_frame(store, ids).set_index(["experiment", "item_id"])["value"]
    assert math.isnan(frame["vote-extraction-ten-or-nothing-t0.0", "d"]), "it failed, and it is unknown what it shows"
    assert frame["vote-extraction-ten-or-nothing-t0.0", "f"] == 0.0, "it failed, and 10 is what it shows"
    means = {e["experiment_name"]: e["summary_metrics"]["overall_accuracy"] for e in result["experiments"]}
    stored = {n: get_experiment(store, i)["summary"]["overall_accuracy"]["mean"] for n, i in ids.items()}
    assert means == pytest.approx(stored)
    assert means["vote-extraction-ten-t0.0"] == pytest.approx((3 + 1 / 3) / 4)  # the header of b is right
    assert means["vote-extraction-ten-or-nothing-t0.0"] == pytest.approx((2 + 1 / 3) / 4)
    assert any("2 of 6 items have no ground truth" in s for s in result["comparison"]["sentences"])


def test_a_run_without_any_truth_has_no_accuracy_and_says_why(store):
    save_dataset("forms", items(dict.fromkeys("abdf")), store=store)
    result = ran(store)
    assert result["best"] is None and result["comparison"] is None
    assert "none of the 4 items has a ground truth" in result["headline"]
    for e in result["experiments"]:
        assert "overall_accuracy" not in e["summary_metrics"], "unknown is neither 0 nor 1"


def test_a_truth_that_changed_since_is_named_with_the_command_that_helps(store):
    save_dataset("forms", items({"a": 10, "b": 7, "c": 10}), store=store)
    first = ran(store)
    ids = {e["experiment_name"]: e["experiment_id"] for e in first["experiments"]}
    assert not any("ground truth" in s for s in compare_experiments_by_item(store, ids).sentences)
    save_dataset("forms", items({"a": 10, "b": 10, "c": 10}), store=store)
    change = newer_truth(store, get_experiment(store, ids["vote-extraction-ten-t0.0"]))
    assert (change.n, change.items, change.old, change.new) == (1, 3, 1, 2)
    (remark,) = (s for s in compare_experiments_by_item(store, ids).sentences if "ground truth" in s)
    assert "1 of 3 items of dataset forms changed" in remark
    assert remark.endswith(f"vote-experiments rescore {first['group_id']}")
    second = ran(store)
    old, new = ids["vote-extraction-ten-t0.0"], second["experiments"][0]["experiment_id"]
    assert differing_truth(store, old, new) == ({"b"}, 3)
    (remark,) = (s for s in compare_experiments_by_item(store, {"o": old, "n": new}).sentences if "ground truth" in s)
    assert remark.startswith("o and n were scored with different ground truth on 1 of 3 items")


def test_a_new_version_with_the_same_truth_changes_nothing(store):
    save_dataset("forms", items({"a": 10, "b": 7}), store=store)
    first = ran(store)
    changed = items({"a": 10, "b": 7})
    changed[0]["metadata"] = {"station": "3"}
    assert save_dataset("forms", changed, store=store).version == 2
    ids = {e["experiment_name"]: e["experiment_id"] for e in first["experiments"]}
    assert not any("ground truth" in s for s in compare_experiments_by_item(store, ids).sentences)


def test_stored_answers_carry_the_other_truth_however_they_are_read(store):
    forms = [{"id": name, "input": {"n": name}, "expected_output": 1} for name in "abc"]
    old = save_dataset("forms", forms, store=store)
    done = run_experiment(name="ones", data=old, task=lambda input: 1, evaluators=[], store=store)
    new = save_dataset("forms", [{**f, "expected_output": 2} for f in forms[:2]], store=store, remove_missing=True)
    answers = AnswersWithTruth(store, done.experiment_id, new)
    assert len(answers) == 2 and [r.item.id for r in answers] == ["a", "b"]
    assert [answers[i].item.expected_output for i in (0, -1)] == [2, 2]
    assert [r.item.expected_output for r in answers[:5]] == [2, 2]
