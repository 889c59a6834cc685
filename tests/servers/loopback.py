"""A small HTTP/1.1 server on 127.0.0.1 that answers by script and can misbehave.

It runs on an event loop in a thread of its own, records every request, and hands the replies out in order. A reply can
hang, drip, be cut off or close the connection without a word. What a reply says is up to the subclass.
"""

import asyncio
import collections
import contextlib
import dataclasses
import json
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def kept_port() -> Iterator[int]:
    "A port for a server in another process: bound here but not listened on, so the server can take it and no one else is given it"
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", 0))
        yield s.getsockname()[1]


@dataclasses.dataclass
class Request:
    "One request as it arrived"

    method: str
    path: str  # unquoted, without the query
    query: dict[str, list[str]]
    headers: dict[str, str]  # names in lower case
    body: bytes
    time: float  # monotonic

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


@dataclasses.dataclass
class Reply:
    "What to answer, and how badly"

    status: int = 200
    body: Any = None  # bytes and str are sent as they are, anything else as JSON
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    delay_s: float = 0.0  # before the first byte
    hang: bool = False  # never answer
    reset: bool = False  # close without an answer
    cut_after: int | None = None  # bytes of the body, then close
    drip_s: float = 0.0  # between any two bytes of the body

    def payload(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


Step = Reply | Callable[[Request], Reply]


class Limited:
    "A reply that is given `per_second` times a second with a burst, and `otherwise` beyond that; `per_second` may change"

    def __init__(self, reply: Step, otherwise: Step, per_second: float, burst: float = 5):
        self.reply, self.otherwise, self.per_second, self.burst = reply, otherwise, per_second, burst
        self._tokens, self._at = burst, time.monotonic()
        self.accepted: list[float] = []
        self.refused: list[float] = []

    def __call__(self, request: Request) -> Reply:
        now = time.monotonic()
        self._tokens, self._at = min(self.burst, self._tokens + (now - self._at) * self.per_second), now
        fits = self._tokens >= 1
        self._tokens -= fits
        (self.accepted if fits else self.refused).append(now)
        step = self.reply if fits else self.otherwise
        return step(request) if callable(step) else step


class LoopbackServer:
    "Scripted replies over real sockets. `with LoopbackServer() as server: client(server.url)`"

    def __init__(self, port: int = 0, keep_requests: bool = True):
        self.port, self.keep_requests = port, keep_requests
        self.requests: list[Request] = []
        self.default: Step | None = None  # when the script is used up; None: `answer` decides
        self.in_flight = self.most_in_flight = self.connections = 0
        self._script: collections.deque[Step] = collections.deque()
        self._handlers: set[asyncio.Task[None]] = set()

    # ---------------------------------------------------------------- what a test uses
    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def script(self, *steps: Step) -> None:
        "Give these replies first, in this order"
        self._script.extend(steps)

    def forget(self) -> None:
        "Drop what is recorded and scripted"
        self.requests.clear()
        self._script.clear()
        self.default, self.most_in_flight = None, 0

    def next_step(self, request: Request) -> Reply | None:
        "The scripted or default reply; None: the subclass answers by itself"
        step = self._script.popleft() if self._script else self.default
        return step(request) if callable(step) else step

    def answer(self, request: Request) -> Reply:
        "The reply to a request; subclasses know their API"
        return self.next_step(request) or Reply(404)

    # ---------------------------------------------------------------- its life
    def __enter__(self) -> "LoopbackServer":
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True, name=type(self).__name__)
        self._thread.start()
        if not ready.wait(10):
            raise RuntimeError("the loopback server did not start within 10 s")
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self, ready: threading.Event) -> None:
        asyncio.run(self.serve(ready.set))

    async def serve(self, ready: Callable[[], Any] = lambda: None) -> None:
        "Serve until stopped"
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", self.port, limit=2**22, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        ready()
        await self._stop.wait()
        server.close()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    # ---------------------------------------------------------------- HTTP/1.1
    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._handlers.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        "One request and its reply; True when the connection can be used again"
        request = await self._read(reader)
        if self.keep_requests:
            self.requests.append(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            reply = self.answer(request)
            if reply.hang:
                await reader.read()  # until the client goes away
                return False
            return await self._write(writer, reply)
        finally:
            self.in_flight -= 1

    async def _read(self, reader: asyncio.StreamReader) -> Request:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        path, _, query = target.partition("?")
        body = await self._read_body(reader, headers)
        return Request(
            method, urllib.parse.unquote(path), urllib.parse.parse_qs(query), headers, body, time.monotonic()
        )

    async def _read_body(self, reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return await reader.readexactly(int(headers.get("content-length", 0)))
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
        return body

    async def _write(self, writer: asyncio.StreamWriter, reply: Reply) -> bool:
        await asyncio.sleep(reply.delay_s)
        if reply.reset:
            writer.transport.abort()
            return False
        body = reply.payload() if reply.body is not None else b""
        headers = {"Content-Type": "application/json; charset=UTF-8", **reply.headers, "Content-Length": len(body)}
        lines = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
        writer.write(f"HTTP/1.1 {reply.status} Loopback\r\n{lines}\r\n".encode())
        for part in [bytes([b]) for b in body] if reply.drip_s else [body[: reply.cut_after]]:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(reply.drip_s)
        return reply.cut_after is None
