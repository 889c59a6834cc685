"Batch mode: many calls become one job, and a killed run finds its job again"

import asyncio
import gc
import json

import numpy as np
import pytest
from google.oauth2.credentials import Credentials
from PIL import Image
from servers.gemini_server import GeminiServer, answered, failed, overloaded
from servers.loopback import Reply

from vote_experiments.forms.schema import report_schema
from vote_experiments.models import gemini_batch
from vote_experiments.models.gemini import Access, GeminiModel
from vote_experiments.models.images import EncodedPage
from vote_experiments.models.attempts import RetryPolicy
from vote_experiments.models.budget import Budget
from vote_experiments.models.resilience import calling
from vote_experiments.records import Usage, listening

KEY = "planted-batch-key-123456"
TEXT = json.dumps({"reports": [{"form_info": {"province": "ตาก"}, "vote_results": [{"number": 1, "vote_count": 7}]}]})


class Kept(dict):
    def put(self, key, value):
        self[key] = json.loads(json.dumps(value))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("batch") / "page.png"
    Image.fromarray(np.full((80, 60), 200, np.uint8)).save(path)
    return str(path)


@pytest.fixture
def server():
    with GeminiServer() as server:
        server.batch_reply = lambda body, model: answered(TEXT, model=model)
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(gemini_batch, "GATHER_S", 0.25)


def read(server, page, temperatures, transport="aiohttp", cache=None, killed=False, **context):
    "One call per temperature, all at once; `killed`: all are cancelled once their job is known, as when a process is killed"
    model = GeminiModel("gemini-2.5-flash", Access(KEY, base_url=server.url, transport=transport))

    async def run():
        calls = [asyncio.create_task(model.extract([page], {"mode": "batch", "temperature": t})) for t in temperatures]
        while killed and not (len(cache) == len(calls) and all("job" in v for v in cache.values())):
            await asyncio.sleep(0.05)
        if not killed:
            await asyncio.wait(calls, timeout=60)
        for call in calls:
            call.cancel()
        return await asyncio.gather(*calls, return_exceptions=True)

    with calling(cache=cache, roots=["/"], poll_s=0.05, retry=RetryPolicy(base_s=0.01), **context):
        return asyncio.run(run())


def jobs_created(server):
    return [r for r in server.requests if r.path.endswith(":batchGenerateContent")]


@pytest.mark.parametrize("transport", ["aiohttp", "httpx2"])
@pytest.mark.parametrize("inline", [True, False])
def test_many_calls_become_one_job(server, page, transport, inline, monkeypatch):
    monkeypatch.setattr(gemini_batch, "INLINE_BYTES", 10**9 if inline else 10)
    with listening() as heard:
        found = read(server, page, [k / 10 for k in range(8)], transport)
    assert [f.output["reports"][0]["vote_results"][0]["vote_count"] for f in found] == [7] * 8
    (request,) = jobs_created(server)
    (batch,) = server.batches.values()
    assert request.path == "/v1beta/models/gemini-2.5-flash:batchGenerateContent" and batch["from_file"] is not inline
    assert request.headers["x-goog-api-key"] == KEY and batch["display_name"].startswith("vote-experiments-")
    bodies = [line["request"] for line in batch["lines"]]
    assert sorted(b["generationConfig"]["temperature"] for b in bodies) == [k / 10 for k in range(8)]
    assert all(b["generationConfig"]["responseJsonSchema"] == report_schema() for b in bodies)
    assert all("inlineData" in b["contents"][0]["parts"][1] for b in bodies) and not server.calls
    assert found[0].usage == Usage(1290, 120) and found[0].waited_s > 0 and len(heard) == 8
    assert found[0].cost_usd == pytest.approx((1290 * 0.30 + 120 * 2.50) / 1e6 / 2)


def test_a_killed_run_waits_for_its_job_again(server, page):
    cache, server.batch_state = Kept(), "RUNNING"
    given_up = read(server, page, [0.0, 0.5], cache=cache, killed=True)
    assert all(isinstance(e, asyncio.CancelledError) for e in given_up) and len(jobs_created(server)) == 1
    server.batch_state = "SUCCEEDED"
    assert all(f.output for f in read(server, page, [0.0, 0.5], cache=cache)) and len(jobs_created(server)) == 1
    assert all(f.cached for f in read(server, page, [0.0, 0.5], cache=cache)) and len(jobs_created(server)) == 1


def test_killed_between_creating_the_job_and_knowing_its_name(server, page):
    cache, server.batch_state = Kept(), "RUNNING"
    read(server, page, [0.0], cache=cache, killed=True)
    ((key, marker),) = cache.items()
    cache[key] = {"label": server.batches[marker["job"]]["display_name"]}
    server.batch_state = "SUCCEEDED"
    (found,) = read(server, page, [0.0], cache=cache)
    assert found.output and len(jobs_created(server)) == 1


