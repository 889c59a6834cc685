"""The HTTP API with small readers of its own: python api_server.py PORT STORE CALLS [limit=value …]"""

import os
import sys
from pathlib import Path

from vote_experiments.server.api import serve
from vote_experiments.server.guard import Limits


def main(port: int, store: str, calls: str, limits: dict) -> None:
    here = str(Path(__file__).parent)
    os.environ |= {
        "CALLS_OF_TEST": calls,
        "PYTHONPATH": os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH")))),
    }  # for the worker
    import api_readers  # noqa: F401 (registers them here too)

    serve(
        "127.0.0.1",
        port,
        store=store,
        workers=limits.pop("workers", 5),
        grace_s=5,
        limits=Limits(**limits),
        modules=["api_readers"],
    )


if __name__ == "__main__":
    main(
        int(sys.argv[1]),
        sys.argv[2],
        sys.argv[3],
        {k: float(v) if "." in v else int(v) for k, v in (a.split("=") for a in sys.argv[4:])},
    )
