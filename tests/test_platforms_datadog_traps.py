"""The ways in which Datadog's SDK loses results, each shown with the bare SDK where that is possible, and not with ours

The real SDK talks to a server on the loopback; what arrived is counted there.
"""

import asyncio
import contextlib
import functools
import logging
import os
import random
import subprocess
import sys
import threading
import time
from datetime import datetime

import pytest
import sqlalchemy as sa
from promises import promise
from servers.datadog_server import ENVIRONMENT, DatadogServer
from servers.gemini_server import GeminiServer
from servers.loopback import Reply

from vote_experiments.platforms import datadog, datadog_sdk
from vote_experiments.datasets.dataset import get_dataset
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.engine.plan import ItemFailedError
from vote_experiments.store.database import Store
from vote_experiments.store.encoding import now_us
from vote_experiments.store.tables import item_results, publications, traces
from vote_experiments.experiments.experiment import run_experiment
from vote_experiments.experiments.comparison import run_model_experiments
from vote_experiments.platforms.publishing import publish, pull_dataset, push_dataset
from vote_experiments.records import Evaluation, Observation, Usage, observe

PROJECT = "traps"


@pytest.fixture(scope="module")
def running():
    with DatadogServer() as server:
        yield server


@pytest.fixture
def server(running, monkeypatch, tmp_path):
    "An empty Datadog, and an environment that leads to it"
    monkeypatch.chdir(tmp_path)  # no .env of the house
    running.wipe()
    with running.environment():
        yield running


@pytest.fixture
def sdk(server):
    "The SDK as its documentation enables it, put back afterwards"
    with bare_sdk() as enabled:
        yield enabled


CONFIG = (
    "_dd_site",
    "_dd_api_key",
    "_llmobs_ml_app",
    "_llmobs_agentless_enabled",
    "_llmobs_sample_rate",
    "env",
    "service",
)


def sdk_state(sdk):
    "Everything that `enable` sets for the whole process"
    from ddtrace import config
    from ddtrace.internal.settings.standalone import standalone_config

    names = {name: getattr(config, name, None) for name in CONFIG}
    return names | {
        "app_key": sdk._app_key,
        "project": sdk._project_name,
        "apm": standalone_config.apm_tracing_enabled,
        "enabled": sdk.enabled,
    }


def restore_sdk(sdk, before):
    from ddtrace import config
    from ddtrace.internal.settings.standalone import standalone_config

    for name in CONFIG:
        setattr(config, name, before[name])
    sdk._app_key, sdk._project_name = before["app_key"], before["project"]
    standalone_config.apm_tracing_enabled = before["apm"]


@contextlib.contextmanager
def bare_sdk(**settings):
    LLMObs = datadog_sdk._sdk()
    from ddtrace.internal.settings.standalone import standalone_config

    before = sdk_state(LLMObs)
    standalone_config.apm_tracing_enabled = False
    logging.getLogger("ddtrace").setLevel(logging.CRITICAL)
    try:
        LLMObs.enable(
            **{
                "ml_app": "bare",
                "agentless_enabled": True,
                "site": "datadoghq.com",
                "project_name": PROJECT,
                "integrations_enabled": False,
                "api_key": ENVIRONMENT["DD_API_KEY"],
                "app_key": ENVIRONMENT["DD_APP_KEY"],
                **settings,
            }
        )
        yield LLMObs
    finally:
        LLMObs.disable()
        restore_sdk(LLMObs, before)
        logging.getLogger("ddtrace").setLevel(logging.NOTSET)


def records(n, **more):
    return [{"id": f"r{i}", "input_data": {"i": i}, "expected_output": {"i": i}, **more} for i in range(n)]


def items(n):
    return [{"id": f"r{i}", "input": {"i": i}, "expected_output": {"i": i}} for i in range(n)]


def right(input_data, output_data, expected_output):
    return output_data == expected_output


def echo(input_data, config=None):
    return input_data


def calling_echo(item):
    observe(
        Observation(
            "read the form",
            "GENERATION",
            time.time() - 1,
            time.time(),
            "what is on it?",
            item.input,
            model="gemini-2.5-flash",
            usage=Usage(10, 5),
        )
    )
    return item.input


def values(server, label="right"):
    "A score by record id"
    by_span = {
        s["span_id"]: next(
            t.removeprefix("dataset_record_id:") for t in s["tags"] if t.startswith("dataset_record_id:")
        )
        for s in server.rows()
    }
    return {
        by_span[m["span_id"]]: m.get(f"{m['metric_type']}_value")
        for its in server.metrics.values()
        for m in its
        if m["label"] == label and m["span_id"]
    }


def one(reports):
    assert len(reports) == 1
    return reports[0]


# ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@promise("datadog-1")
def test_a_missing_api_key_is_named_before_anything_runs(server, sqlite_store):
    asked = []
    with server.environment(DD_API_KEY=None):
        with pytest.raises(ValueError, match="DD_API_KEY"):
            run_model_experiments(
                backend="datadog", dataset_name="golden", task_function=asked.append, store=sqlite_store
            )
        with pytest.raises(ValueError, match="DD_API_KEY"):
            run_experiment(name="e", data=items(1), task=echo, backend="datadog", store=sqlite_store)
    assert not asked and not server.requests


@promise("datadog-2")
def test_bare_sdk_goes_ahead_without_an_application_key(server):
    with bare_sdk(app_key=None) as sdk:
        sdk._instance._dne_client._app_key = ""  # the SDK keeps the key of an earlier enable()
        assert sdk.enabled
        with pytest.raises(ValueError, match="401"):
            sdk.pull_dataset("golden")


@promise("datadog-2")
@pytest.mark.parametrize("how", ["model_experiments", "experiment", "publish"])
def test_a_missing_application_key_is_named_before_anything_runs(server, sqlite_store, how):
    asked = []
    with server.environment(DD_APP_KEY=None), pytest.raises(ValueError, match="DD_APP_KEY.*besides the API key"):
        if how == "model_experiments":
            run_model_experiments(dataset_name="golden", task_function=asked.append, store=sqlite_store)
        elif how == "experiment":
            run_experiment(name="e", data=items(1), task=echo, backend="datadog", store=sqlite_store)
        else:
            done = run_experiment(name="e", data=items(1), task=echo, store=sqlite_store)
            publish(done.experiment_id, "datadog", store=sqlite_store)
    assert not asked and not server.requests


@pytest.mark.parametrize("wrong", ["DD_API_KEY", "DD_APP_KEY"])
def test_wrong_keys_are_one_clear_error_before_any_call(server, sqlite_store, wrong):
    asked = []
    with server.environment(**{wrong: "wrong-key-000"}):
        for call in (
            lambda: run_model_experiments(dataset_name="golden", task_function=asked.append, store=sqlite_store),
            lambda: run_experiment(name="e", data=items(1), task=asked.append, backend="datadog", store=sqlite_store),
        ):
            with pytest.raises(ValueError, match="DD_API_KEY or DD_APP_KEY is wrong") as told:
                call()
            assert "wrong-key-000" not in str(told.value)
    assert not asked


# ── the SDK is one for the process ──────────────────────────────────────────────────────────────────────────────────


@promise("datadog-3")
def test_bare_sdk_ignores_a_second_enable(sdk):
    sdk.enable(ml_app="other", project_name="another-project")
    assert sdk._project_name == PROJECT


@promise("datadog-3")
def test_an_sdk_that_was_enabled_otherwise_is_not_touched(sdk, server, sqlite_store):
    done = run_experiment(name="e", data=items(2), task=echo, evaluators=[right], store=sqlite_store, project="ours")
    before = sdk_state(sdk)
    assert one(publish(done.experiment_id, "datadog", store=sqlite_store)).complete
    assert set(server.projects) == {"ours"} and sdk_state(sdk) == before
    sdk.create_dataset("theirs")
    assert set(server.projects) == {"ours", PROJECT}


PROGRAM = """
import sys, threading, time
from ddtrace import tracer
from ddtrace.llmobs import LLMObs
from ddtrace.trace import TraceFilter
from vote_experiments.platforms.publishing import publish

class Counter(TraceFilter):
    n = 0
    def process_trace(self, trace):
        Counter.n += len(trace)
        return None  # counted; there is no agent here

n_redacted = 0

def redacted(span):
    global n_redacted
    n_redacted += 1
    for message in span.input:
        message["content"] = "redacted"
    return span

tracer.configure(trace_processors=[Counter()])
LLMObs.enable(ml_app="theirs", project_name="theirs", agentless_enabled=True, site="datadoghq.com",
              integrations_enabled=False, api_key="planted-datadog-api-key", app_key="planted-datadog-app-key",
              span_processor=redacted)
done, made = threading.Event(), [0, 0]

def work():
    while not done.is_set():
        with tracer.trace("web.request"):
            made[0] += 1
        with LLMObs.workflow(name="theirs"):
            LLMObs.annotate(input_data="the name of a voter", output_data="seen")
        made[1] += 1
        time.sleep(0.02)

worker = threading.Thread(target=work)
worker.start()
report = publish(sys.argv[2], "datadog", store=sys.argv[1])[0]
done.set()
worker.join()
LLMObs.flush()
time.sleep(1)
LLMObs.disable()
tracer.flush()
print(report.complete, *made, Counter.n, n_redacted)
"""


@promise("datadog-3")
def test_a_program_that_uses_the_sdk_itself_keeps_every_span_while_a_run_is_published(server, sqlite_store):
    done = run_experiment(name="e", data=items(400), task=calling_echo, evaluators=[right], store=sqlite_store)
    words = [sys.executable, "-c", PROGRAM, str(sqlite_store.path), done.experiment_id]
    program = subprocess.run(words, capture_output=True, text=True, timeout=200, env=os.environ)
    assert program.returncode == 0, program.stderr[-3000:]
    complete, *counts = program.stdout.split()
    requests, workflows, exported, n_redacted = map(int, counts)
    assert complete == "True" and len(server.rows()) == 400
    assert exported == requests + workflows > 20 and n_redacted == workflows
    assert not [s for s in server.spans if "theirs" in str(s)]


