"""Fifty clients at once: python fifty_clients.py URL KEY SECONDS REPEATS [CLIENTS]. Each asks for a run and looks at it twice a second; prints JSON.

One process with plain sockets: fifty threads of a comfortable client would measure themselves.
"""

import asyncio
import collections
import json
import sys
import time
from urllib.parse import urlsplit

ROOT = "/api/v1/experiments"


async def ask(reader, writer, key: str, method: str, path: str, body=None) -> tuple[int, bytes]:
    data = b"" if body is None else json.dumps(body).encode()
    writer.write(
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        + data
    )
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    size = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
    return int(head[9:12]), await reader.readexactly(size)


async def client(
    i: int,
    repeats: int,
    address: tuple[str, int],
    key: str,
    until: float,
    times: list[float],
    codes: collections.Counter,
    tasks: list[str],
) -> None:
    reader, writer = await asyncio.open_connection(*address)
    code, said = await ask(
        reader,
        writer,
        key,
        "POST",
        f"{ROOT}/run-async",
        {
            "dataset_name": "long",
            "cache": False,
            "model_configs": [{"model": "slow", "seed": i, "name_suffix": f"c{i}"}],
            "repeats": repeats,
        },
    )
    assert code == 202, said
    tasks.append(json.loads(said)["task_id"])
    while time.monotonic() < until:
        asked = time.perf_counter()
        code, said = await ask(reader, writer, key, "GET", f"{ROOT}/tasks/{json.loads(said)['task_id']}")
        times.append(time.perf_counter() - asked)
        codes[str(code)] += 1
        await asyncio.sleep(0.5)
    writer.close()


async def main(url: str, key: str, seconds: float, repeats: int, n: int = 50) -> None:
    times: list[float] = []
    codes, tasks, parts = collections.Counter(), [], urlsplit(url)
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    await asyncio.gather(
        *(client(i, repeats, address, key, time.monotonic() + seconds, times, codes, tasks) for i in range(n))
    )
    times.sort()
    print(
        json.dumps(
            {
                "n": len(times),
                "p50_s": round(times[len(times) // 2], 4),
                "p99_s": round(times[int(0.99 * len(times))], 4),
                "max_s": round(times[-1], 4),
                "statuses": dict(codes),
                "tasks": tasks,
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), *map(int, sys.argv[4:])))
