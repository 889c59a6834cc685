"""Client CPU of one call with three 200 KB images at 50 in flight: ours against the bare SDK's, in alternating rounds.

    python benchmarks/gemini_cpu.py [--calls 200] [--rounds 5]

The server runs in a process of its own and answers every call alike after 50 ms. Ours does all that the product does:
cache key, limiter, retries, checking the answer, an observation per try. Prints milliseconds and the ratio per round.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from vote_experiments.forms.schema import report_schema
from vote_experiments.models.gemini_api import DEFAULT_OUTPUT_TOKENS
from vote_experiments.models.gemini import Access, GeminiModel, gemini_client
from vote_experiments.models.images import EncodedPages
from vote_experiments.models.prompts import prompt_text
from vote_experiments.models.resilience import calling, limiter_for

HERE = Path(__file__).parent
MODEL, IN_FLIGHT = "gemini-2.5-flash", 50
ROW = {
    "number": 1,
    "candidate_name": "นายหนึ่ง สองสาม",
    "party_name": "พรรค",
    "vote_count": 123,
    "vote_count_text": "หนึ่งร้อยยี่สิบสาม",
}
ANSWER = json.dumps(
    {
        "reports": [
            {
                "form_info": {"form_type": kind},
                "voter_statistics": {},
                "ballot_statistics": {},
                "vote_results": [{**ROW, "number": k} for k in range(1, n)],
            }
            for kind, n in (("Constituency", 14), ("PartyList", 63))
        ]
    },
    ensure_ascii=False,
)


@contextlib.contextmanager
def served(answer: str) -> Iterator[str]:
    "The address of a server that gives this answer"
    command = [
        sys.executable,
        str(HERE.parent / "tests/servers/gemini_server.py"),
        "--delay",
        "0.05",
        "--canned",
        answer,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def three_pages(folder: str) -> list[str]:
    "Three JPEG files of about 200 KB"
    draw, paths = np.random.default_rng(0), [os.path.join(folder, f"page{k}.jpg") for k in range(3)]
    for path in paths:
        Image.fromarray(draw.integers(0, 255, (560, 560), dtype=np.uint8)).save(path, quality=85)
    return paths


async def cpu_per_call(call: Callable[[], Awaitable[None]], calls: int) -> float:  # milliseconds
    "CPU of this process for each of `calls` calls, 50 in flight"
    left = iter(range(calls))

    async def worker() -> None:
        for _ in left:
            await call()

    await call()
    began = time.process_time()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return (time.process_time() - began) / calls * 1000


async def compare(url: str, paths: list[str], transport: str, calls: int, rounds: int) -> None:
    from google.genai import types

    access = Access("a-key-for-the-loopback", base_url=url, transport=transport)
    client, images = await gemini_client(access), [Path(p).read_bytes() for p in paths]
    limiter_for(access, MODEL).estimate.rate = 1e6  # the CPU is measured, not the pace
    model, schema = GeminiModel(MODEL, access), report_schema()

    async def bare() -> None:
        parts = [
            types.Part.from_text(text=prompt_text()),
            *(types.Part.from_bytes(data=i, mime_type="image/jpeg") for i in images),
        ]
        answer = await client.aio.models.generate_content(
            model=MODEL,
            contents=[types.Content(role="user", parts=parts)],
            config=types.GenerateContentConfig(
                response_mime_type="application/json",
                response_json_schema=schema,
                temperature=0.0,
                max_output_tokens=DEFAULT_OUTPUT_TOKENS,
                automatic_continuation=False,
            ),
        )
        json.loads(answer.text)

    async def ours() -> None:
        found = await model.extract(paths, {"temperature": 0.0})
        assert found.problem is None, found.problem

    ratios = []
    with calling(images=EncodedPages(), roots=["/"]):
        for n in range(rounds):
            one, other = await cpu_per_call(bare, calls), await cpu_per_call(ours, calls)
            ratios.append(other / one)
            print(
                f"{transport:8} round {n + 1}: bare {one:6.2f} ms, ours {other:6.2f} ms, ratio {other / one:.2f}",
                flush=True,
            )
    print(f"{transport:8} median ratio {statistics.median(ratios):.2f}\n", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--calls", type=int, default=200, help="per round and side")
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, served(ANSWER) as url:
        paths = three_pages(folder)
        print(
            f"images of {', '.join(f'{os.path.getsize(p):,}' for p in paths)} bytes; answer of {len(ANSWER):,} characters"
        )
        for transport in ("aiohttp", "httpx2"):
            asyncio.run(compare(url, paths, transport, given.calls, given.rounds))


if __name__ == "__main__":
    main()
