"""Experiments on Langfuse and InteractiveAI: the real SDKs' clients against a server on the loopback"""

import json
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest

pytest.importorskip("langfuse", reason="pip install 'vote-experiments[langfuse]'")
pytest.importorskip("interactiveai", reason="pip install 'vote-experiments[interactiveai]'")

from servers.langfuse_server import KEYS, LangfuseServer, decoded  # noqa: E402
from servers.loopback import Reply  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from vote_experiments.platforms import langfuse  # noqa: E402
from vote_experiments.datasets.dataset import get_dataset  # noqa: E402
from vote_experiments.datasets.saving import save_dataset, upsert_item  # noqa: E402
from vote_experiments.store.database import Store  # noqa: E402
from vote_experiments.experiments.experiment import run_experiment  # noqa: E402
from vote_experiments.experiments.comparison import run_model_experiments  # noqa: E402
from vote_experiments.platforms.platform import RemoteNotFoundError  # noqa: E402
from vote_experiments.platforms.publishing import publish, pull_dataset, push_dataset  # noqa: E402
from vote_experiments.cli.main import app  # noqa: E402
from vote_experiments.records import DatasetItem, Evaluation, Observation, Usage, observe  # noqa: E402

PLATFORMS = ("langfuse", "interactiveai")


@pytest.fixture(scope="module", params=PLATFORMS)
def running(request):
    with LangfuseServer(request.param.upper()) as server:
        server.name = request.param
        yield server


@pytest.fixture
def server(running, monkeypatch, tmp_path):
    "An empty platform, and an environment that leads to it"
    monkeypatch.chdir(tmp_path)
    running.wipe()
    with running.environment():
        yield running


def items(n):
    return [
        {"id": f"r{i}", "input": {"i": i}, "expected_output": {"i": i}, "metadata": {"level": "scan"}} for i in range(n)
    ]


def task(item):
    began = time.time()
    observe(
        Observation(
            "read the form",
            "GENERATION",
            began - 1,
            began,
            "what is on it?",
            {"votes": 1},
            model="gemini-2.5-flash",
            model_version="gemini-2.5-flash-001",
            usage=Usage(10, 5, 3, 4),
            cost_usd=0.001,
        )
    )
    if item.input["i"] == 2:
        raise ValueError("unreadable")
    return item.input


def right(output, expected_output):
    return {
        "name": "right",
        "value": output == expected_output,
        "comment": "compared",
    }  # a dict: lost by InteractiveAI's own


def grade(output):
    return "good"


def share(output):
    return None if output["i"] == 1 else 0.5


def broken(output):
    raise RuntimeError("no judge")


EVALUATORS = [right, grade, share, broken]


def run(store, server, n=4, **more):
    data = save_dataset("golden", items(n), store=store)
    return run_experiment(
        name="e", data=data, task=task, evaluators=EVALUATORS, store=store, backend=server.name, **more
    )


def of_run(server):
    return {s["name"]: s for s in server.scores.values() if "datasetRunId" in s}


def one(reports):
    assert len(reports) == 1
    return reports[0]


def test_a_run_arrives_whole(server, sqlite_store):
    done = run(
        sqlite_store,
        server,
        run_evaluators=[lambda item_results: Evaluation("n", len(item_results))],
        description="nightly",
    )
    report = done.publication
    assert report.complete and (report.rows, report.scores, report.spans) == (4, 8, 4), str(report)
    assert done.url.startswith(server.url) and report.n_scores == 3 + 3 + 2
    rows = {decoded(s.attributes["langfuse.observation.input"])["i"]: s for s in server.rows()}
    assert set(rows) == {0, 1, 2, 3}
    assert {s.trace_id for s in rows.values()} == {r.trace_id for r in (*done.item_results, *done.failed_items)}
    failed = rows[2].attributes
    assert failed["langfuse.observation.level"] == "ERROR" and "unreadable" in failed["langfuse.observation.output"]
    assert decoded(rows[0].attributes["langfuse.observation.output"]) == {"i": 0}
    assert decoded(rows[0].attributes["langfuse.experiment.item.expected_output"]) == {"i": 0}
    assert "no judge" in rows[0].attributes["langfuse.observation.metadata.evaluator_failures"]
    assert of_run(server)["n"]["value"] == 3.0


def test_model_calls_hang_below_their_item_at_their_real_times(server, sqlite_store):
    done = run(sqlite_store, server)
    rows = {s.span_id: s for s in server.rows()}
    assert len(server.calls()) == 4 and all(
        c.parent_id in rows and c.trace_id == rows[c.parent_id].trace_id for c in server.calls()
    )
    call = server.calls()[0]
    assert 0.9 < (call.end_ns - call.start_ns) / 1e9 < 1.1 and abs(call.end_ns / 1e9 - time.time()) < 60
    a = call.attributes
    assert a["langfuse.observation.type"] == "generation" and a["langfuse.observation.model.name"] == "gemini-2.5-flash"
    assert decoded(a["langfuse.observation.usage_details"])["output_reasoning_tokens"] == 3
    assert decoded(a["langfuse.observation.cost_details"]) == {"total": 0.001}
    assert decoded(a["langfuse.observation.output"]) == {"votes": 1} and a["langfuse.experiment.name"] == done.run_name