def test_what_was_not_answered_is_asked_again_in_a_new_job(server, page):
    seen = []

    def sometimes(body, model):
        t = body["generationConfig"]["temperature"]
        seen.append(t)
        return failed(500, "INTERNAL", "try again") if t == 0.5 and seen.count(t) == 1 else answered(TEXT, model=model)

    server.batch_reply = sometimes
    found = read(server, page, [0.0, 0.5, 1.0])
    assert [f.attempts for f in found] == [1, 2, 1] and all(f.output for f in found) and len(server.batches) == 2


def test_a_job_that_fails_is_a_problem_of_its_items(server, page):
    server.batch_state = "FAILED"
    found = read(server, page, [0.0])
    assert found[0].problem.endswith("ended as failed") and found[0].attempts == 2 and found[0].cost_usd == 0
    assert len(server.batches) == 2  # once more, in case it was bad luck


def test_creating_survives_faults_and_never_makes_two_jobs(server, page):
    created = server._create_batch
    answers = iter([overloaded(), None, None])

    def faulty(found):
        reply = next(answers, None)
        if reply is None and len(server.batches) == 0:
            created(found)
            return Reply(reset=True)  # the job is there, its answer is lost
        return reply or created(found)

    server._create_batch = faulty
    (found,) = read(server, page, [0.0])
    assert found.output and len(server.batches) == 1


def test_the_budget_and_the_price_of_batches(server, page):
    budget = Budget(1.0)
    found = read(server, page, [0.0, 0.1], budget=budget)
    assert budget.spent_usd == pytest.approx(sum(f.cost_usd for f in found))


def test_vertex_has_no_such_batches(page):
    model = GeminiModel("gemini-2.5-flash", Access(project="p", location="l", credentials=Credentials("t")))
    with calling(roots=["/"]), pytest.raises(ValueError, match="needs the Developer API"):
        model.extract_sync([page], {"mode": "batch"})


def test_a_refused_key_is_told_once_and_hidden(server, page, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    server._create_batch = lambda found: failed(400, "INVALID_ARGUMENT", f"API key not valid: {KEY}")
    (found,) = read(server, page, [0.0])
    assert found.attempts == 1 and "API key not valid" in found.problem and KEY not in found.problem


def test_requests_that_wait_hold_no_pages(server, tmp_path):
    "With all items of a night in flight, what waits for a job must be small"
    draw = np.random.default_rng(0)
    paths = [str(tmp_path / f"f{k}.png") for k in range(30)]
    for path in paths:
        Image.fromarray(draw.integers(0, 255, (700, 700), dtype=np.uint8)).save(path)  # noise: 490 KB each
    server.batch_state, model = "RUNNING", GeminiModel("gemini-2.5-flash", Access(KEY, base_url=server.url))

    def with_pages():
        return [o for o in gc.get_objects() if isinstance(o, EncodedPage) or isinstance(o, dict) and "inlineData" in o]

    gc.collect()
    of_other_tests = with_pages()

    async def run():
        calls = [asyncio.create_task(model.extract([p], {"mode": "batch"})) for p in paths]
        while not server.batches:
            await asyncio.sleep(0.05)
        gc.collect()
        servers = {
            id(p)
            for b in server.batches.values()
            for line in b["lines"]
            for p in line["request"]["contents"][0]["parts"]
        }
        ours = [o for o in with_pages() if id(o) not in servers and not any(o is other for other in of_other_tests)]
        held = sum(len(o.data) for o in ours if isinstance(o, EncodedPage))
        bodies = sum(isinstance(o, dict) for o in ours)
        server.batch_state = "SUCCEEDED"
        return held, bodies, len(servers), await asyncio.gather(*calls)

    with calling(roots=["/"], poll_s=0.05):
        held, bodies, in_server, found = asyncio.run(run())
    assert all(f.output for f in found) and len(jobs_created(server)) == 1
    assert (held, bodies, in_server) == (0, 0, 60)


def test_the_job_is_remembered_until_its_answer_is_kept(server, page):
    "Killed between the two, a run would pay again"

    class Forgetful(Kept):
        def put(self, key, value):
            if "text" in value and not failed_once:
                failed_once.append(1)
                raise OSError("killed here")
            super().put(key, value)

    failed_once: list[int] = []
    cache = Forgetful()
    (error,) = read(server, page, [0.0], cache=cache)
    assert isinstance(error, OSError) and [list(v) for v in cache.values()] == [["job"]]
    assert read(server, page, [0.0], cache=cache)[0].output and len(jobs_created(server)) == 1


def test_a_lost_job_is_looked_for_once(server, page):
    cache, server.batch_state = Kept(), "RUNNING"
    read(server, page, [k / 10 for k in range(9)], cache=cache, killed=True)
    label = next(iter(server.batches.values()))["display_name"]
    for key in list(cache):
        cache[key] = {"label": label}
    server.batch_state, before = "SUCCEEDED", len(server.requests)
    assert all(f.output for f in read(server, page, [k / 10 for k in range(9)], cache=cache))
    assert len([r for r in server.requests[before:] if r.path.endswith("/batches")]) == 1 == len(jobs_created(server))
