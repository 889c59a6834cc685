"""What every engine is given: items, a task that naps and answers, two evaluators that compare"""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Scenario:
    "How long the task takes, and how many may be at it"

    name: str
    says: str  # in a heading
    nap_s: float
    jobs: int
    n: int  # items, when --n is not given

    def ideal_s(self, n: int) -> float:
        "Seconds that `n` items take when the engine costs nothing"
        return -(-n // self.jobs) * self.nap_s


SCENARIOS = {
    s.name: s
    for s in (
        Scenario("noop", "a task that answers at once", 0.0, 50, 10_000),
        Scenario("nap50", "a task of 50 ms, 50 in flight", 0.05, 50, 10_000),
        Scenario("nap1000", "a task of 1 s, 1,000 in flight", 1.0, 1_000, 10_000),
    )
}


@dataclass(frozen=True)
class Work:
    "One run: a scenario with a number of items"

    scenario: Scenario
    n: int

    @property
    def jobs(self) -> int:
        return self.scenario.jobs

    def items(self) -> list[dict[str, Any]]:
        "A polling station each: the votes of each candidate; the answer is the sum"
        return [
            {"input": {"station": i, "votes": [i % 701, i % 89, 3]}, "expected_output": {"valid": i % 701 + i % 89 + 3}}
            for i in range(self.n)
        ]

    async def answer(self, input: dict[str, Any]) -> dict[str, Any]:
        "The task"
        if self.scenario.nap_s:
            await asyncio.sleep(self.scenario.nap_s)
        return add_up(input)

    def answer_sync(self, input: dict[str, Any]) -> dict[str, Any]:
        "The task, for engines that take no coroutine"
        if self.scenario.nap_s:
            time.sleep(self.scenario.nap_s)
        return add_up(input)


def add_up(input: dict[str, Any]) -> dict[str, Any]:
    return {"valid": sum(input["votes"])}


def is_exact(output: dict[str, Any], expected: dict[str, Any]) -> bool:
    "The first evaluator"
    return output == expected


def nearness(output: dict[str, Any], expected: dict[str, Any]) -> float:
    "The second evaluator: 1 when equal, towards 0 the further off"
    return 1 - abs(output["valid"] - expected["valid"]) / max(output["valid"], expected["valid"], 1)


@dataclass(frozen=True)
class Done:
    "What came of one run"

    n: int  # items that have their output and both scores afterwards
    sent_bytes: int | None = None  # to a server; None: everything stays in this process or on disk


Run = Callable[[Work], Done]  # returns when everything that will be kept is kept
Prepare = Callable[[Path], AbstractContextManager[Run]]  # imports and opens, in an empty folder to keep things in