def test_scores_keep_their_kinds_and_hang_on_their_item(server, sqlite_store):
    run(sqlite_store, server)
    kinds = {s["name"]: (s["value"], s.get("dataType") or s.get("data_type")) for s in server.scores.values()}
    assert kinds == {"right": (1.0, "BOOLEAN"), "grade": ("good", "CATEGORICAL"), "share": (0.5, "NUMERIC")}
    rows = {s.trace_id: s.span_id for s in server.rows()}
    assert all(rows[s["traceId"]] == s["observationId"] for s in server.scores.values())
    assert {s["comment"] for s in server.scores.values() if s["name"] == "right"} == {"compared"}


def test_publishing_again_changes_nothing(server, sqlite_store):
    done = run(sqlite_store, server)
    before = (server.n_spans, dict(server.scores), list(server.run_items))
    for _ in range(2):
        assert one(publish(done.experiment_id, server.name, store=sqlite_store)).complete
    assert (server.n_spans, server.scores, server.run_items) == before
    assert len(server.run_items) == (4 if server.name == "interactiveai" else 0)


@pytest.mark.parametrize("path", ["otel", "scores"])
def test_an_outage_is_told_and_the_rest_sent_later(server, sqlite_store, path):
    server.fail("POST", path, Reply(400, {"message": "no"}))
    report = run(sqlite_store, server).publication
    assert not report.complete and report.scores == 0 and "400" in report.error or "did not take" in report.error
    assert "vote-experiments publish" in str(report)
    server.faults.clear()
    assert one(publish("latest", store=sqlite_store)).complete
    assert len(server.rows()) == 4 and len(server.scores) == 8


def test_refused_scores_are_no_silent_loss(server, sqlite_store):
    if server.name != "langfuse":
        pytest.skip("InteractiveAI takes scores one by one")
    server.fail(
        "POST",
        "scores$",
        Reply(
            207, {"accepted": 7, "rejected": 1, "errors": [{"index": 0, "message": "value too long", "status": 400}]}
        ),
    )
    assert "refused 1 of 8 scores: value too long" in run(sqlite_store, server).publication.error


def test_large_rows_go_in_more_requests(server, sqlite_store):
    done = run_experiment(
        name="large", data=items(20), task=lambda item: "x " * 150_000, store=sqlite_store, backend=server.name
    )
    sizes = [len(r.body) for r in server.requests if "otel" in r.path]
    assert done.publication.complete and len(sizes) > 2 and max(sizes) < 3_000_000


def test_a_server_that_is_down_costs_nothing(server, sqlite_store, monkeypatch):
    monkeypatch.setenv(f"{server.prefix}_BASE_URL", "http://127.0.0.1:9")
    done = run(sqlite_store, server)
    assert done.status == "finished" and (done.publication.rows, done.publication.n_rows) == (0, 4)
    monkeypatch.setenv(f"{server.prefix}_BASE_URL", server.url)
    assert one(publish(done.experiment_id, store=sqlite_store)).complete


@pytest.mark.parametrize("key", KEYS)
def test_keys_are_asked_for_by_name(server, sqlite_store, key):
    asked = []
    with (
        server.environment(**{f"{server.prefix}_{key}": None}),
        pytest.raises(ValueError, match=f"{server.prefix}_{key}"),
    ):
        run_experiment(name="e", data=items(1), task=asked.append, backend=server.name, store=sqlite_store)
    with (
        server.environment(**{f"{server.prefix}_{key}": "wrong-key-000"}),
        pytest.raises(ValueError, match="refused the keys") as told,
    ):
        run_experiment(name="e", data=items(1), task=asked.append, backend=server.name, store=sqlite_store)
    assert not asked and "wrong-key-000" not in str(told.value)


