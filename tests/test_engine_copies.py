"A task may change whatever it is given: nothing changes for the repeats, for the other models, for the evaluators or for the caller"

import copy

import pytest

from vote_experiments.datasets.dataset import get_dataset
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.experiments.comparison import run_model_experiments
from vote_experiments.experiments.experiment import run_experiment
from vote_experiments.store.database import Store

DATA = [
    {
        "id": f"f{i}",
        "input": {"messages": ["read"], "page": {"n": i}},
        "expected_output": {"rows": [i]},
        "metadata": {"tags": ["a"]},
    }
    for i in range(3)
]


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "store.db")
    yield opened
    opened.close()


def _spoil(item, input_data, expected_output, metadata, config):
    "What a careless task does, and how many messages it saw"
    seen = len(input_data["messages"])
    for messages in (input_data["messages"], item.input["messages"]):
        messages.append("answer")
    input_data["page"]["n"] = "changed"
    expected_output["rows"].append(99)
    item.expected_output["rows"].append(99)
    metadata["tags"].clear()
    config["prompt"]["lines"].append("and more")
    return {"seen": seen, "lines": len(config["prompt"]["lines"])}


def spoil(item, input_data, expected_output, metadata, config):
    return _spoil(item, input_data, expected_output, metadata, config)


async def spoil_async(item, input_data, expected_output, metadata, config):
    return _spoil(item, input_data, expected_output, metadata, config)


def untouched(input, output, expected_output, metadata):
    return len(input["messages"]) == 1 and expected_output["rows"] == [input["page"]["n"]] and metadata["tags"] == ["a"]


@pytest.mark.parametrize("task", [spoil, spoil_async])
@pytest.mark.parametrize("kind", ["local", "stored"])
def test_repeats_evaluators_and_the_caller_see_what_was_given(task, kind, store):
    data, config = copy.deepcopy(DATA), {"prompt": {"lines": ["read"]}}
    if kind == "stored":
        save_dataset("forms", data, store=store)
    result = run_experiment(
        name="careless",
        data=data if kind == "local" else get_dataset("forms", store=store),
        task=task,
        repeats=4,
        evaluators=[untouched],
        config=config,
        store=store,
    )
    assert [r.output for r in result.item_results] == [{"seen": 1, "lines": 2}] * 12
    assert (
        result.summary["scores"]["untouched"]["mean"] == 1.0
        and data == DATA
        and config == {"prompt": {"lines": ["read"]}}
    )
    assert all(
        r.input["page"]["n"] == r.position and r.expected_output == {"rows": [r.position]} for r in result.item_results
    )


def test_the_second_model_gets_what_the_first_one_got(store, tmp_path, monkeypatch):
    monkeypatch.setenv("VOTE_EXPERIMENTS_RUNS", str(tmp_path / "runs"))
    save_dataset("forms", copy.deepcopy(DATA), store=store)
    seen = []

    def task(input_data, config):
        seen.append((config["model"], list(input_data["messages"])))
        input_data["messages"].append("changed")
        config["model"] = "another"
        return {"reports": []}

    run_model_experiments(
        dataset_name="forms",
        model_configs=[{"model": "ocr-digits"}, {"model": "ocr-words"}],
        task_function=task,
        evaluators=[untouched],
        store=store,
        show_comparison=False,
        jobs=1,
    )
    assert [s for s in seen if s[1] != ["read"]] == [] and [m for m, _ in seen] == ["ocr-digits"] * 3 + [
        "ocr-words"
    ] * 3


def test_a_value_that_contains_itself_is_handed_over_as_it_is(store):
    loop: dict = {"n": 1}
    loop["self"] = loop
    result = run_experiment(
        name="loop", data=[{"input": {"n": 1}, "metadata": None}], task=lambda input: input["n"], store=store
    )
    assert result.item_results[0].output == 1
