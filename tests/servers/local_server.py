"""Servers for local models on the loopback, for the real OpenAI SDK: Ollama, vLLM, LM Studio and Typhoon OCR behind vLLM.

They differ in what they accept and in what they say, as their sources and bug trackers show: which answer formats they
know, what a model that is not there answers, and whether a document model cares about the wish for JSON at all.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from servers.loopback import LoopbackServer, Reply, Request
from servers.openai_server import completed, images

Report = dict[str, Any]


def typhoon_page(report: Report) -> str:
    "A station report as Typhoon OCR writes a page: headings and lines of text, the votes as an HTML table"
    info, voters, ballots = (
        report["form_info"],
        report.get("voter_statistics") or {},
        report.get("ballot_statistics") or {},
    )
    rows = "".join(
        f"<tr><td>{r['number']}</td><td>{r.get('candidate_name') or ''}</td><td>{r.get('party_name') or ''}</td>"
        f"<td>{r['vote_count']}</td></tr>"
        for r in report["vote_results"]
    )
    lines = [f"จังหวัด {info['province']}"] if info.get("province") else []
    lines += [f"ผู้มีสิทธิเลือกตั้ง {voters['eligible_voters']} คน"] if voters.get("eligible_voters") is not None else []
    lines += [f"บัตรดี {ballots['good_ballots']} บัตร"] if ballots.get("good_ballots") is not None else []
    table = (
        "<table><tr><td>หมายเลข</td><td>ชื่อตัว - ชื่อสกุล</td><td>สังกัดพรรคการเมือง</td><td>ได้คะแนน</td></tr>"
        + rows
        + "</table>"
    )
    return "\n\n".join(["# รายงานผลการนับคะแนน", *lines, table])


class LocalServer(LoopbackServer):
    "A chat completions server without a key; `read` turns the first page of a request into a report"

    formats: Sequence[str] = ("json_schema", "json_object", "text")  # that it accepts
    takes_keys = False  # it ignores them

    def __init__(self, model: str, read: Callable[[bytes], Report], **options: Any):
        super().__init__(**options)
        self.model, self.read = model, read

    @property
    def chats(self) -> list[Request]:
        return [r for r in self.requests if r.path == "/v1/chat/completions"]

    def answer(self, request: Request) -> Reply:
        if request.path == "/v1/models":
            return Reply(body={"object": "list", "data": [{"id": self.model, "object": "model"}]})
        if request.path != "/v1/chat/completions":
            return Reply(404, "404 page not found", {"Content-Type": "text/plain"})
        if request.json["model"] != self.model:
            return self.no_model(request.json["model"])
        wanted = (request.json.get("response_format") or {"type": "text"})["type"]
        if wanted not in self.formats:
            return self.no_format(wanted)
        return self.next_step(request) or self.generated(request, wanted)

    def generated(self, request: Request, wanted: str) -> Reply:
        "JSON that fits when it was requested; a chatty model otherwise"
        text = json.dumps({"reports": [self.read(images(request)[0][1])]}, ensure_ascii=False)
        if wanted == "text":
            text = f"Here is the requested report:\n\n```json\n{text}\n```\n\nLet me know if you need anything else!"
        return completed(text, model=self.served(), prompt=1400, completion=300)

    def served(self) -> str:
        "The model's name in an answer"
        return self.model

    def no_model(self, name: str) -> Reply:
        return Reply(
            404, {"error": {"message": f"The model `{name}` does not exist.", "type": "NotFoundError", "code": 404}}
        )

    def no_format(self, wanted: str) -> Reply:
        return Reply(400, {"error": f"'response_format.type' must be {' or '.join(map(repr, self.formats))}"})


class OllamaServer(LocalServer):
    "Ollama: takes every format, adds a tag to the model's name, says how to get a model that is missing"

    def served(self) -> str:
        return self.model if ":" in self.model else f"{self.model}:latest"

    def no_model(self, name: str) -> Reply:
        return Reply(
            404,
            {
                "error": {
                    "message": f'model "{name}" not found, try pulling it first',
                    "type": "api_error",
                    "code": None,
                }
            },
        )


class VllmServer(LocalServer):
    "vLLM: guided decoding by schema"


class LmStudioServer(LocalServer):
    "LM Studio: json_schema or text, never json_object"

    formats = ("json_schema", "text")


class OldVllmServer(LocalServer):
    "A vLLM that was started without a grammar backend"

    formats = ("text",)

    def no_format(self, wanted: str) -> Reply:
        return Reply(
            400,
            {
                "object": "error",
                "message": f"guided decoding with {wanted} is not supported by this engine",
                "code": 400,
            },
        )


class TyphoonServer(LocalServer):
    "Typhoon OCR behind vLLM: it writes pages, whatever was requested; version 1 puts them into JSON of its own"

    def __init__(self, *args: Any, version: int = 2, **options: Any):
        super().__init__(*args, **options)
        self.version = version

    def generated(self, request: Request, wanted: str) -> Reply:
        page = typhoon_page(self.read(images(request)[0][1]))
        text = json.dumps({"natural_text": page}, ensure_ascii=False) if self.version == 1 else page
        return completed(text, model=self.served(), prompt=1400, completion=500)


def reads(reports: dict[bytes, Report]) -> Callable[[bytes], Report]:
    "A perfect reader: the report of each page image"
    by_digest = {hashlib.sha256(page).hexdigest(): report for page, report in reports.items()}
    return lambda page: by_digest[hashlib.sha256(page).hexdigest()]
