"Small readers for a server of the tests; their calls are written to the file in CALLS_OF_TEST"

import asyncio
import os

import vote_experiments as ve

TRUTH = {"form_info": {"form_type": "Constituency"}, "vote_results": [{"number": 1, "vote_count": 200}]}


async def slow(images, config):
    await asyncio.sleep(0.1)
    with open(os.environ["CALLS_OF_TEST"], "a") as f:
        f.write(f"{config.get('seed')} {images[0].rsplit('/', 1)[-1]}\n")
    return {"reports": [TRUTH]}


def torn(images, config):
    raise FileNotFoundError(2, "No such file or directory", f"/srv/secret-place/{images[0]}")


for name in ("gemini-2.5-flash", "gemini-2.5-flash-lite", "quick"):
    ve.register_model(name, lambda images, config: {"reports": [TRUTH]})
ve.register_model("slow", slow)
ve.register_model("torn", torn)
