"""run_model_experiments: the documented contract, on small registered readers."""

import asyncio
import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from vote_experiments.datasets.dataset import DatasetNotFoundError, get_dataset
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.engine.plan import ItemFailedError
from vote_experiments.store.run_totals import status_counts
from vote_experiments.store.runs import get_group, list_experiments, list_groups
from vote_experiments.experiments.comparison import (
    arun_model_experiments,
    choose_backend,
    run_model_experiments,
    stored_request,
)
from vote_experiments.experiments.sampling import chosen_places
from vote_experiments.models.registry import forget_model, register_model

DOCUMENTED = {
    "experiments",
    "total_experiments",
    "successful_experiments",
    "failed_experiments",
    "dataset_name",
    "dataset_size",
    "project_name",
    "comparison_url",
    "dataset_id",
}
PER_EXPERIMENT = {"experiment_name", "model", "temperature", "sample_size", "summary_metrics", "url", "status"}


def truth(i, slip=0):
    return {
        "form_info": {"form_type": "Constituency", "province": "ขอนแก่น"},
        "ballot_statistics": {
            "ballots_allocated": 500,
            "ballots_used": 300 + i,
            "good_ballots": 290 + i,
            "bad_ballots": 4,
            "no_vote_ballots": 6,
            "ballots_remaining": 200 - i,
        },
        "vote_results": [{"number": 1, "vote_count": 200 + i + slip}, {"number": 2, "vote_count": 90}],
    }


def number_of(images):
    return int(Path(images[0]).stem)


def reads_well(images, config):
    return {"reports": [truth(number_of(images))]}


def slips(images, config):
    return {"reports": [truth(number_of(images), slip=number_of(images) % 3 == 0)]}


def torn(images, config):
    if number_of(images) == 2:
        raise ValueError("page 2 is torn")
    return reads_well(images, config)


async def later(images, config):
    await asyncio.sleep(0.001)
    return reads_well(images, config)


@pytest.fixture
def models():
    table = {"reads-well": reads_well, "slips": slips, "torn": torn, "later": later}
    for name, fn in table.items():
        register_model(name, fn)
    yield
    for name in table:
        forget_model(name)


@pytest.fixture
def stations(store, tmp_path, monkeypatch, models):
    for name in ("DD_API_KEY", "DD_APP_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VOTE_EXPERIMENTS_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    save_dataset(
        "stations",
        [
            {
                "id": f"f{i:02d}",
                "input": {"image_paths": [f"{i}.jpg"]},
                "expected_output": truth(i),
                "metadata": {"level": ["clean", "scan", "poor"][i % 3]},
            }
            for i in range(12)
        ],
        store=store,
    )
    return store


def run(store, *models, **arguments):
    configs = [{"model": m, "temperature": 0.0} for m in models]
    return run_model_experiments(
        **{"dataset_name": "stations", "store": store, "model_configs": configs, "show_comparison": False, **arguments}
    )


def test_the_returned_dict_has_the_documented_keys_and_can_be_dumped(stations):
    results = run(stations, "reads-well", "slips", "later")
    assert set(results) >= DOCUMENTED
    assert all(set(e) >= PER_EXPERIMENT for e in results["experiments"])
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    assert [e["experiment_name"] for e in results["experiments"]] == [
        "vote-extraction-reads-well-t0.0",
        "vote-extraction-slips-t0.0",
        "vote-extraction-later-t0.0",
    ]
    first, second, third = results["experiments"]
    assert first["summary_metrics"] == {"overall_accuracy": 1.0, "success_rate": 1.0, "avg_ballot_accuracy": 1.0}
    assert second["summary_metrics"]["overall_accuracy"] == pytest.approx(1 - 0.4 * (4 / 12) / 2)
    low, high = second["metrics_ci"]["overall_accuracy"]
    assert low < second["summary_metrics"]["overall_accuracy"] < high
    assert (results["dataset_size"], results["total_experiments"], results["successful_experiments"]) == (12, 3, 3)
    assert results["best"] is None, "two readers scored the same on every form"
    assert results["comparison"]["best"] in (first["experiment_name"], third["experiment_name"])
    assert results["comparison"]["tied_with"]


