"""An OpenAI-style chat completions API on the loopback, for models reached through LiteLLM"""

import base64
import json
from typing import Any

from servers.loopback import LoopbackServer, Reply, Request


def completed(
    text: str | None,
    finish: str = "stop",
    prompt: int = 1290,
    completion: int = 120,
    reasoning: int = 0,
    cached: int = 0,
    model: str = "gpt-4o-2024-08-06",
    **how: Any,
) -> Reply:
    "A chat completion with this text"
    return Reply(
        body={
            "id": "c1",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
                "prompt_tokens_details": {"cached_tokens": cached},
                "completion_tokens_details": {"reasoning_tokens": reasoning},
            },
        },
        **how,
    )


def failed(status: int, message: str, kind: str = "server_error", **how: Any) -> Reply:
    "An error in OpenAI's form"
    return Reply(status, {"error": {"message": message, "type": kind, "code": None, "param": None}}, **how)


def images(request: Request) -> list[tuple[str, bytes]]:  # (MIME type, bytes)
    "The images of a chat request"
    found = []
    for part in request.json["messages"][0]["content"]:
        if part["type"] == "image_url":
            head, _, data = part["image_url"]["url"].partition(";base64,")
            found.append((head.removeprefix("data:"), base64.b64decode(data, validate=True)))
    return found


class OpenAIServer(LoopbackServer):
    "Speaks chat completions under /v1"

    @property
    def chats(self) -> list[Request]:
        return [r for r in self.requests if r.path == "/v1/chat/completions"]

    def answer(self, request: Request) -> Reply:
        if not request.headers.get("authorization", "").startswith("Bearer "):
            return failed(401, "You didn't provide an API key.", "invalid_request_error")
        if request.path != "/v1/chat/completions":
            return failed(404, f"no such path: {request.path}", "invalid_request_error")
        return self.next_step(request) or completed(json.dumps({}))
