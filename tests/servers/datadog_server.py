"""The part of Datadog's LLM Observability that its SDK talks to, on the loopback.

It speaks what ddtrace 4.16 speaks when `DD_LLMOBS_OVERRIDE_ORIGIN` names its address: projects, versioned datasets,
experiments with their events, the intake of spans. Shapes follow the recorded cassettes of DataDog/dd-trace-py. It keeps
what arrives, and answers by rule where a test wants it to fail: `server.fail("POST", "/events$", Reply(500), times=2)`.
"""

import collections
import contextlib
import csv
import dataclasses
import io
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from servers.loopback import LoopbackServer, Reply, Request

AUTHOR = {"id": "00000000-0000-0000-0000-000000000001"}
ENVIRONMENT = {
    "DD_API_KEY": "planted-datadog-api-key",
    "DD_APP_KEY": "planted-datadog-app-key",
    "DD_TRACE_STARTUP_LOGS": "0",
}


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _problem(status: int, detail: str) -> Reply:
    return Reply(status, {"errors": [{"title": "Generic Error", "detail": detail}]})


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


@dataclasses.dataclass
class Dataset:
    "A dataset with all its versions"

    id: str
    name: str
    project_id: str
    description: str = ""
    version: int = 0
    versions: dict[int, dict[str, dict]] = dataclasses.field(default_factory=lambda: {0: {}})
    created_at: str = dataclasses.field(default_factory=_now)

    def as_json(self) -> dict:
        return {
            "id": self.id,
            "type": "datasets",
            "attributes": {
                "author": AUTHOR,
                "created_at": self.created_at,
                "current_version": self.version,
                "description": self.description,
                "name": self.name,
                "project_id": self.project_id,
                "updated_at": self.created_at,
                "dataset_type": "user",
            },
        }

    def next_version(self, wanted: bool) -> dict[str, dict]:
        "The records to change: of a new version, or of the newest one"
        if wanted or self.version == 0:
            self.versions[self.version + 1] = dict(self.versions[self.version])
            self.version += 1
        return self.versions[self.version]

    def record(self, record_id: str, values: dict, version: int | None = None) -> dict:
        kept = {k: v for k, v in values.items() if v is not None}
        return {
            "id": record_id,
            "type": "datasets",
            "attributes": {
                "author": AUTHOR,
                "dataset_id": self.id,
                **kept,
                **({"version": version} if version is not None else {}),
            },
        }


@dataclasses.dataclass
class Fault:
    "What to answer instead, and how often"

    method: str
    path: re.Pattern
    reply: Reply
    times: float