def test_a_light_page_is_always_written_and_escaped(stations):
    results = run(stations, "reads-well")
    page = Path(results["report_path"], "index.html")
    text = page.read_text()
    assert results["comparison_url"] == page.as_uri() and results["experiments"][0]["url"].startswith(page.as_uri())
    assert (
        "vote-extraction-reads-well-t0.0" in text
        and "<script" not in text
        and "http:" not in text
        and "https:" not in text
    )
    assert json.loads((page.parent / "result.json").read_text())["group_id"] == results["group_id"]
    assert page.parent.name in (page.parent.parent / "index.html").read_text()


def test_everything_documented_is_printed_in_order(stations, capsys):
    run(stations, "reads-well", "invalid-model", show_comparison=True, raise_errors=False)
    out = capsys.readouterr().out
    parts = [
        "BACKEND: local",
        "Loading dataset: stations",
        "✅ Dataset loaded: 12 records",
        "RUNNING 2 EXPERIMENTS",
        "─" * 80,
        "Experiment 1/2: reads-well (T=0.0)",
        "12/12, 12 ok, 0 failed",
        "✅ Completed! Processed 12 records",
        "Summary Metrics:",
        "- overall_accuracy: 1.0000",
        "Experiment 2/2: invalid-model",
        "❌ Failed: unknown model",
        "EXPERIMENT COMPARISON",
        "experiment",
        "Results:",
        "Compare all experiments side-by-side:",
        "BEST PERFORMER:",
        "Model: reads-well",
        "Temperature: 0.0",
        "Overall Accuracy: 100.0%",
    ]
    places = [out.index(p) for p in parts]
    assert places == sorted(places)
    assert "\x1b" not in out and "\r" not in out


def test_one_bad_config_fails_alone_or_stops_the_call(stations):
    results = run(stations, "reads-well", "invalid-model", raise_errors=False)
    assert (results["successful_experiments"], results["failed_experiments"]) == (1, 1)
    failed = results["experiments"][1]
    assert failed["status"] == "failed" and "invalid-model" in failed["error"] and failed["summary_metrics"] == {}
    before = len(list_groups(stations))
    with pytest.raises(ValueError, match="invalid-model.*ocr-fused"):
        run(stations, "reads-well", "invalid-model")
    with pytest.raises(ValueError, match="invalid-model"):
        run(stations, "invalid-model", raise_errors=False)
    assert len(list_groups(stations)) == before, "nothing may be recorded for a call that cannot start"


def test_failed_items_are_counted_and_a_config_fails_only_when_all_do(stations):
    results = run(stations, "torn", raise_errors=False)
    e = results["experiments"][0]
    assert (e["status"], e["successful_records"], e["failed_records"]) == ("success", 11, 1)
    assert e["summary_metrics"]["overall_accuracy"] == pytest.approx(11 / 12)
    assert e["summary_metrics"]["success_rate"] == pytest.approx(11 / 12)

    def never(input_data, config):
        raise RuntimeError("scanner on fire")

    results = run(stations, "reads-well", task_function=never, raise_errors=False)
    e = results["experiments"][0]
    assert e["status"] == "failed" and "all 12 items failed" in e["error"] and "scanner on fire" in e["error"]
    assert e["summary_metrics"] == {} and results["best"] is None


def test_raise_errors_stops_and_the_whole_call_can_be_resumed(stations):
    with pytest.raises(ItemFailedError, match="page 2 is torn.*vote-experiments resume"):
        run(stations, "reads-well", "torn", "slips", jobs=1)
    group = list_groups(stations)[0]
    assert group["status"] == "failed"
    assert [e["status"] for e in list_experiments(stations, group_id=group["id"])] == ["finished", "failed"]
    with pytest.raises(ValueError, match="functions of its own"):
        run(stations, "reads-well", task_function=lambda item: {}, evaluators=[lambda output: 1.0])
        stored_request(stations, list_groups(stations)[0]["id"])
    request = stored_request(stations, group["id"]) | {"raise_errors": False}
    results = run_model_experiments(**request, store=stations, show_comparison=False)
    assert results["group_id"] == group["id"] and results["successful_experiments"] == 3
    assert results["experiments"][1]["failed_records"] == 1
    assert len(list_experiments(stations, group_id=group["id"])) == 3


def test_users_own_task_and_evaluators_in_each_style(stations):
    def task(input_data, config):
        return {"answer": config["model"], "pages": len(input_data["image_paths"])}

    def datadog(input_data, output_data, expected_output):
        return output_data["pages"] == 1

    async def langfuse(*, input, output, expected_output, metadata, **kwargs):
        return {"name": "level known", "value": metadata["level"] in ("clean", "scan", "poor")}

    def share_right(inputs, outputs, expected_outputs, evaluators_results):
        return sum(evaluators_results["datadog"]) / len(outputs)

    results = run(
        stations,
        "any-name-at-all",
        task_function=task,
        evaluators=[datadog, langfuse],
        summary_evaluators=[share_right],
    )
    assert results["experiments"][0]["summary_metrics"] == {"share_right": 1.0}


