"""Gemini's REST API on the loopback, for the real google-genai SDK.

generateContent and countTokens under the Developer API's and Vertex AI's paths, Files and batches of the Developer API.
Without a script the answer is the smallest JSON that fits the request's own schema.

    python tests/servers/gemini_server.py --port 8089 --canned '{"reports": []}'    answers every call alike, for load
"""

import argparse
import asyncio
import base64
import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from servers.loopback import LoopbackServer, Reply, Request  # noqa: E402

_MODEL_PATH = re.compile(
    r"^/(?P<version>v\d\w*)/(?:projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/publishers/google/)?"
    r"models/(?P<model>[^/:]+):(?P<method>\w+)$"
)


@dataclasses.dataclass
class ModelRequest:
    "A request to a model, read"

    request: Request
    version: str
    project: str | None  # None: the Developer API
    location: str | None
    model: str
    method: str

    @property
    def json(self) -> Any:
        return self.request.json

    @property
    def config(self) -> dict[str, Any]:
        return self.json.get("generationConfig", {})

    @property
    def parts(self) -> list[dict[str, Any]]:
        return [part for content in self.json["contents"] for part in content["parts"]]

    @property
    def images(self) -> list[tuple[str, bytes]]:  # (MIME type, bytes); Google sends URL-safe base64
        blobs = [p["inlineData"] for p in self.parts if "inlineData" in p]
        return [(b["mimeType"], base64.urlsafe_b64decode(b["data"])) for b in blobs]


def read_model_request(request: Request) -> ModelRequest | None:
    "None when the request is not one to a model"
    found = _MODEL_PATH.match(request.path)
    return ModelRequest(request, **found.groupdict()) if found else None


# -------------------------------------------------------------------- replies
def usage(prompt: int = 1290, output: int = 120, thoughts: int = 0, cached: int = 0) -> dict[str, Any]:
    counts = {"promptTokenCount": prompt, "candidatesTokenCount": output, "totalTokenCount": prompt + output + thoughts}
    if thoughts:
        counts["thoughtsTokenCount"] = thoughts
    if cached:
        counts["cachedContentTokenCount"] = cached
    return counts