class DatadogServer(LoopbackServer):
    "Keeps what the SDK sends: `projects`, `datasets`, `experiments`, `metrics` by experiment, `spans`"

    def __init__(
        self,
        port: int = 0,
        api_key: str = ENVIRONMENT["DD_API_KEY"],
        app_key: str = ENVIRONMENT["DD_APP_KEY"],
        page_size: int = 100,
    ):
        super().__init__(port)
        self.api_key, self.app_key, self.page_size = api_key, app_key, page_size
        self.wipe()

    def wipe(self) -> None:
        "Forget everything"
        self.projects: dict[str, dict] = {}
        self.datasets: dict[str, Dataset] = {}
        self.experiments: dict[str, dict] = {}
        self.metrics: dict[str, list[dict]] = collections.defaultdict(list)
        self.spans: list[dict] = []
        self.faults: list[Fault] = []
        self.delay_s = 0.0
        self.index_s = 0.0  # seconds until what was taken is shown
        self.taken_at: dict[str, float] = {}  # span: when it was taken
        self.forget()

    # ---------------------------------------------------------------- what a test uses
    def fail(self, method: str, path: str, reply: Reply, times: float = float("inf")) -> None:
        "Answer requests whose path matches with `reply`, so many times"
        self.faults.append(Fault(method, re.compile(path), reply, times))

    @contextlib.contextmanager
    def environment(self, **changes: str | None) -> Iterator[None]:
        "The environment that leads the SDK here; `None` takes a variable out"
        wanted = {**ENVIRONMENT, "DD_LLMOBS_OVERRIDE_ORIGIN": self.url, **changes}
        before = {k: os.environ.get(k) for k in wanted}
        try:
            for k, v in wanted.items():
                os.environ.pop(k, None) if v is None else os.environ.__setitem__(k, v)
            yield
        finally:
            for k, v in before.items():
                os.environ.pop(k, None) if v is None else os.environ.__setitem__(k, v)

    def rows(self, experiment_id: str | None = None) -> list[dict]:
        "Spans of experiments' rows"
        return [
            s
            for s in self.spans
            if s["parent_id"] == "undefined"
            and (experiment_id is None or f"experiment_id:{experiment_id}" in s["tags"])
        ]

    def calls(self) -> list[dict]:
        "Spans below the rows"
        return [s for s in self.spans if s["parent_id"] != "undefined"]

    def records(self, name: str) -> dict[str, dict]:
        "The newest records of a dataset"
        d = next(d for d in self.datasets.values() if d.name == name)
        return d.versions[d.version]

    def paths(self) -> list[str]:
        return [f"{r.method} {r.path}" for r in self.requests]

    # ---------------------------------------------------------------- answering
    def answer(self, request: Request) -> Reply:
        reply = self._answer(request)
        reply.headers.setdefault("Content-Type", "application/vnd.api+json")
        return dataclasses.replace(reply, delay_s=max(reply.delay_s, self.delay_s))

    def _answer(self, request: Request) -> Reply:
        for fault in self.faults:
            if fault.times > 0 and fault.method == request.method and fault.path.search(request.path):
                fault.times -= 1
                return dataclasses.replace(fault.reply)
        for method, path, name, needs_app_key in ROUTES:
            hit = path.match(request.path) if method == request.method else None
            if hit is None:
                continue
            if request.headers.get("dd-api-key") != self.api_key:
                return Reply(403, {"errors": ["Forbidden"]})
            if needs_app_key and request.headers.get("dd-application-key") != self.app_key:
                return Reply(401, {"errors": ["Unauthorized"]})
            handler: Callable[..., Reply] = getattr(self, name)
            return handler(request, **hit.groupdict())
        return Reply(404, {"errors": ["Not found"]})

    # ---------------------------------------------------------------- projects and datasets
    def create_project(self, request: Request) -> Reply:
        name = request.json["data"]["attributes"]["name"]
        project = self.projects.setdefault(
            name, {"id": str(uuid.uuid4()), "type": "projects", "attributes": {"author": AUTHOR, "name": name}}
        )
        return Reply(200, {"data": project})

    def create_dataset(self, request: Request, project: str) -> Reply:
        a = request.json["data"]["attributes"]
        for d in self.datasets.values():
            if (d.name, d.project_id) == (a["name"], project):
                return Reply(200, {"data": d.as_json()})
        made = Dataset(str(uuid.uuid4()), a["name"], project, a.get("description", ""))
        self.datasets[made.id] = made
        return Reply(200, {"data": made.as_json()})

    def list_datasets(self, request: Request, project: str) -> Reply:
        wanted = request.query.get("filter[name]", [None])[0]
        its = [d.as_json() for d in self.datasets.values() if d.project_id == project and wanted in (None, d.name)]
        return Reply(200, {"data": its, "meta": {"after": ""}})

    def list_records(self, request: Request, project: str, dataset: str) -> Reply:
        d, cursor = self.datasets[dataset], request.query.get("page[cursor]", [""])[0]
        version, tags, start = (
            json.loads(bytes.fromhex(cursor))
            if cursor
            else (int(request.query.get("filter[version]", [d.version])[0]), request.query.get("filter[tags]", []), 0)
        )
        if version not in d.versions:
            return _problem(400, "invalid version: version is greater than the current version or negative")
        its = [(i, r) for i, r in d.versions[version].items() if set(tags) <= set(r.get("tags") or ())]
        end = start + self.page_size
        after = json.dumps([version, tags, end]).encode().hex() if end < len(its) else ""
        return Reply(200, {"data": [d.record(i, r) for i, r in its[start:end]], "meta": {"after": after}})

    def update_records(self, request: Request, project: str, dataset: str) -> Reply:
        d, a = self.datasets[dataset], request.json["data"]["attributes"]
        inserts = a["insert_records"]
        if a.get("deduplicate"):
            seen = {_text([r["input"], r.get("expected_output")]) for r in d.versions[d.version].values()}
            inserts = [
                r
                for r in inserts
                if not ((key := _text([r["input"], r.get("expected_output")])) in seen or seen.add(key))
            ]
        if not (inserts or a["update_records"] or a["delete_records"]):
            return Reply(200, {"data": []})
        records, changed = d.next_version(a.get("create_new_version", True)), []
        for r in inserts:
            records[r["id"]] = {
                "canonical_id": str(uuid.uuid4()),
                "input": r["input"],
                "metadata": r.get("metadata"),
                "expected_output": r.get("expected_output"),
                "tags": sorted(r.get("tags") or []) or None,
            }
            changed.append(r["id"])
        for r in a["update_records"]:
            operations = r.get("tag_operations") or {}
            tags = set(operations.get("set", records[r["id"]].get("tags") or ())) | set(
                operations.get("add", ())
            ) - set(operations.get("remove", ()))
            new = {k: r[k] for k in ("input", "expected_output", "metadata") if r.get(k) is not None}
            records[r["id"]] = {**records[r["id"]], **new, "tags": sorted(tags) or None}
            changed.append(r["id"])
        answers = [d.record(i, records[i], d.version) for i in changed]
        answers += [d.record(i, records.pop(i), d.version) for i in a["delete_records"] if i in records]
        return Reply(200, {"data": answers})

    def upload_records(self, request: Request, dataset: str) -> Reply:
        boundary = request.headers["content-type"].partition("boundary=")[2].encode()
        text = request.body.split(b"--" + boundary)[1].split(b"\r\n\r\n", 1)[1].decode().strip("\r\n")
        d = self.datasets[dataset]
        records = d.next_version(True)
        for row in csv.DictReader(io.StringIO(text, newline="")):
            values = {k: json.loads(row[k]) or None for k in ("input", "expected_output", "metadata")}
            records[row["id"]] = {"canonical_id": str(uuid.uuid4()), **values}
        return Reply(
            200,
            {"data": {"id": str(uuid.uuid4()), "type": "dataset_version", "attributes": {"version_number": d.version}}},
        )

    # ---------------------------------------------------------------- experiments
    def create_experiment(self, request: Request) -> Reply:
        a, made = request.json["data"]["attributes"], str(uuid.uuid4())
        if a["dataset_id"] not in self.datasets:
            return _problem(404, "dataset not found")
        unique = f"-{time.time_ns() // 1_000_000}" if a.get("ensure_unique", True) else ""
        self.experiments[made] = {
            "id": made,
            "type": "experiments",
            "attributes": {
                "author": AUTHOR,
                "created_at": _now(),
                "status": None,
                **a,
                "experiment": a["name"],
                "name": a["name"] + unique,
            },
        }
        return Reply(200, {"data": self.experiments[made]})

    def list_experiments(self, request: Request) -> Reply:
        its, q = list(self.experiments.values())[::-1], request.query
        for name in ("project_id", "dataset_id", "experiment"):
            its = [e for e in its if f"filter[{name}]" not in q or e["attributes"][name] in q[f"filter[{name}]"]]
        its = [e for e in its if "filter[id]" not in q or e["id"] in q["filter[id]"]]
        if "filter[metadata]" in q:
            wanted = set(json.loads(q["filter[metadata]"][0])["tags"])
            its = [e for e in its if wanted <= set(e["attributes"]["metadata"]["tags"])]
        return Reply(200, {"data": its, "meta": {"after": ""}})

    def update_experiment(self, request: Request, experiment: str) -> Reply:
        self.experiments[experiment]["attributes"] |= request.json["data"]["attributes"]
        return Reply(200)

    def take_events(self, request: Request, experiment: str) -> Reply:
        if experiment not in self.experiments:
            return _problem(404, "experiment not found")
        metrics = request.json["data"]["attributes"]["metrics"]
        if any(abs(time.time() * 1000 - m["timestamp_ms"]) > 24 * 3600 * 1000 for m in metrics):
            return _problem(400, "Field validation for 'TimestampMs' failed on the 'timestamp_within_24hr' tag")
        self.metrics[experiment] += metrics
        return Reply(202)

    def give_events(self, request: Request, experiment: str) -> Reply:
        if experiment not in self.experiments:
            return _problem(404, "experiment not found")
        by_span: dict[str, list[dict]] = collections.defaultdict(list)
        for m in self.metrics[experiment]:
            by_span[m["span_id"]].append(m)
        spans = [
            {
                **{k: s.get(k) for k in ("span_id", "trace_id", "name", "start_ns", "duration", "tags")},
                "meta": {k: s["meta"].get(k) for k in ("input", "output", "expected_output", "metadata", "error")},
                "eval_metrics": by_span[s["span_id"]],
            }
            for s in self.rows(experiment)
            if time.monotonic() >= self.taken_at.get(s["span_id"], 0.0) + self.index_s
        ]
        summary = [m for m in self.metrics[experiment] if m["metric_source"] == "summary"]
        return Reply(
            200,
            {
                "data": {
                    "id": experiment,
                    "type": "experiment_events",
                    "attributes": {"spans": spans, "summary_metrics": summary},
                }
            },
        )

    def take_spans(self, request: Request) -> Reply:
        for event in request.json if isinstance(request.json, list) else [request.json]:
            self.taken_at |= {span["span_id"]: time.monotonic() for span in event["spans"]}
            self.spans += event["spans"]
        return Reply(202, {})