MODE = """
import sys
if sys.argv[1] == "before":
    import ddtrace
from vote_experiments.platforms import datadog, datadog_sdk
settings = datadog.open_backend(api_key="key-123456", app_key="app-123456")._settings
with datadog_sdk._enabled(settings):
    print(datadog_sdk._sdk()._instance._export_mode)
"""


@promise("datadog-3")
@pytest.mark.parametrize("imported", ["before", "by us"])
def test_spans_go_to_their_intake_whoever_imported_the_sdk(imported, tmp_path):
    "Next to APM traces, where the SDK sends them by default, no one would hear what became of them"
    quiet = {"DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false", "DD_REMOTE_CONFIGURATION_ENABLED": "false"}
    bare = {k: v for k, v in os.environ.items() if not k.startswith(("DD_", "_DD_"))}
    done = subprocess.run(
        [sys.executable, "-c", MODE, imported],
        cwd=tmp_path,
        env=bare | quiet,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "LLMOBS_AGENTLESS" in done.stdout, done.stderr[-2000:]


def test_an_sdk_that_was_off_stays_off_with_its_settings(server, sqlite_store):
    LLMObs = datadog_sdk._sdk()
    before = sdk_state(LLMObs)
    done = run_experiment(name="e", data=items(2), task=echo, store=sqlite_store)
    assert one(publish(done.experiment_id, "datadog", store=sqlite_store)).complete
    assert not LLMObs.enabled and sdk_state(LLMObs) == before


# ── running ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Peak:
    "A sync task that knows how many of it run at once"

    __name__ = "peak"

    def __init__(self, together: int = 1):
        self.now = self.most = 0
        self.lock, self.all_here = threading.Lock(), threading.Barrier(together)

    def __call__(self, input_data, config=None):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.all_here.wait(60)  # no one leaves before so many are there, however slow the machine
        time.sleep(0.1)
        with self.lock:
            self.now -= 1
        return input_data


@promise("datadog-4")
def test_bare_sdk_caps_sync_tasks(sdk):
    peak = Peak()

    def task(input_data, config):
        return peak(input_data)

    sdk.experiment("e", task, sdk.create_dataset("d", records=records(24)), [right]).run(jobs=50)
    assert peak.most <= min(32, (os.cpu_count() or 1) + 4) < 24


@promise("datadog-4")
def test_fifty_jobs_are_fifty_in_flight_for_sync_tasks(server, sqlite_store):
    push_dataset(save_dataset("golden", items(100), store=sqlite_store), store=sqlite_store)
    peak = Peak(together=50)
    found = run_model_experiments(
        dataset_name="golden",
        task_function=peak,
        evaluators=[right],
        summary_evaluators=[],
        jobs=50,
        model_configs=[{"model": "echo"}],
        store=sqlite_store,
        show_comparison=False,
    )
    assert peak.most == 50 and found["publication"][0]["complete"] and len(server.rows()) == 100


@promise("datadog-5")
@pytest.mark.parametrize("task", [functools.partial(echo, config=None), Peak()], ids=["partial", "object"])
def test_a_partial_or_an_object_is_a_task(server, sqlite_store, task):
    done = run_experiment(name="e", data=items(3), task=task, evaluators=[right], store=sqlite_store, backend="datadog")
    assert done.publication.complete and values(server) == {f"r{i}": True for i in range(3)}


@promise("datadog-5")
def test_bare_sdk_completes_with_no_rows_for_a_partial(sdk, server):
    def task(input_data, config, factor):
        return input_data

    partial = functools.partial(task, factor=2)
    result = sdk.experiment("e", partial, sdk.create_dataset("d", records=records(3)), [right]).run()
    assert result["runs"][0].rows == [] and not server.rows()
    assert next(iter(server.experiments.values()))["attributes"]["status"] == "completed"


@promise("datadog-6")
def test_bare_sdk_loses_records_without_expected_output(sdk, server):
    bare = [{"id": f"r{i}", "input_data": {"i": i}} for i in range(3)]
    with contextlib.suppress(KeyError):
        sdk.experiment("e", lambda_task, sdk.create_dataset("d", records=bare), [right]).run()
    assert not values(server)


def lambda_task(input_data, config):
    return input_data


@promise("datadog-6")
def test_records_without_expected_output_arrive(server, sqlite_store):
    data = [{"id": f"r{i}", "input": {"i": i}} for i in range(3)]
    done = run_experiment(
        name="e",
        data=save_dataset("golden", data, store=sqlite_store),
        task=echo,
        evaluators=[right],
        store=sqlite_store,
        backend="datadog",
    )
    assert done.publication.complete and values(server) == dict.fromkeys(("r0", "r1", "r2"), False)
    other = Store(sqlite_store.path.with_name("other.db"))
    pulled = pull_dataset("datadog", "golden", store=other)
    assert [i.expected_output for i in pulled] == [None] * 3 and pulled.items[0].input == {"i": 0}


async def cancelled_at_one(input_data, config=None):
    if input_data["i"] == 1:
        raise asyncio.CancelledError
    return input_data


@promise("datadog-7")
def test_bare_sdk_shifts_outputs_when_a_task_is_cancelled(sdk):
    experiment = sdk.async_experiment("e", cancelled_at_one, sdk.create_dataset("d", records=records(4)), [right])
    rows = asyncio.run(experiment.run(jobs=4))["runs"][0].rows
    assert len(rows) == 3 and any(r["input"] != r["output"] for r in rows)


@promise("datadog-7")
def test_a_cancelled_task_fails_its_item_and_no_other(server, sqlite_store):
    done = run_experiment(
        name="e", data=items(4), task=cancelled_at_one, evaluators=[right], store=sqlite_store, backend="datadog"
    )
    assert done.publication.complete and len(server.rows()) == 4
    for row in server.rows():
        its = f"dataset_record_id:r{row['meta']['input']['i']}"
        assert its in row["tags"] and (row["meta"].get("output") or row["meta"]["input"]) == row["meta"]["input"]
    failed = [r for r in server.rows() if r["status"] == "error"]
    assert [r["meta"]["input"]["i"] for r in failed] == [1] and "error_type:CancelledError" in failed[0]["tags"]


@promise("datadog-8")
def test_bare_sdk_changes_the_tags_it_is_given(sdk):
    tags = {"purpose": "baseline"}
    sdk.experiment("first", lambda_task, sdk.create_dataset("d", records=records(1)), [right], tags=tags).run()
    assert tags["experiment_name"] == "first" and "experiment_id" in tags


@promise("datadog-8")
def test_every_experiment_has_tags_of_its_own_all_texts(server, sqlite_store):
    push_dataset(save_dataset("golden", items(2), store=sqlite_store), store=sqlite_store)
    shared = {"purpose": "baseline", "version": 3, "nested": {"a": 1}}
    configs = [{"model": "echo", "name_suffix": s, "metadata": shared} for s in ("one", "two")]
    run_model_experiments(
        dataset_name="golden",
        task_function=echo,
        evaluators=[right],
        model_configs=configs,
        summary_evaluators=[],
        store=sqlite_store,
        show_comparison=False,
    )
    assert shared == {"purpose": "baseline", "version": 3, "nested": {"a": 1}}
    tags = [e["attributes"]["metadata"]["tags"] for e in server.experiments.values()]
    assert [t for its in tags for t in its if t.startswith("experiment_name:")] == [
        "experiment_name:vote-extraction-one",
        "experiment_name:vote-extraction-two",
    ]
    assert all({"purpose:baseline", "version:3"} <= set(its) for its in tags)


def same_name(score):
    def accuracy(input_data, output_data, expected_output):
        return score

    return accuracy


@promise("datadog-9")
def test_bare_sdk_overwrites_scores_of_one_name(sdk, server):
    sdk.experiment(
        "e", lambda_task, sdk.create_dataset("d", records=records(1)), [same_name(0.1), same_name(0.9)]
    ).run()
    assert values(server, "accuracy") == {"r0": 0.9} and sum(map(len, server.metrics.values())) == 1


@promise("datadog-9")
def test_two_evaluators_of_one_name_are_refused(server, sqlite_store):
    with pytest.raises(ValueError, match="two evaluators are called 'accuracy'"):
        run_experiment(
            name="e",
            data=items(1),
            task=echo,
            evaluators=[same_name(0.1), same_name(0.9)],
            store=sqlite_store,
            backend="datadog",
        )


def failing_at_two(asked):
    def task(input_data, config=None):
        asked.append(input_data["i"])
        time.sleep(0.02)
        if input_data["i"] == 2:
            raise RuntimeError("no answer")
        return input_data

    return task


@promise("datadog-10")
def test_bare_sdk_raises_after_all_ran_and_keeps_nothing(sdk):
    asked = []
    experiment = sdk.experiment("e", failing_at_two(asked), sdk.create_dataset("d", records=records(8)), [right])
    with pytest.raises(RuntimeError):
        experiment.run(raise_errors=True)
    assert len(asked) == 8 and experiment.result is None


@promise("datadog-10")
def test_the_first_failure_stops_the_run_and_what_was_done_can_be_published(server, sqlite_store):
    push_dataset(save_dataset("golden", items(8), store=sqlite_store), store=sqlite_store)
    asked = []
    with pytest.raises(ItemFailedError, match="exp_") as told:
        run_model_experiments(
            dataset_name="golden",
            task_function=failing_at_two(asked),
            evaluators=[right],
            jobs=1,
            model_configs=[{"model": "echo"}],
            store=sqlite_store,
            show_comparison=False,
        )
    assert asked == [0, 1, 2] and "resume" in str(told.value)
    report = one(publish("latest", store=sqlite_store))
    assert (report.rows, report.scores, report.complete) == (3, 2, True)


def no_json(input_data, output_data, expected_output):
    return b"bytes" if input_data["i"] == 1 else True


@promise("datadog-11")
def test_bare_sdk_loses_every_score_for_one_that_is_no_json(sdk, server):
    def unusable(input_data, output_data, expected_output):
        return {"value": b"bytes"} if input_data["i"] == 1 else True

    sdk.experiment("e", lambda_task, sdk.create_dataset("d", records=records(3)), [unusable, right]).run(jobs=100)
    assert not any(server.metrics.values())
    assert next(iter(server.experiments.values()))["attributes"]["status"] == "completed"


@promise("datadog-11")
def test_an_unusable_score_is_a_failure_of_its_evaluator_alone(server, sqlite_store):
    def infinite(input_data, output_data, expected_output):
        return float("nan") if input_data["i"] == 1 else 0.5

    done = run_experiment(
        name="e", data=items(3), task=echo, evaluators=[no_json, infinite, right], store=sqlite_store, backend="datadog"
    )
    assert done.publication.complete and values(server) == dict.fromkeys(("r0", "r1", "r2"), True)
    assert values(server, "no_json") == {"r0": True, "r1": None, "r2": True} and values(server, "infinite") == {
        "r0": 0.5,
        "r2": 0.5,
    }
    refused = [m for its in server.metrics.values() for m in its if m["status"] == "ERROR"]
    assert len(refused) == 1 and "bytes" in refused[0]["error"]["message"]


# ── sending ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@promise("datadog-12")
def test_bare_sdk_loses_scores_that_the_server_refuses(sdk, server):
    server.fail("POST", "/events$", Reply(400, {"errors": ["no"]}))
    result = sdk.experiment("e", lambda_task, sdk.create_dataset("d", records=records(3)), [right]).run(jobs=100)
    assert len(result["runs"][0].rows) == 3 and not any(server.metrics.values())
    assert next(iter(server.experiments.values()))["attributes"]["status"] == "completed"


@promise("datadog-12")
@pytest.mark.parametrize("reply", [Reply(400, {"errors": ["no"]}), Reply(202)], ids=["refused", "taken and lost"])
def test_refused_or_lost_scores_are_told_and_sent_again(server, sqlite_store, reply):
    server.fail("POST", "/events$", reply)
    done = run_experiment(name="e", data=items(3), task=calling_echo, evaluators=[right], store=sqlite_store)
    report = one(publish(done.experiment_id, "datadog", store=sqlite_store, patience_s=0))
    assert (report.rows, report.scores, report.n_scores, report.complete) == (
        3 if reply.status == 202 else 0,
        0,
        3,
        False,
    )
    assert "0/3 scores" in str(report) and f"vote-experiments publish {done.experiment_id}" in str(report)
    server.faults.clear()
    again = one(publish(done.experiment_id, "datadog", store=sqlite_store, resend_after_s=0))
    assert again.complete and (len(server.rows()), len(values(server)), len(server.calls())) == (3, 3, 3)


@promise("datadog-13")
def test_bare_sdk_drops_what_its_buffer_cannot_hold(server):
    with (
        server.environment(_DD_LLMOBS_WRITER_INTERVAL="600"),
        bare_sdk() as sdk,
    ):  # a slow machine would empty it between two spans
        for i in range(1500):
            with sdk.task(name=f"t{i}"):
                pass
        sdk.flush()
        assert len(server.spans) < 1500


@promise("datadog-13")
@pytest.mark.parametrize("n", [500, pytest.param(2500, marks=pytest.mark.slow)])
def test_every_row_score_and_call_of_a_large_run_arrives(server, sqlite_store, n):
    def twice(item):
        calling_echo(item)
        return calling_echo(item)

    done = run_experiment(
        name="large",
        data=save_dataset("large", items(n), store=sqlite_store),
        task=twice,
        evaluators=[right],
        store=sqlite_store,
    )
    report = one(publish(done.experiment_id, "datadog", store=sqlite_store))
    assert report.complete and str(report) == (
        f"published {n}/{n} rows, {n}/{n} scores of large to datadog; sent {2 * n}/{2 * n} spans (not read back)"
    )
    assert (len(server.rows()), len(server.calls())) == (n, 2 * n)
    assert values(server) == {f"r{i}": True for i in range(n)}
    parents = {s["span_id"] for s in server.rows()}
    assert all(c["parent_id"] in parents for c in server.calls())
    assert len({s["span_id"] for s in server.spans}) == 3 * n


CHILD = """
import sys, time
from vote_experiments.experiments.experiment import run_experiment
from vote_experiments.datasets.dataset import get_dataset
from vote_experiments.store.database import Store

def task(input_data):
    time.sleep(0.01)
    return input_data

def right(input_data, output_data, expected_output):
    return output_data == expected_output

store = Store(sys.argv[1])
done = run_experiment(name="killed", data=get_dataset("golden", store=store), task=task, evaluators=[right], store=store,
                      max_concurrency=4, resume=True, backend="datadog")
print(done.publication)
"""


GROUP = """
import sys
from vote_experiments.experiments.comparison import run_model_experiments

def task(input_data):
    return input_data

def right(input_data, output_data, expected_output):
    return output_data == expected_output

found = run_model_experiments(dataset_name="golden", task_function=task, evaluators=[right], summary_evaluators=[], jobs=4, resume=True,
                              model_configs=[{"model": "a"}, {"model": "b"}], store=sys.argv[1], show_comparison=False, backend="datadog")
print([p["complete"] for p in found["publication"]])
"""
AGAIN = """
import sys
from vote_experiments.platforms.publishing import publish
print(publish("latest", "datadog", store=sys.argv[1])[0])
"""


def child(store, code=CHILD):
    return subprocess.Popen([sys.executable, "-c", code, str(store.path)], stdout=subprocess.PIPE, text=True)


def killed_when(process, happened):
    while not happened():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.wait()


@promise("datadog-14")
def test_a_run_killed_while_running_and_while_publishing_is_one_complete_experiment(server, sqlite_store):
    n = 250
    save_dataset("golden", items(n), store=sqlite_store)
    killed_when(child(sqlite_store), lambda: stored(sqlite_store) > 50)  # in the middle of the run
    assert not server.experiments
    server.delay_s = 0.05
    killed_when(child(sqlite_store), lambda: len(server.rows()) > 0)  # in the middle of publishing
    assert len(server.experiments) == 1 and stored(sqlite_store) == n
    server.delay_s = 0.0
    out, _ = child(sqlite_store).communicate(timeout=60)
    assert f"published {n}/{n} rows, {n}/{n} scores" in out
    assert (
        len(server.experiments) == 1 and len(server.rows()) == n and values(server) == {f"r{i}": True for i in range(n)}
    )
    assert sum(map(len, server.metrics.values())) == n


@promise("datadog-14")
@pytest.mark.slow
def test_a_group_killed_before_all_was_published_is_resumed_into_the_same_experiments(server, sqlite_store):
    save_dataset("golden", items(250), store=sqlite_store)
    push_dataset("golden", store=sqlite_store)
    server.delay_s = 0.05
    killed_when(child(sqlite_store, GROUP), lambda: len(server.rows()) > 300)
    server.delay_s = 0.0
    out, _ = child(sqlite_store, GROUP).communicate(timeout=120)
    assert (
        "[True, True]" in out
        and len(server.experiments) == 2
        and len(server.rows()) == 500
        and stored(sqlite_store) == 500
    )


@promise("datadog-14")
@pytest.mark.slow
def test_publishing_killed_at_random_is_complete_in_the_end_without_duplicates(server, sqlite_store):
    n, draw = 1500, random.Random(7)
    done = run_experiment(
        name="storm",
        data=save_dataset("golden", items(n), store=sqlite_store),
        task=calling_echo,
        evaluators=[right],
        store=sqlite_store,
    )
    server.delay_s = 0.02
    seen = []
    for _ in range(12):
        process = child(sqlite_store, AGAIN)
        time.sleep(draw.uniform(1.0, 4.0))
        process.kill()
        process.wait()
        seen.append(len(server.rows()))
    server.delay_s = 0.0
    report = one(publish(done.experiment_id, "datadog", store=sqlite_store))
    assert report.complete and len(server.experiments) == 1
    assert len(server.rows()) == len({s["span_id"] for s in server.rows()}) == n and len(server.calls()) == n, seen
    assert sum(map(len, server.metrics.values())) == n and values(server) == {f"r{i}": True for i in range(n)}


@promise("datadog-14")
@pytest.mark.parametrize(
    "index_s, kills", [(1.5, 3), pytest.param(15.0, 10, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])]
)
def test_rows_that_are_shown_late_are_not_sent_twice_after_a_kill(server, sqlite_store, index_s, kills):
    n = 400 * kills
    done = run_experiment(
        name="late",
        data=save_dataset("golden", items(n), store=sqlite_store),
        task=calling_echo,
        evaluators=[right],
        store=sqlite_store,
    )
    server.index_s, server.delay_s = index_s, 0.05
    doubtful = 0
    for _ in range(kills):
        process = child(sqlite_store, AGAIN)
        killed_when(process, functools.partial(more_than, server, len(server.spans)))
        with sqlite_store.read() as c:
            doubtful += '"doubtful":{}' not in str(c.scalar(sa.select(publications.c.remote)))
    report = one(publish(done.experiment_id, "datadog", store=sqlite_store))
    assert report.complete and doubtful and len(server.experiments) == 1
    assert len(server.rows()) == len(server.calls()) == n
    assert sum(map(len, server.metrics.values())) == n and values(server) == {f"r{i}": True for i in range(n)}


