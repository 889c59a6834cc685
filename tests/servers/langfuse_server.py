"""Langfuse and InteractiveAI 1.1 on the loopback, as far as their SDKs' clients go when experiments are published

Langfuse has generations: a server of version 2 has no OpenTelemetry endpoint; version 3 keeps dataset runs, and takes one
score in a request; version 4 knows experiments, but shows them in v4 write mode only; 5 stands for a server in that mode.

Datasets, items, runs, scores and OpenTelemetry traces (protobuf) are kept. InteractiveAI's routes are those of its Platform
API, with names in snake case and answers in an envelope; traces go the same way on both.
"""

import base64
import contextlib
import dataclasses
import gzip
import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from servers.loopback import LoopbackServer, Reply, Request

KEYS = {"PUBLIC_KEY": "pk-planted-1234", "SECRET_KEY": "sk-planted-secret-5678"}
PLATFORM = "/api/platform/v1/organizations/org1/projects/proj1/"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _camel(name: str) -> str:
    return re.sub(r"_(.)", lambda m: m[1].upper(), name)


def _missing(what: str) -> Reply:
    return Reply(404, {"error": "NotFound", "message": f"{what} not found"})


@dataclasses.dataclass
class Span:
    "An observation as it arrived"

    name: str
    trace_id: str
    span_id: str
    parent_id: str | None
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]


