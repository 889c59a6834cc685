"""The HTTP API with small readers of its own: python api_server.py PORT STORE CALLS [limit=value …]"""

import asyncio
import sys

import vote_experiments as ve
from vote_experiments.interfaces.api import serve
from vote_experiments.interfaces.api_guard import Limits

TRUTH = {"form_info": {"form_type": "Constituency"}, "vote_results": [{"number": 1, "vote_count": 200}]}


def main(port: int, store: str, calls: str, limits: dict) -> None:
    async def slow(images, config):
        await asyncio.sleep(0.05)
        with open(calls, "a") as f:
            f.write(f"{config.get('seed')} {images[0].rsplit('/', 1)[-1]}\n")
        return {"reports": [TRUTH]}

    def torn(images, config):
        raise FileNotFoundError(2, "No such file or directory", f"/srv/secret-place/{images[0]}")

    for name in ("gemini-2.5-flash", "gemini-2.5-flash-lite", "quick"):
        ve.register_model(name, lambda images, config: {"reports": [TRUTH]})
    ve.register_model("slow", slow)
    ve.register_model("torn", torn)
    serve("127.0.0.1", port, store=store, workers=limits.pop("workers", 5), grace_s=5, limits=Limits(**limits))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], {k: float(v) if "." in v else int(v) for k, v in (a.split("=") for a in sys.argv[4:])})
