"""A store that the first version wrote opens with this one: its runs are read, compared and resumed, its jobs and traces are there

`old_store/first_version.db.gz` was written by the commit d556113 (schema 3): a run of its own functions, a comparison that finished,
one that stopped at a failing item, a queued job and a scored trace.
"""

import gzip
from pathlib import Path

import pytest
from PIL import Image

from vote_experiments.compat.datasets import get_dataset
from vote_experiments.engine.resuming import SettingsChangedError
from vote_experiments.engine.stored_comparison import accuracy_frame
from vote_experiments.experiments.comparison import run_model_experiments, stored_request
from vote_experiments.experiments.result import experiment_result
from vote_experiments.models.registry import forget_model, register_model
from vote_experiments.server.jobs import list_jobs
from vote_experiments.store.maintenance import check_store
from vote_experiments.store.database import open_store
from vote_experiments.store.runs import list_experiments, list_groups
from vote_experiments.traces.search import get_traces

OLD = Path(__file__).parent / "old_store/first_version.db.gz"


@pytest.fixture
def old(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.db").write_bytes(gzip.decompress(OLD.read_bytes()))
    for i in range(6):
        Image.new("L", (8, 8), 255).save(tmp_path / f"s{i}_page1.png")
    store = open_store(str(tmp_path / "old.db"))
    yield store
    store.close()


def test_an_old_store_is_sound_and_its_runs_are_read(old):
    assert not check_store(old)
    assert [(e["name"], e["status"]) for e in list_experiments(old)] == [
        ("doubles", "finished"),
        ("vote-extraction-reads-t0.0", "finished"),
        ("vote-extraction-fails-t0.0", "failed"),
    ]
    doubles = experiment_result(list_experiments(old)[0]["id"], old)
    assert [r.scores["exact"] for r in doubles.item_results] == [True, True, True, False, True, True, True, True]
    assert len(get_dataset("numbers", store=old)) == 8
    frame = accuracy_frame(old, {"reads": list_experiments(old)[1]["id"]})
    assert frame["value"].mean() == 1.0


def test_an_old_job_and_an_old_trace_are_there(old):
    assert [j.status for j in list_jobs(old)] == ["queued"]
    assert list_jobs(old)[0].arguments["model_configs"] == [{"model": "ocr-digits", "temperature": 0.0}]
    (trace,) = get_traces({"tags": ["production"]}, store=old)
    assert [s.value for s in trace.scores] == [0.5]


@pytest.mark.parametrize("how", ["by id", "by request"])
def test_an_old_run_that_stopped_is_resumed(old, how):
    group = next(g for g in list_groups(old) if g["status"] != "finished")
    stored = stored_request(old, group["id"])
    truth = get_dataset("stations", store=old).items[0].expected_output
    calls = []

    def fails(images, config):
        calls.append(images)
        return {"reports": truth}

    register_model("fails", fails)
    try:
        request = {k: v for k, v in stored.items() if k != "resume"}
        resume = group["id"] if how == "by id" else True
        how_to_run = {"resume": resume, "retry_failed": True, "store": old, "show_comparison": False, "progress": False}
        with pytest.raises(
            SettingsChangedError, match="evaluators.*allow_changes=True"
        ):  # they score by newer rules: never mixed in silence
            run_model_experiments(**request, **how_to_run)
        result = run_model_experiments(**request, **how_to_run, allow_changes=True)
    finally:
        forget_model("fails")
    assert result["group_id"] == group["id"] and result["successful_experiments"] == 1
    assert len(calls) == 6 and result["experiments"][0]["failed_records"] == 0
