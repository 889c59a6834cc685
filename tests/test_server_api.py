"""The HTTP API against a live server on 127.0.0.1: the documented requests, refusals, attacks, kills."""

import collections
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promises import promise
from servers.loopback import kept_port
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.store.runs import list_experiments
from vote_experiments.store.run_totals import status_counts
from vote_experiments.store.database import Store
from vote_experiments.store.tables import item_results
from vote_experiments.server.jobs import get_job, list_jobs
from vote_experiments.server.api import make_app
from vote_experiments.server.client import ApiError, ExperimentsClient
from vote_experiments.settings import VARIABLES

SERVER = Path(__file__).parent / "servers" / "api_server.py"
TRUTH = {"form_info": {"form_type": "Constituency"}, "vote_results": [{"number": 1, "vote_count": 200}]}
KEY, OTHER = "key-of-ci-0123456789", "key-of-anna-0123456789"
BANGBAMRU = "vote-extraction-bangbamru-1-10"
ROOT = "/api/v1/experiments"
PLANTED = "planted-gemini-secret-0123456789"


class Running:
    "A server process and what it wrote"

    def __init__(
        self, folder: Path, port: int, *limits: str, api_key: str = f"ci:{KEY},anna:{OTHER}", store: str | None = None
    ):
        self.folder, self.port, self.limits, self.api_key = folder, port, limits, api_key
        self.url, self.log = f"http://127.0.0.1:{self.port}", folder / "server.log"
        self.calls, self.store = folder / "calls.txt", store or str(folder / "store.db")

    def start(self) -> "Running":
        clean = {k: v for k, v in os.environ.items() if k not in {v.name for v in VARIABLES}}
        env = {
            **clean,
            "API_KEY": self.api_key,
            "GEMINI_API_KEY": PLANTED,
            "VOTE_EXPERIMENTS_RUNS": str(self.folder / "runs"),
        }
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(SERVER), str(self.port), self.store, str(self.calls), *self.limits],
                cwd=self.folder,
                env=env,
                stderr=log,
                stdout=log,
                start_new_session=True,
            )
        until = time.monotonic() + 90
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health").status_code == 200:
                    return self
            assert self.process.poll() is None and time.monotonic() < until, self.log.read_text()
            time.sleep(0.1)

    def end(self, sig: int = signal.SIGTERM) -> int:
        self.process.send_signal(sig)
        return self.process.wait(60)

    def kill(self) -> None:
        "Server and worker at the same instant, as when the power fails"
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)

    def client(self, key: str = KEY) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"X-API-Key": key}, timeout=60)


def seed(store: Store) -> None:
    for name, n in ((BANGBAMRU, 10), ("stations", 6), ("long", 20)):
        save_dataset(
            name,
            [{"id": f"f{i}", "input": {"image_paths": [f"{i}.jpg"]}, "expected_output": TRUTH} for i in range(n)],
            store=store,
        )


@contextlib.contextmanager
def running(folder: Path, *limits: str, **more):
    store = Store(more.get("store") or folder / "store.db")
    seed(store), store.close()
    with kept_port() as port:
        server = Running(folder, port, *limits, **more).start()
        try:
            yield server
        finally:
            if server.process.poll() is None:
                server.end()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(
        tmp_path_factory.mktemp("api"), "rate_per_minute=60000", "rate_burst=5000", "sample_size=100"
    ) as found:
        yield found


@pytest.fixture
def http(server):
    with server.client() as client:
        yield client


def asked(**more):
    return {"dataset_name": "stations", "model_configs": [{"model": "quick", "temperature": 0.0}], **more}


# ------------------------------------------------------------------------------------------- the documented conversation
GUIDE = {
    "one model": """curl -X POST http://localhost:8000/api/v1/experiments/run -H "Content-Type: application/json" -H "X-API-Key: $API_KEY" \
-d '{"dataset_name": "vote-extraction-bangbamru-1-10", "model_configs": [{"model": "gemini-2.5-flash", "temperature": 0.0,
"name_suffix": "baseline"}], "sample_size": 10, "jobs": 2}'""",
    "ci, sent as a form": """curl -X POST http://localhost:8000/api/v1/experiments/run -H "X-API-Key: $API_KEY" \
-d '{"dataset_name": "vote-extraction-bangbamru-1-10", "model_configs": [
{"model": "gemini-2.5-flash-lite", "temperature": 0.0, "name_suffix": "ci-lite"},
{"model": "gemini-2.5-flash", "temperature": 0.0, "name_suffix": "ci-flash"}], "sample_size": 4, "jobs": 2}'""",
    "three temperatures": """curl -X POST http://localhost:8000/api/v1/experiments/run -H "X-API-Key: $API_KEY" \
-d '{"dataset_name": "vote-extraction-bangbamru-1-10", "model_configs": [
{"model": "gemini-2.5-flash", "temperature": 0.0, "name_suffix": "t0.0"}, {"model": "gemini-2.5-flash", "temperature": 0.1, "name_suffix": "t0.1"},
{"model": "gemini-2.5-flash", "temperature": 0.2, "name_suffix": "t0.2"}], "jobs": 2}'""",
}