def test_a_dataset_goes_there_and_comes_back(server, sqlite_store, tmp_path):
    (tmp_path / "forms").mkdir()
    data = [
        {
            "id": f"แบบ/{k}",
            "input": {"image_paths": [f"{k}.jpg"]},
            "expected_output": None if k == 2 else {"v": k},
            "metadata": {"level": "scan", "tags": ["split:test"]},
        }
        for k in range(60)
    ]  # more than a page
    save_dataset("ชุด ทดสอบ/1", data, root=tmp_path / "forms", store=sqlite_store, description="sixty")
    push_dataset("ชุด ทดสอบ/1", server.name, store=sqlite_store)
    other = Store(tmp_path / "other.db")
    pulled = pull_dataset(server.name, "ชุด ทดสอบ/1", store=other)
    assert {i.id: i for i in pulled} == {
        d["id"]: DatasetItem(d["id"], d["input"], d["expected_output"], d["metadata"]) for d in data
    }
    assert pull_dataset(server.name, "ชุด ทดสอบ/1", store=other).version == 1
    posts = sum(r.method == "POST" for r in server.requests)
    push_dataset("ชุด ทดสอบ/1", server.name, store=sqlite_store)
    assert sum(r.method == "POST" for r in server.requests) == posts
    upsert_item("ชุด ทดสอบ/1", {"id": "แบบ/7", "input": 7}, store=sqlite_store)
    push_dataset("ชุด ทดสอบ/1", server.name, store=sqlite_store)
    assert pull_dataset(server.name, "ชุด ทดสอบ/1", store=other).item("แบบ/7").input == 7


def test_the_same_item_may_be_in_two_datasets(server, sqlite_store):
    for name in ("golden-v1", "golden-v2"):
        push_dataset(save_dataset(name, items(2), store=sqlite_store), server.name, store=sqlite_store)
    assert [len(server.items[n]) for n in ("golden-v1", "golden-v2")] == [2, 2]


def test_a_picture_inside_an_input_is_pushed_once(server):
    "What is compared is what was sent: the picture itself never arrives"
    item = DatasetItem("form-1", {"page": "data:image/png;base64," + "A" * 4000})
    with langfuse.open_backend(server.name).connected() as there:
        for _ in range(2):
            there.push_dataset("golden", [item])
    assert sum(r.method == "POST" and "item" in r.path for r in server.requests) == 1


def test_items_that_are_gone_here_are_taken_out_there(server):
    with langfuse.open_backend(server.name).connected() as there:
        there.push_dataset("golden", [DatasetItem("a", 1), DatasetItem("b", 2)])
        there.push_dataset("golden", [DatasetItem("b", 2)])
        assert [i.id for i in there.pull_dataset("golden").items] == ["a", "b"]
        there.push_dataset("golden", [DatasetItem("b", 2)], remove_missing=True)
        assert [i.id for i in there.pull_dataset("golden").items] == ["b"]
        kept = {i["metadata"]["local_item_id"]: i["status"] for i in server.items["golden"].values()}
        assert kept == {"a": "ARCHIVED", "b": "ACTIVE"}, "archived there, so that it can be brought back"
        there.push_dataset("golden", [DatasetItem("a", 1), DatasetItem("b", 2)])
        assert [i.id for i in there.pull_dataset("golden").items] == ["a", "b"]


def test_what_fails_while_connected_is_not_blamed_on_the_keys(server):
    with pytest.raises(KeyError, match="of the caller"), langfuse.open_backend(server.name).connected():
        raise KeyError("of the caller")


def test_what_is_not_there_is_named(server, sqlite_store):
    push_dataset(save_dataset("golden", items(1), store=sqlite_store), server.name, store=sqlite_store)
    asked = []
    with pytest.raises(RemoteNotFoundError, match="no dataset 'goldne'; it has 'golden'"):
        run_model_experiments(
            backend=server.name, dataset_name="goldne", task_function=asked.append, store=sqlite_store
        )
    with pytest.raises((RemoteNotFoundError, ValueError), match="present version|moments in time"):
        pull_dataset(server.name, "golden", 3, store=sqlite_store)
    assert not asked


def test_model_experiments_run_over_a_dataset_there(server, sqlite_store, capsys):
    push_dataset(save_dataset("golden", items(2), store=sqlite_store), server.name, store=sqlite_store)
    other = Store(sqlite_store.path.with_name("other.db"))
    found = run_model_experiments(
        backend=server.name,
        dataset_name="golden",
        task_function=lambda input_data: input_data,
        evaluators=[right],
        summary_evaluators=[],
        model_configs=[{"model": "a"}, {"model": "b"}],
        store=other,
    )
    out = capsys.readouterr().out
    assert all(p["complete"] for p in found["publication"]) and out.count("published 2/2 rows") == 2
    assert all(e["url"].startswith(server.url) for e in found["experiments"]) and found["comparison_url"].startswith(
        server.url
    )
    names = {s.attributes["langfuse.experiment.name"] for s in server.rows()}
    assert len(names) == 2 and len(server.rows()) == 4  # two runs, told apart from later ones by their time
    assert {s.attributes["langfuse.experiment.item.id"] for s in server.rows()} == set(server.items["golden"])
    again = run_model_experiments(
        backend=server.name,
        dataset_name="golden",
        task_function=lambda input_data: input_data,
        evaluators=[right],
        summary_evaluators=[],
        model_configs=[{"model": "a"}, {"model": "b"}],
        store=other,
        show_comparison=False,
    )
    assert again["publication"][0]["complete"] and get_dataset("golden", store=other).version == 1