def more_than(server, n):
    return len(server.spans) > n


def test_rows_of_a_half_sent_batch_are_not_sent_again_after_other_batches(server, sqlite_store):
    "The connection is lost in the middle of the first of two batches, and nothing is shown for a long time"
    done = run_experiment(name="half", data=items(400), task=calling_echo, evaluators=[right], store=sqlite_store)
    take, requests = server.take_spans, []

    def take_the_first(request):
        requests.append(request)
        return take(request) if len(requests) == 1 else Reply(reset=True)

    server.index_s = 1000.0
    server.take_spans = take_the_first
    try:
        assert not one(publish(done.experiment_id, "datadog", store=sqlite_store, patience_s=0)).complete
    finally:
        del server.take_spans
    n_first = len(server.rows())
    assert 0 < n_first < 200
    publish(done.experiment_id, "datadog", store=sqlite_store, patience_s=0, resend_after_s=0)
    server.index_s = 0.0
    assert len(server.rows()) == 400
    assert one(publish(done.experiment_id, "datadog", store=sqlite_store)).complete


def test_rows_that_are_there_twice_are_counted_and_not_called_complete(server, sqlite_store):
    done = run_experiment(name="e", data=items(3), task=echo, evaluators=[right], store=sqlite_store, backend="datadog")
    server.spans.append({**server.rows()[0], "span_id": "4711"})
    report = one(publish(done.experiment_id, "datadog", store=sqlite_store))
    assert report.surplus == 1 and not report.complete and "more than once" in str(report)