class LangfuseServer(LoopbackServer):
    "Keeps `datasets`, `items` by dataset, `run_items`, `scores` by id, `spans` by id"

    VERSIONS = {2: "2.95.11", 3: "3.63.0", 4: "4.2.0", 5: "4.9.0"}

    def __init__(self, prefix: str = "LANGFUSE", port: int = 0, generation: int = 5):
        super().__init__(port)
        self.generation = generation
        self.prefix = prefix
        self.wipe()

    def wipe(self) -> None:
        self.datasets: dict[str, dict] = {}
        self.items: dict[str, dict[str, dict]] = {}
        self.run_items: list[dict] = []
        self.scores: dict[str, dict] = {}
        self.spans: dict[str, Span] = {}
        self.n_spans = 0  # sent, those sent twice counted twice
        self.faults: list[tuple[str, re.Pattern, Reply]] = []
        self.forget()

    # ---------------------------------------------------------------- what a test uses
    def fail(self, method: str, path: str, reply: Reply) -> None:
        "Answer requests whose path matches with `reply`"
        self.faults.append((method, re.compile(path), reply))

    @contextlib.contextmanager
    def environment(self, **changes: str | None) -> Iterator[None]:
        "The environment that leads the SDK here; `None` takes a variable out"
        wanted = {
            **{f"{self.prefix}_{k}": v for k, v in KEYS.items()},
            f"{self.prefix}_BASE_URL": self.url,
            "DD_API_KEY": None,
            "DD_APP_KEY": None,
            **changes,
        }
        before = {k: os.environ.get(k) for k in wanted}
        try:
            for k, v in wanted.items():
                os.environ.pop(k, None) if v is None else os.environ.__setitem__(k, v)
            yield
        finally:
            for k, v in before.items():
                os.environ.pop(k, None) if v is None else os.environ.__setitem__(k, v)

    def rows(self) -> list[Span]:
        return [s for s in self.spans.values() if s.parent_id is None]

    def calls(self) -> list[Span]:
        return [s for s in self.spans.values() if s.parent_id is not None]

    # ---------------------------------------------------------------- answering
    def answer(self, request: Request) -> Reply:
        for method, path, reply in self.faults:
            if method == request.method and path.search(request.path):
                return dataclasses.replace(reply)
        basic = f"{KEYS['PUBLIC_KEY']}:{KEYS['SECRET_KEY']}"
        if request.headers.get("authorization") != "Basic " + base64.b64encode(basic.encode()).decode():
            return Reply(401, {"message": "Invalid credentials"})
        if request.path == "/api/public/health":
            return Reply(200, {"status": "OK", "version": self.VERSIONS[self.generation]})
        if request.path == "/api/public/otel/v1/traces" and self.generation > 2:
            return self._take_spans(request)
        if request.path.startswith("/api/platform/"):
            return self._platform(request)
        query = {k: v[0] for k, v in request.query.items()}
        return self._answer(request.method, request.path.removeprefix("/api/public/"), query, request.json)

    def _platform(self, request: Request) -> Reply:
        "InteractiveAI's spelling of the same"
        if request.path == "/api/platform/v1/projects":
            return Reply(200, {"data": [{"id": "proj1", "orgId": "org1", "name": "p"}]})
        path = request.path.removeprefix(PLATFORM)
        head = path.split("/")[0]
        body = {_camel(k): v for k, v in request.json.items()} if isinstance(request.json, dict) else request.json
        query = {_camel(k): v[0] for k, v in request.query.items()}
        reply = self._answer(request.method, ("v2/" if head == "datasets" else "") + path, query, body)
        if reply.status >= 300:
            return reply
        many = {"datasets": "datasets", "dataset-items": "items", "dataset-run-items": "run_items"}
        one = {"datasets": "dataset", "dataset-items": "item", "dataset-run-items": "run_item"}
        if isinstance(reply.body, dict) and "meta" in reply.body:
            return Reply(200, {"data": {many[head]: reply.body["data"], "meta": reply.body["meta"]}})
        if request.method == "DELETE":  # the SDK's routes name no key for what was deleted
            return Reply(200, {"data": reply.body})
        return Reply(200, {"data": {one[head]: reply.body} if head in one else {"id": "s"}})

    def _answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Reply:
        head, _, rest = path.removeprefix("v2/").partition("/")
        handler = getattr(self, f"{method.lower()}_{head.replace('-', '_')}", None)
        return handler(query, body, unquote(rest)) if handler else _missing(path)

    def _page(self, found: list[Any], query: dict[str, str]) -> Reply:
        page, limit = int(query.get("page", 1)), int(query.get("limit", 50))
        if limit > 100:
            return Reply(400, {"message": "limit must be at most 100"})
        meta = {"page": page, "limit": limit, "totalItems": len(found), "totalPages": -(-len(found) // limit)}
        return Reply(200, {"data": found[(page - 1) * limit : page * limit], "meta": meta})

    # ---------------------------------------------------------------- projects, datasets, items
    def get_projects(self, query: dict, body: Any, rest: str) -> Reply:
        return Reply(
            200, {"data": [{"id": "proj1", "name": "p", "organization": {"id": "org1", "name": "o"}, "metadata": {}}]}
        )

    def get_datasets(self, query: dict, body: Any, rest: str) -> Reply:
        if rest:
            return Reply(200, self.datasets[rest]) if rest in self.datasets else _missing("dataset")
        return self._page(list(self.datasets.values()), query)

    def post_datasets(self, query: dict, body: Any, rest: str) -> Reply:
        name = body["name"]
        self.datasets[name] = {
            "id": f"ds_{len(self.datasets)}",
            "name": name,
            "description": body.get("description"),
            "metadata": None,
            "projectId": "proj1",
            "createdAt": _now(),
            "updatedAt": _now(),
            "inputSchema": None,
            "expectedOutputSchema": None,
        }
        self.items.setdefault(name, {})
        return Reply(200, self.datasets[name])

    def get_dataset_items(self, query: dict, body: Any, rest: str) -> Reply:
        return self._page(list(self.items[unquote(query["datasetName"])].values())[::-1], query)  # newest first

    def post_dataset_items(self, query: dict, body: Any, rest: str) -> Reply:
        name = body["datasetName"]
        for other, its in self.items.items():
            if other != name and body["id"] in its:
                return Reply(409, {"message": "id is used in another dataset"})
        old = self.items[name].get(body["id"], {})
        item = {
            "id": body["id"],
            "status": body.get("status") or old.get("status", "ACTIVE"),
            "input": body.get("input"),
            "expectedOutput": body.get("expectedOutput"),
            "metadata": body.get("metadata"),
            "sourceTraceId": None,
            "sourceObservationId": None,
            "datasetId": self.datasets[name]["id"],
            "datasetName": name,
            "createdAt": old.get("createdAt", _now()),
            "updatedAt": _now(),
            "mediaReferences": [],
        }
        self.items[name][body["id"]] = item
        return Reply(200, item)

    def delete_dataset_items(self, query: dict, body: Any, rest: str) -> Reply:
        for its in self.items.values():
            its.pop(rest, None)
        return Reply(200, {"message": "deleted"})

    # ---------------------------------------------------------------- runs
    def post_dataset_run_items(self, query: dict, body: Any, rest: str) -> Reply:
        if not any(i.get(body["datasetItemId"], {}).get("status") == "ACTIVE" for i in self.items.values()):
            return _missing("Dataset item")
        made = {
            "id": f"ri{len(self.run_items)}",
            "datasetRunId": f"run-{body['runName']}",
            "datasetRunName": body["runName"],
            "datasetItemId": body["datasetItemId"],
            "traceId": body["traceId"],
            "observationId": body.get("observationId"),
            "createdAt": _now(),
            "updatedAt": _now(),
        }
        self.run_items.append(made)
        return Reply(200, made)

    def get_dataset_run_items(self, query: dict, body: Any, rest: str) -> Reply:
        items = [i for i in self.run_items if i["datasetRunName"] == query["runName"]]
        if not items and self.generation < 5:
            return _missing("Dataset run")
        return self._page(items, query)

    def get_experiment_items(self, query: dict, body: Any, rest: str) -> Reply:
        if self.generation < 4:
            return _missing("route")
        if self.generation == 4:
            return Reply(404, {"message": "The experiment items API is only available in a Langfuse v4 write mode."})
        its = [s for s in self.rows() if s.attributes.get("langfuse.experiment.id") == query["experimentId"]]
        start, limit = int(query.get("cursor", 0)), int(query["limit"])
        data = [self._experiment_item(s) for s in its[start : start + limit]]
        return Reply(
            200,
            {
                "data": data,
                "meta": {"limit": limit, **({"cursor": str(start + limit)} if start + limit < len(its) else {})},
            },
        )

    def _experiment_item(self, s: Span) -> dict:
        a = s.attributes
        its = [
            {
                **{k: v for k, v in score.items() if k in ("id", "name", "value", "dataType", "comment")},
                "projectId": "proj1",
                "source": "API",
                "timestamp": _now(),
                "environment": "default",
                "createdAt": _now(),
                "updatedAt": _now(),
            }
            for score in self.scores.values()
            if score.get("traceId") == s.trace_id
        ]
        for score in its:
            score["value"] = bool(score["value"]) if score["dataType"] == "BOOLEAN" else score["value"]
        when = lambda ns: datetime.fromtimestamp(ns / 1e9, UTC).isoformat()
        return {
            "id": s.span_id,
            "traceId": s.trace_id,
            "startTime": when(s.start_ns),
            "endTime": when(s.end_ns),
            "environment": "sdk-experiment",
            "level": a.get("langfuse.observation.level", "DEFAULT"),
            "experimentId": a["langfuse.experiment.id"],
            "experimentName": a["langfuse.experiment.name"],
            "experimentItemId": a["langfuse.experiment.item.id"],
            "scores": its,
        }

    # ---------------------------------------------------------------- scores and traces
    def post_scores(self, query: dict, body: Any, rest: str) -> Reply:
        if isinstance(body, list) and self.generation < 5:
            return Reply(400, {"message": "Invalid request data", "error": "Expected object, received array"})
        for score in body if isinstance(body, list) else [body]:
            self.scores[score["id"]] = score
        return Reply(202, {"message": "Accepted"}) if isinstance(body, list) else Reply(200, {"id": body["id"]})

    def _take_spans(self, request: Request) -> Reply:
        raw = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
        message = ExportTraceServiceRequest()
        message.ParseFromString(raw)
        for s in (s for r in message.resource_spans for scope in r.scope_spans for s in scope.spans):
            value = lambda v: getattr(v, v.WhichOneof("value"))
            span = Span(
                s.name,
                s.trace_id.hex(),
                s.span_id.hex(),
                s.parent_span_id.hex() or None,
                s.start_time_unix_nano,
                s.end_time_unix_nano,
                {a.key: value(a.value) for a in s.attributes},
            )
            self.spans[span.span_id] = span
            self.n_spans += 1
        return Reply(200, b"", {"Content-Type": "application/x-protobuf"})


def decoded(value: Any) -> Any:
    "An attribute's JSON text as the value it says"
    try:
        return json.loads(value)
    except (TypeError, ValueError):
        return value
