"""The yardstick: the least code that runs all items concurrently and keeps a row of each"""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.engine.workload import Done, Prepare, Run, Work, is_exact, nearness

ROWS_A_TRANSACTION = 500


class Table:
    "One SQLite table in WAL mode, a row an item, 500 rows a transaction"

    def __init__(self, path: Path):
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("DROP TABLE IF EXISTS results")
        self.connection.execute(
            "CREATE TABLE results (station INTEGER PRIMARY KEY, input TEXT, output TEXT, exact REAL, nearness REAL)"
        )
        self.rows: list[tuple] = []

    def add(self, *row: Any) -> None:
        self.rows.append(row)
        if len(self.rows) >= ROWS_A_TRANSACTION:
            self.flush()

    def flush(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany("INSERT INTO results VALUES (?, ?, ?, ?, ?)", self.rows)
        self.connection.execute("COMMIT")
        self.rows.clear()

    def close(self) -> int:
        self.flush()
        kept = self.connection.execute("SELECT count(*) FROM results WHERE exact + nearness = 2").fetchone()[0]
        self.connection.close()
        return kept


async def _one(work: Work, table: Table, item: dict[str, Any]) -> None:
    output = await work.answer(item["input"])
    scores = is_exact(output, item["expected_output"]), nearness(output, item["expected_output"])
    table.add(item["input"]["station"], json.dumps(item["input"]), json.dumps(output), *scores)


async def _gathered(work: Work, table: Table) -> None:
    "All tasks made at once, a semaphore lets `jobs` of them in"
    places = asyncio.Semaphore(work.jobs)

    async def guarded(item: dict[str, Any]) -> None:
        async with places:
            await _one(work, table, item)

    await asyncio.gather(*(guarded(item) for item in work.items()))


async def _pooled(work: Work, table: Table) -> None:
    "`jobs` workers on a lazy iterator"
    items = iter(work.items())

    async def worker() -> None:
        for item in items:
            await _one(work, table, item)

    await asyncio.gather(*(worker() for _ in range(work.jobs)))


def _preparing(loop: Callable) -> Prepare:
    @contextmanager
    def prepare(folder: Path) -> Iterator[Run]:
        def run(work: Work) -> Done:
            table = Table(folder / "reference.db")
            asyncio.run(loop(work, table))
            return Done(table.close())

        yield run

    return prepare


reference, pool = _preparing(_gathered), _preparing(_pooled)