def test_a_status_that_is_refused_is_an_error_and_set_the_next_time(server, sqlite_store):
    done = run_experiment(name="e", data=items(2), task=echo, evaluators=[right], store=sqlite_store)
    server.fail("PATCH", "/experiments/", Reply(400))
    report = one(publish(done.experiment_id, "datadog", store=sqlite_store))
    assert not report.complete and "400 to the status" in report.error
    server.faults.clear()
    report = one(publish(done.experiment_id, "datadog", store=sqlite_store))
    assert report.complete, dict(report)
    (experiment,) = server.experiments.values()
    assert experiment["attributes"]["status"] == "completed"


def test_another_project_gets_everything_and_a_deleted_dataset_is_pushed_again(server, sqlite_store):
    done = run_experiment(
        name="e",
        data=save_dataset("golden", items(3), store=sqlite_store),
        task=echo,
        evaluators=[right],
        store=sqlite_store,
    )
    for project in ("one", "two", "one"):
        assert one(publish(done.experiment_id, "datadog", store=sqlite_store, project_name=project)).complete
    assert len(server.experiments) == 2 and len(server.rows()) == 6
    server.datasets.clear()
    other = run_experiment(name="f", data=get_dataset("golden", store=sqlite_store), task=echo, store=sqlite_store)
    assert one(publish(other.experiment_id, "datadog", store=sqlite_store, project_name="one")).complete
    assert [d.name for d in server.datasets.values()] == ["golden"]