def answered(
    text: str | None,
    finish: str | None = "STOP",
    tokens: dict[str, Any] | None = None,
    model: str = "gemini-2.5-flash",
    thought: str | None = None,
    **how: Any,
) -> Reply:
    "A candidate with this text"
    parts = [{"text": thought, "thought": True}] if thought else []
    parts += [{"text": text}] if text is not None else []
    candidate: dict[str, Any] = {"content": {"role": "model", **({"parts": parts} if parts else {})}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return Reply(
        body={"candidates": [candidate], "usageMetadata": tokens or usage(), "modelVersion": model, "responseId": "r1"},
        **how,
    )


def cut_off(text: str) -> Reply:
    "The answer ran into maxOutputTokens"
    return answered(text, "MAX_TOKENS")


def only_thoughts() -> Reply:
    "Every output token went into thinking: a candidate without parts"
    return answered(None, "MAX_TOKENS", usage(output=0, thoughts=1024))


def blocked(reason: str = "PROHIBITED_CONTENT") -> Reply:
    "The prompt was refused: no candidate"
    return Reply(
        body={
            "promptFeedback": {"blockReason": reason},
            "usageMetadata": {"promptTokenCount": 1290},
            "modelVersion": "gemini-2.5-flash",
        }
    )


def stopped(reason: str = "RECITATION") -> Reply:
    "The answer was stopped: a candidate without content"
    return Reply(
        body={
            "candidates": [{"finishReason": reason, "index": 0}],
            "usageMetadata": {"promptTokenCount": 1290},
            "modelVersion": "gemini-2.5-flash",
        }
    )


def failed(status: int, name: str, message: str, details: list[dict[str, Any]] | None = None, **how: Any) -> Reply:
    "An error in Google's form"
    error: dict[str, Any] = {"code": status, "message": message, "status": name}
    return Reply(status, {"error": error | ({"details": details} if details else {})}, **how)


def refused(retry_delay_s: float | None = None, retry_after_s: int | None = None, **how: Any) -> Reply:
    "429, saying or not when to come back"
    quota = {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel", "quotaValue": "10"}],
    }
    info = (
        []
        if retry_delay_s is None
        else [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{retry_delay_s:g}s"}]
    )
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return failed(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota.", [quota, *info], headers=headers, **how)


def overloaded(**how: Any) -> Reply:
    return failed(503, "UNAVAILABLE", "The model is overloaded. Please try again later.", **how)


def wrong_key(key: str = "") -> Reply:
    "Google repeats the key in some of its messages"
    return failed(
        400,
        "INVALID_ARGUMENT",
        f"API key not valid: {key}. Please pass a valid API key.",
        [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}],
    )


def html_502() -> Reply:
    return Reply(502, "<html><title>502 Bad Gateway</title></html>", {"Content-Type": "text/html"})


def smallest(schema: dict[str, Any]) -> Any:
    "The smallest value that a JSON schema admits"
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    kind = kind if isinstance(kind, str) else kind[0]
    if kind == "object":
        return {k: smallest(v) for k, v in schema.get("properties", {}).items()}
    if kind == "array":
        return [smallest(schema["items"]) for _ in range(schema.get("minItems", 0))]
    return {"string": "", "integer": 0, "number": 0.0, "boolean": False, "null": None}[kind]


# -------------------------------------------------------------------- the server
class GeminiServer(LoopbackServer):
    "Speaks Gemini"

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.batch_state = "SUCCEEDED"  # the state that a requested batch has
        self.batch_reply = self.generated  # request -> Reply, for each request of a batch

    @property
    def calls(self) -> list[ModelRequest]:
        "The generateContent requests so far"
        read = [read_model_request(r) for r in self.requests]
        return [r for r in read if r is not None and r.method == "generateContent"]

    def answer(self, request: Request) -> Reply:
        found = read_model_request(request)
        if found is None:
            return self._other(request)
        if found.project is None and not request.headers.get("x-goog-api-key"):
            return failed(403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers.")
        if found.project is not None and not request.headers.get("authorization", "").startswith("Bearer "):
            return failed(401, "UNAUTHENTICATED", "Request is missing required authentication credential.")
        if found.method == "countTokens":
            return Reply(body={"totalTokens": 258 * (1 + str(request.body).count("inlineData"))})
        if found.method == "batchGenerateContent":
            return self._create_batch(found)
        if found.method != "generateContent":
            return failed(404, "NOT_FOUND", f"no such method: {found.method}")
        return self.next_step(request) or self.generated(found.json, found.model)

    def generated(self, body: dict[str, Any], model: str) -> Reply:
        "An answer that fits the request's schema"
        schema = body.get("generationConfig", {}).get("responseJsonSchema")
        return answered(json.dumps(smallest(schema)) if schema else "an answer", model=model)

    def _other(self, request: Request) -> Reply:
        *_, folder, name = request.path.split("/")
        if "/upload/" in request.path:
            return self._upload(request)
        if folder == "files":
            name, _, verb = name.partition(":")
            if f"files/{name}" not in self.files:
                return failed(404, "NOT_FOUND", f"no file {name}")
            return Reply(body=self.files[f"files/{name}"] if verb == "download" else self._file(f"files/{name}"))
        if name == "batches":
            return Reply(body={"operations": [self._batch(b) for b in self.batches]})
        if folder == "batches" and f"batches/{name}" in self.batches:
            return Reply(body=self._batch(f"batches/{name}"))
        return failed(404, "NOT_FOUND", f"no such path: {request.method} {request.path}")

    # ---------------------------------------------------------------- files
    def _file(self, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "uri": f"{self.url}/v1beta/{name}",
            "mimeType": "application/jsonl",
            "sizeBytes": str(len(self.files[name])),
            "state": "ACTIVE",
        }

    def _upload(self, request: Request) -> Reply:
        command = request.headers["x-goog-upload-command"]
        if command == "start":
            name = f"files/f{len(self.files)}"
            self.files[name] = b""
            where = f"{self.url}{request.path}?upload_id={name}"
            return Reply(body={}, headers={"X-Goog-Upload-URL": where, "X-Goog-Upload-Status": "active"})
        name = request.query["upload_id"][0]
        self.files[name] += request.body
        if "finalize" in command:
            return Reply(body={"file": self._file(name)}, headers={"X-Goog-Upload-Status": "final"})
        return Reply(body={}, headers={"X-Goog-Upload-Status": "active"})

    # ---------------------------------------------------------------- batches
    def _create_batch(self, found: ModelRequest) -> Reply:
        batch, name = found.json["batch"], f"batches/b{len(self.batches)}"
        source = batch["inputConfig"]
        if "fileName" in source:
            lines = [json.loads(line) for line in self.files[source["fileName"]].splitlines()]
        else:
            lines = [{"key": r["metadata"]["key"], "request": r["request"]} for r in source["requests"]["requests"]]
        self.batches[name] = {
            "model": found.model,
            "display_name": batch.get("displayName"),
            "lines": lines,
            "from_file": "fileName" in source,
            "state": None,
        }
        return Reply(body=self._batch(name))

    def _batch(self, name: str) -> dict[str, Any]:
        "The batch as the API shows it; a new one is pending when it is first shown"
        batch = self.batches[name]
        state, batch["state"] = (batch["state"] or "PENDING"), self.batch_state
        metadata = {
            "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
            "name": name,
            "model": f"models/{batch['model']}",
            "displayName": batch["display_name"],
            "state": f"BATCH_STATE_{state}",
            "createTime": "2026-01-01T00:00:00Z",
            "updateTime": "2026-01-01T00:00:00Z",
        }
        if state == "SUCCEEDED":
            metadata["output"] = self._output(batch)
        return {"name": name, "metadata": metadata, "done": state not in ("PENDING", "RUNNING")}

    def _output(self, batch: dict[str, Any]) -> dict[str, Any]:
        results = []
        for line in batch["lines"]:
            reply = self.batch_reply(line["request"], batch["model"])
            results.append((line["key"], {"response": reply.body} if reply.status == 200 else reply.body))
        if not batch["from_file"]:
            return {"inlinedResponses": {"inlinedResponses": [{**r, "metadata": {"key": k}} for k, r in results]}}
        name = f"files/results{len(self.files)}"
        self.files[name] = "\n".join(json.dumps({"key": k, **r}) for k, r in results).encode()
        return {"responsesFile": name}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--port", type=int, default=0)
    options.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    options.add_argument("--canned", help="the text of every answer; requests are not looked into")
    given = options.parse_args()
    server = GeminiServer(port=given.port, keep_requests=False)
    if given.canned is not None:
        reply = answered(given.canned, delay_s=given.delay)
        server.answer = lambda request: reply
    asyncio.run(server.serve(lambda: print(server.url, flush=True)))


if __name__ == "__main__":
    main()