_OLD, _NEW = "/api/unstable/llm-obs/v1", "/api/v2/llm-obs/v1"
_PROJECT, _DATASET, _EXPERIMENT = "(?P<project>[^/]+)", "(?P<dataset>[^/]+)", "(?P<experiment>[^/]+)"
ROUTES = [
    (method, re.compile(f"^{path}$"), name, needs_app_key)
    for method, path, name, needs_app_key in (
        ("POST", f"{_OLD}/projects", "create_project", True),
        ("POST", f"{_OLD}/datasets/{_DATASET}/records/upload", "upload_records", True),
        ("POST", f"{_OLD}/{_PROJECT}/datasets", "create_dataset", True),
        ("GET", f"{_NEW}/{_PROJECT}/datasets", "list_datasets", True),
        ("GET", f"{_NEW}/{_PROJECT}/datasets/{_DATASET}/records", "list_records", True),
        ("POST", f"{_NEW}/{_PROJECT}/datasets/{_DATASET}/batch_update", "update_records", True),
        ("POST", f"{_OLD}/experiments", "create_experiment", True),
        ("GET", f"{_NEW}/experiments", "list_experiments", True),
        ("PATCH", f"{_OLD}/experiments/{_EXPERIMENT}", "update_experiment", True),
        ("POST", f"{_OLD}/experiments/{_EXPERIMENT}/events", "take_events", True),
        ("GET", f"{_OLD}/experiments/{_EXPERIMENT}/events", "give_events", True),
        ("POST", "/api/v2/llmobs", "take_spans", False),
    )
]