def stored(store):
    with store.read() as c:
        return c.scalar(sa.select(sa.func.count()).select_from(item_results))


@promise("datadog-15")
def test_bare_sdk_posts_once_per_record(sdk, server):
    sdk.experiment("e", lambda_task, sdk.create_dataset("d", records=records(20)), [right]).run(jobs=1)
    assert sum(p.endswith("/events") for p in server.paths()) >= 20


@promise("datadog-15")
def test_scores_go_together_and_are_not_computed_again(server, sqlite_store):
    judged = []

    def judge(input_data, output_data, expected_output):
        judged.append(input_data["i"])
        return True

    done = run_experiment(name="e", data=items(200), task=echo, evaluators=[judge], store=sqlite_store)
    assert len(judged) == 200
    assert one(publish(done.experiment_id, "datadog", store=sqlite_store)).complete and len(judged) == 200
    assert sum(p.startswith("POST") and p.endswith("/events") for p in server.paths()) <= 3


@promise("datadog-16")
def test_bare_times_of_another_day_are_refused(sdk, server):
    dataset = sdk.create_dataset("d", records=records(1))
    experiment = sdk.experiment("e", lambda_task, dataset, [right])
    experiment.run()
    old = datadog.metric(
        experiment._id,
        Evaluation("right", True),
        int((time.time() - 2 * 86400) * 1000),
        {"span_id": "1", "trace_id": "1"},
    )
    with pytest.raises(ValueError, match="24hr"):
        sdk._instance._dne_client.experiment_eval_post(experiment._id, [old], [])


