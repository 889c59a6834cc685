"An event loop whose time passes at once: an hour of waiting is tested in a moment"

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _NoWaiting(selectors.DefaultSelector):
    "Instead of waiting for the next timer, moves the loop's clock to it"

    loop: "VirtualTimeLoop"

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("every task waits and no timer is set: a deadlock")
        if not ready and timeout:
            self.loop.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    "For code that only waits through asyncio, not for sockets or threads"

    def __init__(self) -> None:
        selector = _NoWaiting()
        selector.loop, self.now = self, 0.0
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def run_virtual(work: Coroutine[Any, Any, T]) -> T:
    "`asyncio.run` in virtual time"
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(work)