def test_the_sample_is_the_first_n_and_the_same_for_every_config(stations):
    results = run(stations, "reads-well", "slips", sample_size=4)
    assert [e["sample_size"] for e in results["experiments"]] == [4, 4] and results["dataset_size"] == 12
    assert [status_counts(stations, e["experiment_id"])["ok"] for e in results["experiments"]] == [4, 4]
    assert run(stations, "reads-well", sample_size=99)["experiments"][0]["total_records"] == 12


def test_a_drawn_sample_keeps_the_shares_of_a_stratum(stations):
    dataset = get_dataset("stations", store=stations)
    places = chosen_places(dataset, 6, sample_seed=3, stratify_by="level")
    assert sorted(p % 3 for p in places) == [0, 0, 1, 1, 2, 2] and places == sorted(places)
    kept_out = [f"f{i:02d}" for i in range(0, 12, 3)]
    assert {p % 3 for p in chosen_places(dataset, None, 1, "level", kept_out)} == {1, 2}
    results = run(stations, "reads-well", sample_size=5, sample_seed=1, holdout=kept_out)
    assert results["experiments"][0]["total_records"] == 5


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ({"sample_size": 0}, ValueError, "sample_size=0"),
        ({"sample_size": -3}, ValueError, "sample_size=-3"),
        ({"sample_size": True}, ValueError, "sample_size=True"),
        ({"jobs": 0}, ValueError, "jobs=0"),
        ({"model_configs": []}, ValueError, "model_configs"),
        ({"backend": "datadgo"}, ValueError, "datadgo"),
        ({"model_configs": [{"temperature": 0.0}]}, ValueError, "model"),
        ({"model_configs": [{"model": "slips", "temperature": 1.5}]}, ValueError, "temperature"),
        ({"model_configs": [{"model": "slips", "temperature": 0.0}] * 2}, ValueError, "slips-t0.0"),
        ({"model_configs": [{"model": "slips", "temprature": 0.0}]}, ValueError, "temperature"),
        ({"dataset_name": "statoins"}, DatasetNotFoundError, "stations"),
        ({"dataset_version": 9}, LookupError, "9"),
        ({"evaluators": [reads_well, reads_well]}, (ValueError, TypeError), "reads_well"),
        ({"task_function": lambda: 1}, TypeError, "takes none"),
        ({"holdout": [f"f{i:02d}" for i in range(12)]}, ValueError, "holdout leaves no items"),
        ({"not_an_argument": 1}, TypeError, "not_an_argument"),
    ],
)
def test_bad_requests_are_refused_before_anything_runs(stations, arguments, error, words):
    with pytest.raises(error, match=words):
        run(stations, "slips", **arguments)
    assert list_groups(stations) == [] and list_experiments(stations) == []


def test_an_empty_dataset_is_refused(stations):
    save_dataset("nothing", [], store=stations)
    with pytest.raises(ValueError, match="'nothing'.*no items"):
        run(stations, "slips", dataset_name="nothing")


def test_no_credentials_is_one_clear_error(stations):
    with pytest.raises(ValueError, match="GEMINI_API_KEY") as told:
        run(stations, model_configs=None)
    assert "ocr-fused" in str(told.value) and list_groups(stations) == []


def test_options_of_the_call(stations):
    seen = []
    assert run(stations, "reads-well", return_results=False, progress=seen.append) is None
    assert seen[-1].finished and seen[-1].done == 12
    repeated = run(stations, "slips", repeats=3)
    assert repeated["experiments"][0]["total_records"] == 36 and repeated["dataset_size"] == 12
    suffixed = run_model_experiments(
        dataset_name="stations",
        store=stations,
        show_comparison=False,
        model_configs=[{"model": "reads-well", "name_suffix": "mine", "metadata": {"round": 2}}],
    )
    e = suffixed["experiments"][0]
    assert (e["experiment_name"], e["temperature"]) == ("vote-extraction-mine", None)
    row = list_experiments(stations, name="vote-extraction-mine")[0]
    assert row["metadata"] == {"round": "2"} and row["config"] == {"model": "reads-well"}
    assert get_group(stations, suffixed["group_id"])["request"]["model_configs"][0]["model"] == "reads-well"