@promise("datadog-16")
@pytest.mark.parametrize("days", [0, 5])
def test_rows_have_their_real_times_and_old_ones_say_so(server, sqlite_store, days):
    done = run_experiment(name="e", data=items(3), task=calling_echo, evaluators=[right], store=sqlite_store)
    moved = int(days * 86400 * 1e6)
    with sqlite_store.write() as c:
        c.execute(sa.update(traces).values(timestamp=now_us() - moved - 3_000_000, end_time=now_us() - moved - 500_000))
    assert one(publish(done.experiment_id, "datadog", store=sqlite_store)).complete
    for row in server.rows():
        assert abs(row["duration"] / 1e9 - 2.5) < 0.1 and abs(time.time() - row["start_ns"] / 1e9) < 60
        started = datetime.fromisoformat(row["meta"]["metadata"]["started_at"]).timestamp()
        assert abs(started - (time.time() - days * 86400)) < 60


@promise("datadog-16")
def test_scores_that_could_not_be_sent_for_days_arrive(server, sqlite_store):
    "Their rows are old by then, and a score with the time of its row would be refused"
    server.fail("POST", "/events$", Reply(503))
    done = run_experiment(name="e", data=items(3), task=echo, evaluators=[right], store=sqlite_store)
    assert not one(publish(done.experiment_id, "datadog", store=sqlite_store)).complete and len(server.rows()) == 3
    server.faults.clear()
    for span in server.spans:
        span["start_ns"] -= 2 * 86400 * 10**9
    assert one(publish(done.experiment_id, "datadog", store=sqlite_store)).complete
    assert len(server.rows()) == 3 and values(server) == dict.fromkeys(("r0", "r1", "r2"), True)