@promise("http-api-1")
@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize(
    "which, n, items", [("one model", 1, 10), ("ci, sent as a form", 2, 4), ("three temperatures", 3, 10)]
)
def test_the_curl_lines_of_the_guide(server, which, n, items):
    line = GUIDE[which].replace("http://localhost:8000", server.url)
    done = subprocess.run(
        ["bash", "-c", f"{line} --silent --fail-with-body"],
        env={**os.environ, "API_KEY": KEY},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (
        found["status"],
        found["total_experiments"],
        found["successful_experiments"],
        found["failed_experiments"],
    ) == ("success", n, n, 0)
    assert found["message"] == f"Successfully ran {n} experiment{'s' if n > 1 else ''}"
    assert (found["dataset_name"], found["dataset_size"], found["project_name"]) == (
        BANGBAMRU,
        10,
        "vote-extraction-project",
    )
    assert found["dataset_id"] and found["comparison_url"].startswith(server.url)
    assert len(found["experiments"]) == n
    for e in found["experiments"]:
        assert {
            "experiment_id",
            "experiment_name",
            "experiment_url",
            "model",
            "temperature",
            "status",
            "total_records",
            "successful_records",
            "failed_records",
            "overall_accuracy",
            "success_rate",
            "avg_ballot_accuracy",
        } <= e.keys()
        assert (e["total_records"], e["successful_records"], e["failed_records"], e["success_rate"]) == (
            items,
            items,
            0,
            1.0,
        )
        page = httpx.get(e["experiment_url"], headers={"X-API-Key": KEY})
        assert page.status_code == 200 and e["experiment_name"] in page.text and str(server.folder) not in page.text


@promise("http-api-2")
def test_the_whole_documented_request(http):
    found = http.post(
        f"{ROOT}/run",
        json={
            "ml_app": "vote-extractor",
            "site": "datadoghq.com",
            "agentless_enabled": True,
            "project_name": "vote-extraction-project",
            "dataset_name": BANGBAMRU,
            "dataset_version": None,
            "model_configs": [
                {
                    "model": "gemini-2.5-flash",
                    "temperature": 0.0,
                    "name_suffix": "baseline",
                    "metadata": {"purpose": "baseline test"},
                },
                {
                    "model": "gemini-2.5-flash-lite",
                    "temperature": 0.0,
                    "name_suffix": "lite",
                    "metadata": {"purpose": "cost optimization"},
                },
            ],
            "sample_size": 10,
            "jobs": 2,
            "raise_errors": True,
        },
    )
    assert found.status_code == 200 and [e["experiment_name"] for e in found.json()["experiments"]] == [
        "vote-extraction-baseline",
        "vote-extraction-lite",
    ]


@promise("http-api-3")
def test_the_python_of_the_guide(server, tmp_path):
    program = textwrap.dedent(f"""
        import httpx

        response = httpx.post(
            "{server.url}/api/v1/experiments/run",
            json={{"dataset_name": "{BANGBAMRU}", "model_configs": [{{"model": "gemini-2.5-flash", "temperature": 0.0, "name_suffix": "baseline"}}],
                  "sample_size": 10, "jobs": 2}},
            headers={{"X-API-Key": "{KEY}"}},
            timeout=600.0,
        )

        result = response.json()
        print(f"Comparison URL: {{result['comparison_url']}}")
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"Comparison URL: {server.url}/api/v1/experiments/runs/grp_")


@promise("http-api-4")
def test_run_async_is_followed_to_its_end(http):
    accepted = http.post(f"{ROOT}/run-async", json={**asked(), "sample_size": 100, "jobs": 4})
    assert accepted.status_code == 202
    said = accepted.json()
    assert (said["status"], said["message"]) == ("accepted", "Experiments started in background") and said[
        "task_id"
    ] in said["note"]
    with http.stream("GET", f"{ROOT}/tasks/{said['task_id']}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        told = [line.partition(": ")[2] for line in stream.iter_lines() if line.startswith(("event:", "data:"))]
    assert told[-2] == "end" and set(told[::2]) <= {"progress", "end"}
    task = json.loads(told[-1])
    assert (task["state"], task["progress"]["items_done"], task["result"]["status"]) == ("success", 6, "success")
    assert http.get(f"/tasks/{said['task_id']}").json() == http.get(f"{ROOT}/tasks/{said['task_id']}").json() == task


@promise("http-api-5")
def test_health_needs_no_key_and_says_what_is_configured(server):
    for path in ("/health", f"{ROOT}/health"):
        found = httpx.get(server.url + path)
        assert found.status_code == 200
        assert found.json() == {
            "status": "healthy",
            "service": "experiments",
            "datadog_configured": False,
            "api_key_configured": True,
            "gemini_configured": True,
            "store": "ok",
            "worker": "ok",
            "note": found.json()["note"],
        }


@promise("http-api-6")
def test_what_was_run_is_listed_shown_compared_and_read_item_by_item(http):
    ran = http.post(
        f"{ROOT}/run",
        json=asked(raise_errors=False, model_configs=[{"model": "quick", "name_suffix": "q"}, {"model": "torn"}]),
    ).json()
    assert (ran["status"], ran["message"]) == ("partial", "Ran 2 experiments, 1 of them failed")
    assert http.get(f"{ROOT}/runs").json()["runs"][0]["run"] == ran["run"]
    assert {"name": "stations", "version": 1, "n_items": 6, "description": None} in http.get(f"{ROOT}/datasets").json()[
        "datasets"
    ]
    detail = http.get(f"{ROOT}/runs/{ran['run']}").json()
    assert [e["experiment_name"] for e in detail["experiments"]] == [
        "vote-extraction-q",
        "vote-extraction-torn-tdefault",
    ]
    page = http.get(f"{ROOT}/runs/{ran['run']}/items", params={"offset": 4, "limit": 4}).json()
    assert (page["total"], [i["status"] for i in page["items"]]) == (12, ["ok", "ok", "failed", "failed"])
    assert http.get(f"{ROOT}/runs/{ran['run']}/items", params={"status": "failed"}).json()["total"] == 6
    compared = http.get(f"{ROOT}/runs/{ran['run']}/compare")
    assert compared.status_code == 200 and compared.json()["sentences"]
    assert http.get(f"{ROOT}/runs/{ran['run']}/compare", params={"score": "none"}).status_code == 422
    assert http.get(f"{ROOT}/runs/latest").json()["run"] == "latest"


@promise("http-api-22")
def test_the_client(server, monkeypatch):
    with ExperimentsClient(server.url, KEY) as client:
        ran = client.run(**asked())
        assert client.health()["status"] == "healthy" and client.runs(limit=1)[0]["run"] == ran["run"]
        assert len(list(client.items(ran["run"]))) == 6 and "vote-extraction-quick" in client.report(ran["run"])
        assert client.compare(ran["run"])["best"] and client.get(ran["run"])["experiments"]
        task_id = client.run_async(**asked(dataset_name="long", cache=False, model_configs=[{"model": "slow"}], jobs=2))
        kinds = [kind for kind, _ in client.events(task_id)]
        assert kinds[-1] == "end" and "progress" in kinds and client.wait(task_id)["state"] == "success"
        assert client.task(task_id) in client.tasks("success")
        with pytest.raises(ApiError, match="temperature") as refused:
            client.run(**asked(model_configs=[{"model": "quick", "temperature": 2}]))
        assert refused.value.status == 422 and refused.value.request_id
        with pytest.raises(ApiError, match="no job"):
            list(client.events("job_none"))
    monkeypatch.setenv("API_KEY", f"ci:{KEY},anna:{OTHER}")
    monkeypatch.setenv("API_BASE_URL", server.url)
    with ExperimentsClient() as client:
        assert client.tasks()


# ------------------------------------------------------------------------------------------- refusals
@promise("http-api-7")
@pytest.mark.parametrize(
    "change, where",
    [
        ({"model_configs": []}, "model_configs"),
        ({"model_configs": None}, "model_configs"),
        ({"dataset_name": None}, "dataset_name"),
        ({"sample_size": 0}, "sample_size"),
        ({"jobs": 0}, "jobs"),
        ({"jobs": 17}, "jobs"),
        ({"sample_size": 101}, "sample_size"),
        ({"repeats": 11}, "repeats"),
        ({"unknown": 1}, "unknown"),
        ({"model_configs": [{"model": "quick", "temperature": 1.01}]}, "temperature"),
        ({"model_configs": [{"model": "quick", "temperature": -0.1}]}, "temperature"),
        ({"model_configs": [{"model": "quick", "temprature": 0}]}, "temprature"),
        ({"model_configs": [{"model": "quick"}] * 2}, "name_suffix"),
        ({"model_configs": [{"model": "quick", "name_suffix": str(i)} for i in range(21)]}, "allows (20)"),
        ({"model_configs": [{"model": "ocr-fussed"}]}, "ocr-fused"),
        ({"backend": "datadog"}, "DD_API_KEY"),
        ({"max_cost_usd": 0}, "max_cost_usd"),
        ({"stratify_by": "nothing"}, "stratify_by"),
    ],
)
def test_a_field_that_is_wrong_is_a_422_that_names_it(http, change, where):
    found = http.post(f"{ROOT}/run", json={**asked(), **change})
    assert found.status_code == 422, found.text
    assert where in json.dumps(found.json()["detail"]) and all(
        {"loc", "msg", "type"} == set(d) for d in found.json()["detail"]
    )


@promise("http-api-8")
def test_keys(server):
    paths = [
        ("GET", f"{ROOT}/runs"),
        ("GET", f"{ROOT}/datasets"),
        ("POST", f"{ROOT}/run"),
        ("POST", f"{ROOT}/run-async"),
        ("GET", f"{ROOT}/tasks/x"),
        ("DELETE", f"{ROOT}/tasks/x"),
        ("GET", f"{ROOT}/nothing"),
        ("GET", "/tasks/x"),
        ("OPTIONS", f"{ROOT}/run"),
    ]
    with httpx.Client(base_url=server.url) as nobody:
        for key, (method, path) in itertools.product((None, "", "wrong", KEY + "x", KEY[:-1], f"ci:{KEY}"), paths):
            found = nobody.request(method, path, headers={} if key is None else {"X-API-Key": key})
            assert found.status_code == 401 and found.json()["detail"].startswith("Missing or invalid API key")
    with server.client(OTHER) as anna, server.client() as ci:
        task_id = ci.post(f"{ROOT}/run-async", json=asked()).json()["task_id"]
        assert anna.get(f"{ROOT}/tasks/{task_id}").status_code == 200
        assert anna.delete(f"{ROOT}/tasks/{task_id}").status_code == 403
        ci.post(f"{ROOT}/run", json=asked())
        while ci.get(f"{ROOT}/tasks/{task_id}").json()["state"] in ("queued", "running"):
            time.sleep(0.05)
        assert ci.delete(f"{ROOT}/tasks/{task_id}").status_code == 409


@promise("http-api-9")
def test_without_a_configured_key_nothing_but_health_answers(tmp_path):
    with TestClient(make_app(tmp_path / "store.db", keys="")) as http:
        for path in ("/docs", "/openapi.json", f"{ROOT}/runs", "/", "/tasks/x"):
            for headers in ({}, {"X-API-Key": ""}, {"X-API-Key": "anything"}):
                found = http.get(path, headers=headers)
                assert found.status_code == 503 and "API key not configured" in found.json()["detail"]
        assert http.post(f"{ROOT}/run", json=asked()).status_code == 503
        assert http.get(f"{ROOT}/health").json()["api_key_configured"] is False


@promise("http-api-10")
def test_what_is_not_there_is_a_404(server, http):
    for path in (
        "/tasks/job_0",
        "/tasks/job_0/events",
        "/runs/grp_0",
        "/runs/exp_0/items",
        "/runs/exp_0/compare",
        "/runs/exp_0/report",
        "/nothing",
    ):
        assert http.get(ROOT + path).status_code == 404
    found = http.post(f"{ROOT}/run", json=asked(dataset_name="staitons"))
    assert found.status_code == 404 and "stations" in found.json()["detail"]
    for name in ("staitons", "0"):  # near one, near none: neither message may say where the store is
        assert str(server.folder) not in http.post(f"{ROOT}/run-async", json=asked(dataset_name=name)).text
    found = http.post(f"{ROOT}/run", json=asked(dataset_version=99))
    assert found.status_code == 404 and "version 99" in found.json()["detail"]
    refused = http.put(f"{ROOT}/run")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    refused = http.put(f"{ROOT}/tasks/job_0")
    assert (refused.status_code, refused.headers["allow"]) == (405, "DELETE, GET")


def test_idle_connections_lock_no_one_out(tmp_path):
    with running(tmp_path, "connections=20", "head_s=600.0") as server, contextlib.ExitStack() as idle:
        for _ in range(200):
            idle.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        assert [httpx.get(f"{server.url}/health", timeout=60).status_code for _ in range(5)] == [200] * 5
        with server.client() as client:
            assert client.post(f"{ROOT}/run", json=asked()).status_code == 200


@promise("http-api-11")
def test_a_run_that_broke_off_is_a_500_without_internals(http):
    found = http.post(f"{ROOT}/run", json=asked(model_configs=[{"model": "torn"}]))
    assert found.status_code == 500
    detail = found.json()["detail"]
    assert (
        detail.startswith("Failed to run experiments: item 'f0' failed")
        and "secret-place" not in detail
        and "Traceback" not in detail
    )
    task = http.get(f"{ROOT}/tasks", params={"state": "failed"}).json()["tasks"][0]
    assert "secret-place" not in json.dumps(task)


@promise("http-api-12")
def test_too_much_is_refused(tmp_path):
    with (
        running(
            tmp_path,
            "body_bytes=2000",
            "body_s=0.4",
            "head_s=0.4",
            "rate_per_minute=1",
            "rate_burst=16",
            "open_jobs=2",
            "streams=1",
        ) as server,
        server.client() as http,
    ):
        assert http.post(f"{ROOT}/run", content=b"[" + b" " * 3000).status_code == 413
        assert (
            http.post(f"{ROOT}/run", content=iter([b" " * 1500] * 4)).status_code == 413
        )  # chunked: no length is said
        with socket.create_connection(("127.0.0.1", server.port)) as slow:
            slow.sendall(
                f"POST {ROOT}/run HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nContent-Length: 100\r\n\r\n{{".encode()
            )
            slow.settimeout(20)
            assert slow.recv(100).startswith(b"HTTP/1.1 408")
        whole = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
        for first, part in (
            (b"", b""),
            (b"", whole[:-2]),
            (whole, whole[:-2]),
        ):  # nothing, half a head, half a second one
            with socket.create_connection(("127.0.0.1", server.port)) as slow:
                slow.settimeout(20)
                slow.sendall(first)
                assert not first or slow.recv(65536).startswith(b"HTTP/1.1 200")
                slow.sendall(part)
                said = b"".join(iter(lambda: slow.recv(65536), b""))  # until it is closed
                assert b"HTTP/1.1 408" in said
        with socket.create_connection(("127.0.0.1", server.port)) as large:
            with contextlib.suppress(ConnectionError):
                large.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Large: " + b"a" * 200_000)
            large.settimeout(20)
            with contextlib.suppress(ConnectionError):
                assert large.recv(100)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431", b"")
        long = asked(dataset_name="long", cache=False, jobs=1, repeats=10, model_configs=[{"model": "slow"}])
        ids = [http.post(f"{ROOT}/run-async", json=long).json()["task_id"] for _ in range(2)]
        full = http.post(f"{ROOT}/run-async", json=long)
        assert (
            full.status_code == 429 and full.headers["retry-after"] == "30" and "2 are allowed" in full.json()["detail"]
        )
        with http.stream("GET", f"{ROOT}/tasks/{ids[0]}/events") as first:
            lines = first.iter_lines()  # kept: a client that lets go of it hangs up
            assert next(lines).startswith("id: ")
            assert http.get(f"{ROOT}/tasks/{ids[0]}/events").status_code == 429
        assert http.delete(f"{ROOT}/tasks/{ids[0]}").json()["state"] == "cancelled"
        codes = [http.get(f"{ROOT}/runs") for _ in range(8)]
        assert codes[-1].status_code == 429 and int(codes[-1].headers["retry-after"]) >= 1
        assert httpx.get(f"{server.url}{ROOT}/runs", headers={"X-API-Key": OTHER}).status_code == 200, (
            "each key has its own rate"
        )


# ------------------------------------------------------------------------------------------- attacks
@promise("http-api-13")
def test_every_answer_has_the_security_headers(server, http):
    for answer in (
        http.get("/health"),
        http.get("/docs"),
        http.get(f"{ROOT}/runs"),
        http.get(f"{ROOT}/nothing"),
        httpx.get(server.url + f"{ROOT}/runs"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["x-frame-options"] == "DENY"
        assert "content-security-policy" in answer.headers and re.fullmatch(
            r"[0-9a-f]{16}", answer.headers["x-request-id"]
        )
        assert "server" not in answer.headers and not any(h.startswith("access-control") for h in answer.headers)
    assert (
        http.get("/health", headers={"Origin": "https://evil.example"}).headers.get("access-control-allow-origin")
        is None
    )


@promise("http-api-13")
@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/runs/..%2f..%2f..%2fetc%2fpasswd/report",
        "/runs/%2e%2e/report",
        "/runs/%00/report",
        "/runs/....//....//etc/passwd",
        "/tasks/%2e%2e%2f%2e%2e",
        "/runs/" + "a" * 5000,
        "/runs/%ff%fe",
        "/runs/%/report",
    ],
)
def test_no_path_leads_out(server, path):
    with socket.create_connection(("127.0.0.1", server.port)) as raw:  # as it is: clients tidy paths up
        raw.sendall(f"GET {ROOT}{path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nConnection: close\r\n\r\n".encode())
        raw.settimeout(20)
        said = b"".join(iter(lambda: raw.recv(65536), b""))
    assert (
        re.match(rb"HTTP/1.1 4(00|04|22) ", said) and b"root:" not in said and str(server.folder).encode() not in said
    )


@promise("http-api-13")
def test_headers_are_not_injected(server):
    for name, value in (
        ("X-Request-ID", "a\r\nSet-Cookie: x=1"),
        ("X-Request-ID", "a\tb"),
        ("Host", 'evil.example/x?"<>'),
        ("X-Request-ID", "é" * 9),
    ):
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.sendall(
                f"POST {ROOT}/run-async HTTP/1.1\r\n{'' if name == 'Host' else 'Host: x'}\r\n".replace(
                    "\r\n\r\n", "\r\n"
                ).encode()
                + f"X-API-Key: {KEY}\r\nConnection: close\r\n{name}: {value}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
            )
            raw.settimeout(20)
            said = b"".join(iter(lambda: raw.recv(65536), b""))
        head = said.partition(b"\r\n\r\n")[0].lower()
        assert b"set-cookie" not in head and b"evil.example" not in said
    found = httpx.get(f"{server.url}/health", headers={"X-Request-ID": "deploy-17.a_b"})
    assert found.headers["x-request-id"] == "deploy-17.a_b"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(
        ["stations", "quick", "local", BANGBAMRU, "\ud800", "\x00", "1e999", "../../etc/passwd", "' OR 1=1 --", PLANTED]
    ),
    lambda s: (
        st.lists(s, max_size=4)
        | st.dictionaries(
            st.text(max_size=8) | st.sampled_from(["model", "temperature", "dataset_name"]), s, max_size=4
        )
    ),
    max_leaves=12,
)
FIELDS = [
    "dataset_name",
    "model_configs",
    "sample_size",
    "jobs",
    "raise_errors",
    "backend",
    "dataset_version",
    "project_name",
    "cache",
    "repeats",
    "timeout_s",
    "stratify_by",
    "sample_seed",
    "max_cost_usd",
    "site",
    "ml_app",
    "report",
]
BODIES = JSON | st.builds(
    lambda d, extra: {**asked(), "sample_size": 1, **d, **extra},
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=2),
    st.dictionaries(st.text(max_size=5), JSON, max_size=1),
)


def no_harm(server, http, body):
    found = http.post(f"{ROOT}/run-async", content=json.dumps(body).encode())
    assert found.status_code in (202, 400, 404, 422), (body, found.status_code, found.text)
    assert not re.search(re.escape(str(server.folder)) + r"|Traceback|site-packages|" + PLANTED, found.text)
    if found.status_code == 202:
        http.delete(f"{ROOT}/tasks/{found.json()['task_id']}")


@promise("http-api-14")
@settings(max_examples=120, suppress_health_check=list(HealthCheck))
@given(body=BODIES)
def test_random_bodies_do_no_harm(server, http, body):
    no_harm(server, http, body)


@promise("http-api-14")
@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=10_000, suppress_health_check=list(HealthCheck))
@given(body=BODIES)
def test_ten_thousand_random_bodies_do_no_harm(server, http, body):
    no_harm(server, http, body)


@promise("http-api-14")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"1" * 5000,
        b"NaN",
        b'"\\ud800"',
        b'{"\\ud800": 1}',
        b"null",
        b'{"dataset_name": "stations", "model_configs": [{"model": "quick", "\\u0000": 1}]}',
    ],
)
def test_bodies_that_are_no_requests(http, body):
    assert http.post(f"{ROOT}/run", content=body).status_code in (400, 422)
    assert http.get("/health").status_code == 200


@promise("http-api-16")
@pytest.mark.browser
def test_the_documentation_needs_nothing_from_elsewhere_and_its_forms_work(server, chromium):
    tab, elsewhere, complaints = chromium.new_page(), [], []
    tab.route(
        "**/*",
        lambda route: (
            route.continue_()
            if route.request.url.startswith(server.url)
            else (elsewhere.append(route.request.url), route.abort())
        ),
    )
    tab.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    tab.on("pageerror", lambda e: complaints.append(str(e)))
    tab.goto(f"{server.url}/docs")
    assert tab.locator("details[id]").count() >= 13 and not tab.get_by_text("With curl").first.is_visible()
    tab.locator("summary", has_text=f"{ROOT}/run ").first.click()
    form = tab.locator(f"form[data-path='{ROOT}/run']")
    form.get_by_role("button", name="Send").click()
    form.locator("pre", has_text="401").wait_for()
    tab.get_by_label("X-API-Key").fill(KEY)
    form.locator("textarea").fill(json.dumps(asked()))
    form.get_by_role("button", name="Send").click()
    form.locator("pre", has_text='"status": "success"').wait_for(timeout=30_000)
    tab.locator("summary", has_text="{run_id}/items").click()
    form = tab.locator("form[data-path$='/items']")
    form.locator("input[name=run_id]").fill("latest"), form.locator("input[name=limit]").fill("2")
    form.get_by_role("button", name="Send").click()
    form.locator("pre", has_text='"total"').wait_for()
    tab.close()
    assert not elsewhere and [c for c in complaints if "401" not in c] == []


def schema_checks(url: str, n: int) -> int:  # cases
    import schemathesis
    from schemathesis import checks as c
    from schemathesis.specs.openapi import checks as o

    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    schema.config.generation.update(max_examples=n)
    wanted = [
        c.not_a_server_error,
        o.status_code_conformance,
        o.content_type_conformance,
        o.response_schema_conformance,
    ]
    seen, codes = [], collections.Counter()
    for operation in schema.get_all_operations():
        op = operation.ok()

        @settings(max_examples=n, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=op.as_strategy())
        def conforms(case):
            answer = case.call(headers={"X-API-Key": KEY}, timeout=60)
            codes[answer.status_code] += 1
            case.validate_response(answer, checks=wanted)

        conforms()
        seen.append(op.label)
    assert len(seen) >= 12 and f"POST {ROOT}/run" in seen
    print(f"{sum(codes.values()):,} cases over {len(seen)} operations: {dict(sorted(codes.items()))}")
    return sum(codes.values())


@promise("http-api-15")
def test_every_answer_is_as_the_openapi_document_declares(server):
    assert schema_checks(server.url, 6) >= 60


@promise("http-api-15")
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_thousand_cases_are_as_the_openapi_document_declares(server):
    assert schema_checks(server.url, 200) >= 2000


@promise("http-api-16")
def test_the_openapi_document_can_be_used_without_other_docs(server):
    found = httpx.get(f"{server.url}/openapi.json").json()
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            assert len(operation.get("description", "")) > 20, (method, path)
            if "health" not in path:
                assert {"401", "429", "503"} <= operation["responses"].keys() and operation["security"]
    request = found["components"]["schemas"]["RunRequest"]
    assert request["examples"] and set(request["required"]) == {"dataset_name", "model_configs"}
    assert all(f.get("description") for f in request["properties"].values())


# ------------------------------------------------------------------------------------------- kills, secrets, load
def five_slow_tasks(server) -> list[str]:
    "Ids of five tasks of twenty items, all of them at work"
    with server.client() as http:
        ids = [
            http.post(
                f"{ROOT}/run-async",
                json=asked(
                    dataset_name="long",
                    cache=False,
                    jobs=1,
                    model_configs=[{"model": "slow", "seed": i, "name_suffix": f"s{i}"}],
                ),
            ).json()["task_id"]
            for i in range(5)
        ]
    until = time.monotonic() + 60
    while not (server.calls.exists() and len({line.split()[0] for line in server.calls.read_text().splitlines()}) == 5):
        assert time.monotonic() < until
        time.sleep(0.02)
    return ids


def stored_items(store: Store) -> set[str]:
    "Items that are safe, written as the readers write their calls"
    seeds = {e["id"]: e["config"]["seed"] for e in list_experiments(store)}
    with store.read() as c:
        return {
            f"{seeds[e]} {i[1:]}.jpg"
            for e, i in c.execute(
                item_results.select().with_only_columns(item_results.c.experiment_id, item_results.c.item_id)
            )
        }


def all_ended_well(server, store, ids, safe, n) -> None:
    with ExperimentsClient(server.url, KEY) as client:
        done = [client.wait(i, 120) for i in ids]
    assert [t["state"] for t in done] == ["success"] * 5 and all(
        t["result"]["experiments"][0]["total_records"] == 20 for t in done
    )
    calls, found = server.calls.read_text().splitlines(), list_experiments(store)
    assert len(set(calls)) == 100 and not safe & set(calls[n:]), "nothing that was stored runs again"
    assert [status_counts(store, e["id"])["ok"] for e in found] == [20] * 5, "continued, not begun again"


@promise("http-api-17")
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.slow])])
def test_a_killed_server_finishes_its_five_tasks_after_a_restart(kind, request, tmp_path):
    store = request.getfixturevalue("postgres_store" if kind == "postgresql" else "sqlite_store")
    with running(tmp_path, store=store.url) as server:
        ids = five_slow_tasks(server)
        server.kill()
        n, safe = len(server.calls.read_text().splitlines()), stored_items(store)
        assert {get_job(i, store).status for i in ids} == {"running"} and n < 100
        server.start()
        all_ended_well(server, store, ids, safe, n)


@promise("http-api-18")
def test_a_killed_worker_is_started_again_and_none_outlives_its_server(tmp_path):
    with running(tmp_path) as server:
        ids, store = five_slow_tasks(server), Store(server.store)
        os.kill(worker_of(server), signal.SIGKILL)
        n, safe = len(server.calls.read_text().splitlines()), stored_items(store)
        assert httpx.get(f"{server.url}/health").status_code == 200
        all_ended_well(server, store, ids, safe, n)
        assert (
            "is started again" in server.log.read_text() and httpx.get(f"{server.url}/health").json()["worker"] == "ok"
        )
        second, until = worker_of(server), time.monotonic() + 30
        server.end(signal.SIGKILL)  # the server alone
        while Path(f"/proc/{second}").exists() and time.monotonic() < until:
            time.sleep(0.05)
        assert not Path(f"/proc/{second}").exists()
        store.close()


def worker_of(server) -> int:
    "The process that the server started"

    def parent(process: Path) -> int | None:
        with contextlib.suppress(OSError):
            return int((process / "stat").read_text().rpartition(")")[2].split()[1])

    (found,) = (int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and parent(p) == server.process.pid)
    return found


@promise("http-api-19")
def test_a_signal_stores_what_is_in_flight(tmp_path):
    with running(tmp_path) as server:
        with server.client() as http:
            answers = []
            waiting = threading.Thread(
                target=lambda: answers.append(
                    httpx.post(
                        f"{server.url}{ROOT}/run",
                        json=asked(dataset_name="long", cache=False, jobs=1, model_configs=[{"model": "slow"}]),
                        headers={"X-API-Key": KEY},
                        timeout=60,
                    )
                )
            )
            waiting.start()
            until = time.monotonic() + 60
            while not server.calls.exists() and time.monotonic() < until:
                time.sleep(0.02)
            assert http.get("/health").status_code == 200
        code = server.end(signal.SIGTERM)
        waiting.join(30)
        assert (
            code in (0, -signal.SIGTERM, 143)
            and answers[0].status_code == 503
            and "goes on when it is back" in answers[0].json()["detail"]
        )
        store = Store(server.store)
        (job,) = list_jobs(store)
        assert (job.status, job.owner) == ("queued", None)
        (experiment,) = list_experiments(store)
        n = len(server.calls.read_text().splitlines())
        assert experiment["status"] == "interrupted" and status_counts(store, experiment["id"])["ok"] == n < 20
        store.close()


@promise("http-api-20")
def test_log_lines_are_json_with_ids_and_without_secrets(server, http):
    http.get(f"{ROOT}/runs", headers={"X-Request-ID": "find-me-17"})
    http.post(
        f"{ROOT}/run",
        json=asked(project_name=f"x {PLANTED}", model_configs=[{"model": "quick", "metadata": {"note": PLANTED}}]),
    )
    httpx.get(f"{server.url}{ROOT}/runs?key={KEY}", headers={"X-API-Key": "wrong"})
    text = server.log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    line = next(x for x in lines if x.get("request_id") == "find-me-17")
    assert (line["method"], line["path"], line["status"], line["key"]) == ("GET", f"{ROOT}/runs", 200, "ci") and line[
        "ms"
    ] >= 0
    assert KEY not in text and OTHER not in text and PLANTED not in text
    for path in server.folder.rglob("*"):
        if path.is_file():
            said = path.read_bytes()
            assert not any(s.encode() in said for s in (PLANTED, KEY, OTHER)), path
    assert PLANTED not in http.get(f"{ROOT}/tasks").text + http.get(f"{ROOT}/runs").text


def test_serving_without_the_extra_says_what_to_install(tmp_path):
    code = "import sys; sys.modules['uvicorn'] = None\ntry:\n import vote_experiments.server.api\nexcept ImportError as e: print(e)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert "pip install 'vote-experiments[api]'" in done.stdout


CLIENTS = Path(__file__).parent / "servers" / "fifty_clients.py"


@promise("http-api-21")
@pytest.mark.parametrize("clients, seconds, repeats", [(10, 2, 1), pytest.param(50, 60, 5, marks=pytest.mark.slow)])
def test_fifty_clients_at_once_lose_no_job(tmp_path, clients, seconds, repeats):
    "one task each and its status twice a second, while items are read all the time"
    with running(tmp_path, "rate_per_minute=1000000", "rate_burst=100000", "open_jobs=1000") as server:
        done = subprocess.run(
            [sys.executable, str(CLIENTS), server.url, KEY, str(seconds), str(repeats), str(clients)],
            capture_output=True,
            text=True,
            check=True,
        )
        found = json.loads(done.stdout)
        with ExperimentsClient(server.url, KEY) as client:
            states = [client.wait(i, 240)["state"] for i in found.pop("tasks")]
        print(json.dumps(found), "load", os.getloadavg()[0])
        assert states == ["success"] * clients and found["statuses"] == {"200": found["n"]} and found["n"] >= clients


def test_addresses_in_model_names_and_models_off_the_list_are_refused(monkeypatch):
    from vote_experiments.server.guard import refused_address

    assert "address" in refused_address([{"model": "litellm/oobabooga/http://169.254.169.254/latest"}])
    assert refused_address([{"model": "gemini-2.5-flash"}]) is None
    monkeypatch.setenv("VOTE_EXPERIMENTS_API_MODELS", "ocr-*, gemini-2.5-flash")
    assert refused_address([{"model": "ocr-fused"}, {"model": "gemini-2.5-flash"}]) is None
    assert "gpt-9" in refused_address([{"model": "litellm/openai/gpt-9"}])


def test_a_key_has_a_cap_of_its_day(sqlite_store):
    from fastapi import HTTPException

    from vote_experiments.server.service import Service
    from vote_experiments.server.guard import Limits
    from vote_experiments.server.jobs import submit_job

    save_dataset("forms", [{"id": "a", "input": {"image_paths": ["a.png"]}}], store=sqlite_store)
    service = object.__new__(Service)
    service.store, service.limits = sqlite_store, Limits(usd_per_day=5)
    asked = {"dataset_name": "forms", "model_configs": [{"model": "ocr-digits"}], "backend": "local"}
    first = service.capped({**asked, "max_cost_usd": 2}, "a key")
    assert first["max_cost_usd"] == 2
    submit_job(first, sqlite_store, by="a key")
    assert service.capped(asked, "a key")["max_cost_usd"] == 3 and service.capped(asked, "another")["max_cost_usd"] == 5
    submit_job(service.capped(asked, "a key"), sqlite_store, by="a key")
    with pytest.raises(HTTPException, match="5 US dollars"):
        service.capped(asked, "a key")
