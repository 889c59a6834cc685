"""
A server on this machine that takes what a platform's client sends and keeps nothing

    python -m benchmarks.engine.loopback      prints its address; stop it with the process

It answers just enough for the clients of Langfuse, InteractiveAI and Datadog to go on, as fast as it can: the clients
are measured, not their platforms. `GET /__bytes__` says how many bytes were sent to it.
"""

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def _datadog_records(body: dict[str, Any]) -> dict[str, Any]:
    inserted = body["data"]["attributes"]["insert_records"]
    return {"data": [{"id": r["id"], "type": "datasets", "attributes": {"version": 1}} for r in inserted]}


def _always(answer: Any) -> Callable[[Any], Any]:
    return lambda body: answer


# the first pattern found in the path answers; everything else gets {}
_ANSWERS: list[tuple[re.Pattern, Callable[[Any], Any]]] = [
    (re.compile(p), a)
    for p, a in (
        (r"llm-obs/v1/projects$", _always({"data": {"id": "project"}})),
        (r"datasets/[^/]+/batch_update$", _datadog_records),
        (r"llm-obs/v1/[^/]+/datasets$", _always({"data": {"id": "dataset", "attributes": {"current_version": 0}}})),
        (
            r"llm-obs/v1/experiments$",
            _always({"data": {"id": "experiment", "attributes": {"name": "run", "run_count": 1}}}),
        ),
        (r"platform/v1/projects$", _always({"data": [{"id": "project", "orgId": "org", "name": "benchmark"}]})),
        (
            r"public/projects$",
            _always(
                {
                    "data": [
                        {
                            "id": "project",
                            "name": "benchmark",
                            "metadata": {},
                            "organization": {"id": "org", "name": "benchmark"},
                        }
                    ]
                }
            ),
        ),
        (r"/scores$", _always({"id": "score", "data": {"id": "score"}, "message": "Accepted"})),
        (
            r"/ingestion$",
            lambda body: {"successes": [{"id": e["id"], "status": 201} for e in body["batch"]], "errors": []},
        ),
    )
]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one packet
    received = 0

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        Handler.received += len(body)
        path = self.path.split("?")[0]
        answer = b"" if path.endswith("/v1/traces") else json.dumps(self._answer(path, body)).encode()
        self.send_response(202 if path.endswith(("/events", "/llmobs", "/eval-metric")) else 200)
        self.send_header("Content-Type", "application/json" if answer else "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _answer(self, path: str, body: bytes) -> Any:
        if path == "/__bytes__":
            return Handler.received
        for pattern, answer in _ANSWERS:
            if pattern.search(path):
                return answer(json.loads(body) if body else None)
        return {}

    do_GET = do_POST = do_PUT = do_PATCH = _serve


class Loopback:
    "A running server in another process"

    def __init__(self, process: subprocess.Popen):
        self.url = process.stdout.readline().strip()  # type: ignore[union-attr]

    def bytes_sent(self) -> int:
        with urllib.request.urlopen(f"{self.url}/__bytes__") as answer:
            return json.load(answer)


@contextmanager
def serving() -> Iterator[Loopback]:
    "Start the server in a process of its own, so that its work is not counted as the client's"
    here = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.engine.loopback"], cwd=here, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Loopback(process)
        finally:
            process.kill()


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