@promise("datadog-17")
def test_bare_sdk_drops_input_and_output_of_a_large_row(sdk, server):
    def large(input_data, config):
        return "x" * 6_000_000

    sdk.experiment("e", large, sdk.create_dataset("d", records=records(1)), [right]).run()
    (row,) = server.rows()
    assert "dropped" in str(row["meta"]["output"]) and "i" not in row["meta"]["input"]


@promise("datadog-17")
def test_a_large_row_keeps_its_input_and_pictures_stay_at_home(server, sqlite_store, tmp_path):
    (tmp_path / "forms").mkdir()
    picture = "data:image/png;base64," + "iVBORw0KGgo" * 60_000
    data = save_dataset(
        "golden",
        [
            {
                "id": "a",
                "input": {"image_paths": ["p1.jpg"], "inline": picture},
                "metadata": {"notes": "long " * 400_000},
            }
        ],
        root=tmp_path / "forms",
        store=sqlite_store,
    )
    done = run_experiment(
        name="e", data=data, task=lambda item: "x " * 3_000_000, store=sqlite_store, backend="datadog"
    )
    assert done.publication.complete
    (row,) = server.rows()
    assert "6000000 characters" in row["meta"]["output"] and row["meta"]["input"]["image_paths"] == ["p1.jpg"]
    assert "too large to publish" in row["meta"]["metadata"]["metadata"]
    sent = b"".join(r.body for r in server.requests)
    assert b"iVBORw0KGgoiVBOR" not in sent and str(tmp_path).encode() not in sent


# ── privacy ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@promise("datadog-18")
def test_nothing_is_sent_while_a_run_works_and_calls_to_google_carry_no_trace(server, sqlite_store, monkeypatch):
    LLMObs = datadog_sdk._sdk()
    seen = []
    with GeminiServer() as gemini:
        monkeypatch.setenv("GEMINI_API_KEY", "planted-gemini-key-1234567890")

        def ask(input_data):
            from google import genai

            client = genai.Client(api_key="planted-gemini-key-1234567890", http_options={"base_url": gemini.url})
            seen.append((LLMObs.enabled, len(server.requests)))
            return client.models.generate_content(model="gemini-2.5-flash", contents="read").text

        save_dataset("golden", items(2), store=sqlite_store)
        push_dataset("golden", store=sqlite_store)
        before = len(server.requests)
        found = run_model_experiments(
            dataset_name="golden",
            task_function=ask,
            evaluators=[right],
            summary_evaluators=[],
            model_configs=[{"model": "echo"}],
            store=sqlite_store,
            show_comparison=False,
        )
        headers = [h for r in gemini.requests for h in r.headers]
    assert found["publication"][0]["complete"]
    assert [enabled for enabled, _ in seen] == [False, False] and len({n for _, n in seen}) == 1 and seen[0][1] > before
    assert headers and not [h for h in headers if h.startswith(("x-datadog", "traceparent", "tracestate"))]
    kept = b"".join(r.body for r in server.requests)
    assert ENVIRONMENT["DD_API_KEY"].encode() not in kept and b"planted-gemini-key" not in kept


@promise("datadog-18")
def test_an_environment_that_switches_the_sdk_off_is_told(server, sqlite_store):
    done = run_experiment(name="e", data=items(1), task=echo, store=sqlite_store)
    with server.environment(DD_LLMOBS_ENABLED="0"):
        assert "DD_LLMOBS_ENABLED" in str(one(publish(done.experiment_id, "datadog", store=sqlite_store)))