def test_it_works_on_the_callers_loop_too(stations):
    configs = [{"model": "later", "temperature": 0.0}]
    results = asyncio.run(
        arun_model_experiments(dataset_name="stations", model_configs=configs, store=stations, show_comparison=False)
    )
    assert results["successful_experiments"] == 1


def test_which_backend_is_said_with_its_reason(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DD_API_KEY", raising=False)
    assert choose_backend(None)[0] == "local"
    monkeypatch.setenv("DD_API_KEY", "k" * 32)
    assert choose_backend(None) == ("datadog", "because DD_API_KEY is set; backend='local' keeps the run here")
    assert choose_backend("local")[0] == "local"


KILLED = """
import sys, time
from pathlib import Path
from vote_experiments.experiments.comparison import run_model_experiments
from vote_experiments.models.registry import register_model

def slow(images, config):
    time.sleep(0.05)
    with open(sys.argv[2], "a") as f:
        f.write(f"{config['temperature']} {Path(images[0]).stem}\\n")
    return {"reports": [{"form_info": {"form_type": "Constituency"}, "vote_results": []}]}

register_model("slow", slow)
results = run_model_experiments(dataset_name="stations", store=sys.argv[1], resume=True, jobs=1, show_comparison=False,
                                model_configs=[{"model": "slow", "temperature": t} for t in (0.0, 0.5, 1.0)])
print(results["group_id"], results["successful_experiments"], flush=True)
"""


def test_a_killed_comparison_goes_on_as_a_whole(stations, tmp_path):
    script, log = tmp_path / "compare.py", tmp_path / "asked.log"
    script.write_text(textwrap.dedent(KILLED))
    command = [sys.executable, script, stations.url, log]
    for lines in (6, 18):  # inside the first config, then inside the second
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while not log.exists() or len(log.read_text().splitlines()) < lines:
            time.sleep(0.02)
            assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == "3" and len(list_groups(stations)) == 1
    assert [e["status"] for e in list_experiments(stations)] == ["finished"] * 3
    assert all(status_counts(stations, e["id"])["ok"] == 12 for e in list_experiments(stations))
    asked = log.read_text().splitlines()
    assert len(set(asked)) == 36 and len(asked) - 36 <= 2 * (1 + 4)  # in flight, and 100 ms of 50 ms tasks, per kill


# whose score it is does not change what it means


def shown(store, task, score, n=40, **arguments):
    save_dataset("sums", [{"id": f"s{i:02d}", "input": {"i": i}, "expected_output": i} for i in range(n)], store=store)
    return run_model_experiments(
        dataset_name="sums",
        store=store,
        task_function=task,
        evaluators=[score],
        jobs=8,
        show_comparison=False,
        raise_errors=False,
        summary_evaluators=[],
        model_configs=[{"model": "weak"}, {"model": "strong"}],
        **arguments,
    )


def is_right(output, expected_output):
    return output == expected_output


def test_a_model_that_fails_does_not_win_by_a_users_own_score(stations):
    def task(input_data, config):
        if config["model"] == "weak" and input_data["i"] % 2:
            raise RuntimeError("no answer")
        return input_data["i"] + (config["model"] == "strong" and input_data["i"] % 10 == 0)

    results = shown(stations, task, is_right)
    weak, strong = results["experiments"]
    assert (weak["failed_records"], strong["failed_records"]) == (20, 0)
    assert results["best"] == strong["experiment_name"] and results["comparison"]["best"] == strong["experiment_name"]


def test_fewer_errors_are_better_when_the_evaluator_says_so(stations):
    from vote_experiments.reports.findings import open_run
    from vote_experiments.scoring.binding import score_rule

    @score_rule(higher_is_better=False)
    def errors_made(output, expected_output):
        return abs(output - expected_output)

    results = shown(stations, lambda input_data, config: input_data["i"] + (config["model"] == "weak"), errors_made)
    assert results["best"] == "vote-extraction-strong-tdefault"
    again = open_run(results["group_id"], stations)
    assert (
        f"By errors_made: {again.comparison.sentence}" == results["headline"].replace("vote-extraction-", "")
        and not again.higher_is_better
    ), "a report decides as the run did"


def test_no_best_over_fewer_items_than_the_others_were_scored_on(stations):
    def tonnes(output):  # no share: a failed item is missing
        return float(output)

    def task(input_data, config):
        if config["model"] == "strong" and input_data["i"] % 2:
            raise RuntimeError("no answer")
        return 10 + (config["model"] == "strong")

    results = shown(stations, task, tonnes)
    assert results["best"] is None and results["comparison"]["uneven"]
    assert "has no score for 20 of 40 items" in results["headline"]


# weights, and what a resumed comparison is


def test_weights_reach_the_value_its_interval_and_the_report(stations):
    from vote_experiments.reports.findings import open_run

    weights = {"vote_results_quality": 1.0}
    results = run(stations, "slips", weights=weights)
    entry = results["experiments"][0]
    low, high = entry["metrics_ci"]["overall_accuracy"]
    assert (
        entry["summary_metrics"]["overall_accuracy"] == pytest.approx(1 - (4 / 12) / 2)
        and low < 1 - (4 / 12) / 2 < high
    )
    again = open_run(results["group_id"], stations)
    assert again.values["value"].mean() == pytest.approx(1 - (4 / 12) / 2)
    assert stored_request(stations, results["group_id"])["weights"] == weights
    with pytest.raises(ValueError, match="exact_form_mach.*did you mean 'exact_form_match'"):
        run(stations, "slips", weights={"exact_form_mach": 1.0})


def test_a_stored_request_keeps_what_decides_and_what_limits(stations):
    results = run(stations, "slips", max_cost_usd=2.5, timeout_s=30.0, cache=False)
    kept = stored_request(stations, results["group_id"])
    assert (kept["max_cost_usd"], kept["timeout_s"], kept["cache"], kept["kind"]) == (2.5, 30.0, False, "models")


def stopped(store):
    with pytest.raises(ItemFailedError) as told:
        run(store, "torn", "slips", raise_errors=True, jobs=1)
    group = list_groups(store)[0]
    assert f"vote-experiments resume {group['id']}" in str(told.value)
    return group["id"]


def test_a_comparison_is_not_resumed_with_other_configs(stations):
    from vote_experiments.engine.resuming import SettingsChangedError

    group = stopped(stations)
    with pytest.raises(SettingsChangedError, match="model_configs"):
        run(stations, "reads-well", "later", resume=group)
    assert [e["name"] for e in list_experiments(stations, group_id=group)] == ["vote-extraction-torn-t0.0"]
    whole = run(stations, "torn", "slips", resume=group, jobs=4, raise_errors=False)
    assert [e["total_records"] for e in whole["experiments"]] == [12, 12] and get_group(stations, group)[
        "status"
    ] == "finished"


def test_only_failed_items_of_a_comparison_leave_its_rest_open(stations):
    group = stopped(stations)
    part = run(stations, "torn", "slips", resume=group, failed_only=True, raise_errors=False)
    assert [e["status"] for e in part["experiments"]] == ["success", "failed"] and get_group(stations, group)[
        "status"
    ] == "interrupted"
    assert "not begun yet" in part["experiments"][1]["error"]
    whole = run(stations, "torn", "slips", resume=group, retry_failed=True, raise_errors=False)
    assert [e["total_records"] for e in whole["experiments"]] == [12, 12] and get_group(stations, group)[
        "status"
    ] == "finished"


@pytest.mark.parametrize("raise_errors", [True, False])
def test_a_comparison_at_work_is_left_alone(stations, raise_errors):
    import threading

    from vote_experiments.engine.resuming import RunBusyError

    going, go_on = threading.Event(), threading.Event()

    def waits(images, config):
        going.set()
        go_on.wait(20)
        return reads_well(images, config)

    register_model("waits", waits)
    try:
        first = threading.Thread(target=lambda: run(stations, "waits", "slips", raise_errors=raise_errors))
        first.start()
        assert going.wait(20)
        with pytest.raises(RunBusyError):
            run(stations, "waits", "slips", raise_errors=raise_errors, resume=True)
        (group,) = list_groups(stations)
        assert group["status"] == "running" and group["result"] is None
        go_on.set()
        first.join()
        assert get_group(stations, group["id"])["status"] == "finished"
    finally:
        go_on.set()
        forget_model("waits")


def test_items_held_out_or_sampled_by_what_is_not_there(stations):
    with pytest.raises(ValueError, match="'nope'"):
        run(stations, "slips", holdout=["nope", "f01"])
    with pytest.raises(ValueError, match="stratify_by='nope'"):
        run(stations, "slips", stratify_by="nope", sample_size=3)