def test_the_shell_publishes_there(server, sqlite_store, monkeypatch):
    monkeypatch.setenv("VOTE_EXPERIMENTS_STORE", sqlite_store.url)
    done = run_experiment(name="e", data=items(2), task=task, evaluators=[right], store=sqlite_store)
    shown = CliRunner().invoke(app, ["publish", done.experiment_id, "--backend", server.name, "--json"])
    assert shown.exit_code == 0 and json.loads(shown.stdout)[0]["complete"]
    kept = sqlite_store.path.read_bytes() + shown.output.encode()
    assert KEYS["SECRET_KEY"].encode() not in kept


def test_langfuse_versions_are_moments(sqlite_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with LangfuseServer() as server, server.environment():
        push_dataset(save_dataset("golden", items(1), store=sqlite_store), "langfuse", store=sqlite_store)
        when = datetime.now(UTC).isoformat()
        pull_dataset("langfuse", "golden", when, store=Store(tmp_path / "other.db"))
        asked = [r.query["version"][0] for r in server.requests if "version" in r.query]
        assert asked and abs(datetime.fromisoformat(asked[0].replace("Z", "+00:00")).timestamp() - time.time()) < 60


BARE = """
import json, sys
if sys.argv[1] == "langfuse":
    from langfuse import Langfuse as Client
else:
    from interactiveai import Interactive as Client
client = Client(public_key=sys.argv[3], secret_key=sys.argv[4], base_url=sys.argv[2])

def task(*, item, **_):
    if item["input"] == 2:
        raise ValueError("unreadable")
    return item["input"]

def as_dict(*, output, **_):
    return {"name": "as_dict", "value": True}

def as_evaluation(*, output, **_):
    from importlib import import_module
    return import_module(sys.argv[1]).Evaluation(name="as_evaluation", value=True)

result = client.run_experiment(name="bare", data=[{"input": i} for i in range(4)], task=task, evaluators=[as_dict, as_evaluation])
client.flush()
print(len(result.item_results))
"""


def test_the_bare_sdks_lose_what_ours_keeps(server, tmp_path):
    "Failed items vanish from the result; a bool becomes the number 1; InteractiveAI loses evaluations that are dicts"
    done = subprocess.run(
        [sys.executable, "-c", BARE, server.name, server.url, *KEYS.values()],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split()[-1:] == ["3"], done.stderr[-2000:]
    found = {(s["name"], s["value"], s.get("dataType")) for s in server.scores.values()}
    assert ("as_evaluation", 1.0, "BOOLEAN") not in found and any(n == "as_evaluation" for n, *_ in found)
    assert any(n == "as_dict" for n, *_ in found) == (server.name == "langfuse")


@pytest.mark.parametrize("generation", [3, 4, 5])
def test_servers_of_each_generation_get_the_whole_run_once(generation, sqlite_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with LangfuseServer(generation=generation) as server, server.environment():
        server.name = "langfuse"
        done = run(sqlite_store, server, run_evaluators=[lambda item_results: Evaluation("n", len(item_results))])
        report = done.publication
        assert report.complete and (report.rows, report.scores, report.spans) == (4, 8, 4), str(report)
        assert (len(server.rows()), len(server.calls()), len(server.scores)) == (4, 4, 9)
        runs = 4 if generation < 5 else 0
        assert len(server.run_items) == runs and of_run(server)["n"]["value"] == 3.0
        assert ("8/8 scores" in str(report).partition("sent")[2]) == (generation < 5), "not read back, not published"
        assert one(publish(done.experiment_id, "langfuse", store=sqlite_store)).complete
        assert (server.n_spans, len(server.run_items)) == (8, runs)
        assert all("langfuse.experiment.item.version" in s.attributes for s in server.rows())


def test_a_server_that_cannot_take_spans_is_refused_before_the_run_starts(sqlite_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    n_calls = []
    with LangfuseServer(generation=2) as server, server.environment():
        with pytest.raises(ValueError, match="version 2.95.11 .* update it to 3.22 or later"):
            run_experiment(name="e", data=items(1), task=n_calls.append, store=sqlite_store, backend="langfuse")
    assert not n_calls and not server.rows()


@pytest.mark.parametrize("path", ["otel", "scores"])
def test_suspended_ingestion_is_not_reported_as_wrong_keys(server, sqlite_store, path):
    server.fail("POST", path, Reply(403, {"message": "Ingestion suspended: Usage threshold exceeded."}))
    report = run(sqlite_store, server).publication
    assert "Ingestion suspended" in report.error and "keys" not in report.error
