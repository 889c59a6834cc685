"Gemini models: the real SDK against a server on the loopback, by both transports, sync and async"

import asyncio
import contextvars
import itertools
import json
import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from google.oauth2.credentials import Credentials
from servers.gemini_server import (
    GeminiServer,
    answered,
    blocked,
    cut_off,
    failed,
    html_502,
    only_thoughts,
    overloaded,
    refused,
    stopped,
    usage,
    wrong_key,
)
from servers.loopback import Limited, Reply

from vote_experiments.forms.schema import report_schema
from vote_experiments.models import gemini
from vote_experiments.models.gemini import Access, GeminiModel, MissingCredentials
from vote_experiments.models.images import EncodedPages
from vote_experiments.models.prompts import prompt_text
from vote_experiments.models.registry import check_configs, get_model, model_available
from vote_experiments.models.attempts import RetryPolicy
from vote_experiments.models.budget import Budget, BudgetExceeded
from vote_experiments.models.resilience import calling, forget_pace, run_sync
from vote_experiments.records import Extraction, Usage, listening
from vote_experiments.settings import OFFLINE_MODELS, environment

KEY = "planted-gemini-key-1234567890"
REPORT = {
    "form_info": {"form_type": "Constituency", "province": "แพร่", "polling_station_number": "2"},
    "voter_statistics": {"eligible_voters": 600, "voters_present": 451},
    "ballot_statistics": {
        "ballots_allocated": 620,
        "ballots_used": 451,
        "good_ballots": 430,
        "bad_ballots": 11,
        "no_vote_ballots": 10,
        "ballots_remaining": 169,
    },
    "vote_results": [
        {"number": 1, "candidate_name": "นายหนึ่ง", "party_name": "ก", "vote_count": 400, "vote_count_text": "สี่ร้อย"},
        {"number": 2, "candidate_name": "นางสอง", "party_name": "ข", "vote_count": 30, "vote_count_text": "สามสิบ"},
    ],
}
TEXT = json.dumps({"reports": [REPORT]}, ensure_ascii=False)
GOOD = answered(TEXT)
QUICK = RetryPolicy(base_s=0.01)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    "Three page images of one form set"
    folder, draw = tmp_path_factory.mktemp("pages"), np.random.default_rng(0)
    paths = [str(folder / f"page{k}.jpg") for k in range(3)]
    for path in paths:
        Image.fromarray(draw.integers(0, 255, (120, 90), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture(scope="module")
def running():
    with GeminiServer() as server:
        yield server


@pytest.fixture(scope="module")
def loop():
    "One event loop for many tests, so that not each has to build a client"
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def server(running, loop):
    running.forget()
    loop.run(forget_pace())
    run_sync(forget_pace())
    return running


DOORS = list(itertools.product(("async", "sync"), ("aiohttp", "httpx2")))


@pytest.fixture(params=DOORS, ids=["-".join(d) for d in DOORS])
def read(request, server, pages, loop) -> Callable[..., Extraction]:
    "Reads the pages through one door and transport"
    way, transport = request.param
    access = Access(KEY, base_url=server.url, transport=transport)

    def read(**config) -> Extraction:
        model = GeminiModel(config.pop("model", "gemini-2.5-flash"), access)
        with calling(retry=QUICK, roots=["/"]):
            if way == "sync":
                return model.extract_sync(pages, config)
            return loop.run(model.extract(pages, config), context=contextvars.copy_context())

    return read


# ------------------------------------------------------------------------------------------- the wire
def test_what_is_sent(read, server, pages):
    server.script(GOOD)
    found = read(
        temperature=0.0,
        top_p=0.9,
        top_k=3,
        seed=7,
        thinking_level="low",
        media_resolution="high",
        max_output_tokens=9000,
    )
    (call,) = server.calls
    assert call.request.path == "/v1beta/models/gemini-2.5-flash:generateContent"
    assert call.request.headers["x-goog-api-key"] == KEY and int(call.request.headers["x-server-timeout"]) == 300
    assert call.parts[0] == {"text": prompt_text()} and len(call.parts) == 4
    assert call.images == [("image/jpeg", open(p, "rb").read()) for p in pages]
    assert all(set(p["inlineData"]["data"]).isdisjoint("+/") for p in call.parts[1:])
    assert call.config == {
        "temperature": 0.0,
        "topP": 0.9,
        "topK": 3,
        "seed": 7,
        "maxOutputTokens": 9000,
        "mediaResolution": "MEDIA_RESOLUTION_HIGH",
        "thinkingConfig": {"thinkingLevel": "LOW"},
        "responseMimeType": "application/json",
        "responseJsonSchema": report_schema(),
    }
    assert set(call.json) == {"contents", "generationConfig"}
    rows = found.output["reports"][0]["vote_results"]
    assert [r["vote_count"] for r in rows] == [400, 30] and found.problem is None and found.attempts == 1


def test_temperature_is_sent_only_when_asked_for(read, server):
    server.script(GOOD, GOOD)
    read()
    assert server.calls[0].config == {
        "maxOutputTokens": 32768,
        "responseMimeType": "application/json",
        "responseJsonSchema": report_schema(),
    }
    read(temperature=0.0, service_tier="flex")
    assert server.calls[1].config["temperature"] == 0.0 and server.calls[1].json["serviceTier"] == "flex"
    assert server.calls[1].request.headers["x-server-timeout"] == "1200"


def test_usage_cost_and_version(read, server):
    tokens = usage(prompt=4000, output=5000, thoughts=300, cached=1000)
    server.script(answered(TEXT, tokens=tokens, model="gemini-2.5-flash-002", thought="hmm"))
    with listening() as heard:
        found = read()
    assert found.usage == Usage(4000, 5000, 300, 1000) and found.model_version == "gemini-2.5-flash-002"
    assert found.cost_usd == pytest.approx((3000 * 0.30 + 1000 * 0.03 + 5300 * 2.50) / 1e6)
    (seen,) = heard
    assert (seen.type, seen.model, seen.usage, seen.cost_usd) == (
        "GENERATION",
        "gemini-2.5-flash",
        found.usage,
        found.cost_usd,
    )
    assert seen.input["prompt"] == "extraction-v2" and len(seen.input["images"]) == 3 and seen.level == "DEFAULT"
    assert 0 < found.latency_s < 30 and seen.end_time - seen.start_time == pytest.approx(found.latency_s, abs=1e-3)


def test_flex_costs_half(read, server):
    server.script(GOOD, GOOD)
    assert read(service_tier="flex").cost_usd == pytest.approx(read().cost_usd / 2)


def test_a_reroute_is_flagged_and_priced_as_what_answered(read, server):
    server.script(answered(TEXT, model="gemini-2.5-flash-lite"))
    with listening() as heard:
        found = read()
    assert found.model_version == "gemini-2.5-flash-lite" and found.output
    assert found.cost_usd == pytest.approx((1290 * 0.10 + 120 * 0.40) / 1e6)
    assert heard[0].level == "WARNING" and heard[0].metadata["rerouted"]
    assert heard[0].status_message == "requested gemini-2.5-flash, answered by gemini-2.5-flash-lite"


def test_a_price_that_is_not_known_is_none(read, server):
    server.script(answered(TEXT, model="gemini-9"))
    assert read(model="gemini-9").cost_usd is None


# ------------------------------------------------------------------------------------------ the scenes
SCENES = {  # name: (replies before the good one, config, problems of the attempts before it)
    "429 with RetryInfo": ([refused(0.2)], {}, ["http 429 RESOURCE_EXHAUSTED"]),
    "429 with Retry-After": ([refused(retry_after_s=0)], {}, ["http 429"]),
    "503 twice": ([overloaded(), overloaded()], {}, ["http 503 UNAVAILABLE"] * 2),
    "hang": ([Reply(hang=True)], {"deadline_s": 0.8}, ["timeout: no answer within 0.8 s"]),
    "drip": ([Reply(body=GOOD.body, drip_s=0.05)], {"deadline_s": 0.8}, ["timeout: no answer within 0.8 s"]),
    "reset": ([Reply(reset=True)], {}, ["transport: "]),
    "truncated body": ([Reply(body=GOOD.body, cut_after=200)], {}, ["transport: "]),
    "HTML 502": ([html_502()], {}, ["http 502"]),
    "empty 200": ([Reply(body=None)], {}, ["the response is not JSON"]),
    "200 that is not JSON": ([Reply(body="<html>hello</html>")], {}, ["the response is not JSON"]),
    "200 that is a list": ([Reply(body=[1])], {}, ["the answer is not an object"]),
    "503 whose JSON is broken": ([Reply(503, "{")], {}, ["http 503", "the response is not JSON"]),
    "500": ([failed(500, "INTERNAL", "An internal error has occurred.")], {}, ["http 500"]),
    "504": ([failed(504, "DEADLINE_EXCEEDED", "too late")], {}, ["http 504"]),
    "no candidates": ([Reply(body={"usageMetadata": usage()})], {}, ["the answer is empty"]),
    "empty text": ([answered("")], {}, ["the answer is empty"]),
    "malformed response": ([stopped("MALFORMED_RESPONSE")], {}, ["stopped: MALFORMED_RESPONSE"]),
    "wrong schema": ([answered('{"votes": 3}')], {}, ["the answer is not valid"]),
    "a wrong value": ([answered(TEXT.replace("400", '"four"'))], {}, ["the answer is not valid"]),
    "half a JSON": ([answered(TEXT[:150])], {}, ["the answer is not valid"]),
}


UNCOUNTED = ("empty 200", "200 that is not JSON", "200 that is a list")  # billed, but no one knows how much


@pytest.mark.parametrize("scene", SCENES)
def test_scenes_that_end_well(scene, read, server):
    replies, config, problems = SCENES[scene]
    server.script(*replies, GOOD)
    with listening() as heard:
        found = read(**config)
    assert found.output["reports"][0]["vote_results"][1]["vote_count"] == 30 and found.problem is None
    assert found.attempts == len(server.calls) == len(heard) == len(replies) + 1
    for seen, problem in zip(heard[:-1], itertools.cycle(problems)):
        assert seen.level == "ERROR" and seen.status_message.startswith(tuple(problems)), (seen.status_message, problem)
    answered_tries = [o.usage for o in heard if o.usage]
    assert found.usage == sum(answered_tries, Usage())
    costs = [o.cost_usd for o in heard]
    assert found.cost_usd == (None if None in costs else pytest.approx(sum(costs)))
    assert (None in costs) is (scene in UNCOUNTED)


def test_retry_info_is_kept(read, server):
    server.script(refused(0.4), GOOD)
    found = read()
    first, second = server.calls
    assert second.request.time - first.request.time >= 0.4 and found.waited_s >= 0.4


def test_fenced_json_is_read(read, server):
    server.script(answered(f"```json\n{TEXT}\n```"))
    assert read().attempts == 1


ENDS = {  # what another try cannot help
    "thoughts only": (only_thoughts(), "truncated: the answer ran into max_output_tokens (0 written, 1,024 thought)"),
    "cut off": (cut_off(TEXT[:100]), "truncated: "),
    "cut off but valid JSON": (cut_off(TEXT), "truncated: "),
    "blocked prompt": (blocked(), "blocked: PROHIBITED_CONTENT"),
    "recitation": (stopped("RECITATION"), "stopped: RECITATION"),
    "safety": (stopped("SAFETY"), "stopped: SAFETY"),
    "bad request": (failed(400, "INVALID_ARGUMENT", "Unknown field."), "http 400 INVALID_ARGUMENT: Unknown field."),
    "no such model": (failed(404, "NOT_FOUND", "models/x is not found"), "http 404 NOT_FOUND"),
    "forbidden": (failed(403, "PERMISSION_DENIED", "no"), "http 403 PERMISSION_DENIED: no (check GEMINI_API_KEY"),
    "daily quota": (
        failed(429, "RESOURCE_EXHAUSTED", "quota", [{"violations": [{"quotaId": "RequestsPerDay"}]}]),
        "http 429",
    ),
    "come back tomorrow": (
        refused(40_000),
        "http 429 RESOURCE_EXHAUSTED: You exceeded your current quota.; the server wants",
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_scenes_that_cannot_be_helped(end, read, server):
    reply, problem = ENDS[end]
    server.script(reply, GOOD)
    found = read()
    assert found.problem.startswith(problem), found.problem
    assert found.output is None and found.attempts == len(server.calls) == 1


def test_tries_are_used_up_after_five_or_as_configured(read, server):
    server.default = overloaded()
    assert read().attempts == 5 and len(server.calls) == 5
    found = read(max_attempts=2)
    assert found.attempts == 2 and found.problem.startswith("http 503") and found.cost_usd == 0 and found.usage is None


def test_what_can_be_read_of_a_stubborn_answer_is_used(read, server):
    server.default = answered(TEXT.replace("400", '"four"'))
    with listening() as heard:
        found = read(max_attempts=2)
    assert [r["vote_count"] for r in found.output["reports"][0]["vote_results"]] == [None, 30]
    assert found.problem is None and found.usage == Usage(2580, 240) and "four" in found.raw_text
    assert heard[-1].name == "salvaged" and "vote_count" in heard[-1].status_message


def test_the_transport_does_not_retry_by_itself(read, server):
    "Without care the SDK sleeps up to 10 s after a lost connection and sends again unseen"
    server.script(Reply(reset=True))
    assert read(max_attempts=1).problem.startswith("transport: ")
    assert len(server.calls) == 1


# --------------------------------------------------------------------------------------------- images
def test_a_missing_image_is_named_and_nothing_is_sent(server, pages):
    model = GeminiModel("gemini-2.5-flash", Access(KEY, base_url=server.url))
    with calling(roots=["/"]), pytest.raises(FileNotFoundError, match="nowhere.jpg"):
        model.extract_sync([*pages, "/tmp/nowhere.jpg"], {})
    with pytest.raises(PermissionError, match="outside"):
        model.extract_sync(pages, {"roots": ["/var"]})
    assert not server.requests


def test_images_are_encoded_once_for_four_configs(server, pages):
    server.default = GOOD
    kept, model = EncodedPages(), GeminiModel("gemini-2.5-flash", Access(KEY, base_url=server.url))

    async def run():
        for temperature in (0.0, 0.1, 0.2, 0.3):
            await asyncio.gather(*(model.extract(pages, {"temperature": temperature}) for _ in range(5)))

    with calling(images=kept, roots=["/"]):
        asyncio.run(run())
    assert kept.encodings == 3 and len(server.calls) == 20


def test_images_are_scaled_down_only_when_asked(server, pages):
    server.default = GOOD
    model = GeminiModel("gemini-2.5-flash", Access(KEY, base_url=server.url))
    with calling(roots=["/"]):
        model.extract_sync(pages[:1], {})
        model.extract_sync(pages[:1], {"max_image_side": 64})
    assert server.calls[0].images[0][1] == open(pages[0], "rb").read() != server.calls[1].images[0][1]


# ---------------------------------------------------------------------------------------------- cache
class Kept(dict):
    def put(self, key, value):
        self[key] = json.loads(json.dumps(value))


def test_the_cache_spares_calls_and_says_so(read, server):
    server.default = answered(TEXT)
    cache = Kept()
    with calling(cache=cache):
        first = read(temperature=0.0)
        with listening() as heard:
            again = read(temperature=0.0, max_attempts=9, rpm=1000, service_tier="flex")
    assert (first.cached, again.cached) == (False, True) and len(server.calls) == 1
    assert again.output == first.output and again.cost_usd == 0 and again.latency_s is None
    assert again.usage == Usage() and again.model_version == first.model_version
    assert heard[0].cached and heard[0].cost_usd == 0


def test_repeats_and_other_settings_are_other_questions(read, server):
    server.default = answered(TEXT)
    with calling(cache=Kept()):
        for repeat in range(3):
            with calling(repeat=repeat):
                assert not read(temperature=0.5).cached
        assert not read(temperature=0.6).cached
        assert not read(temperature=0.5, prompt="Read it, please").cached
        assert not read(temperature=0.5, model="gemini-2.5-pro").cached
        with calling(cache_mode="refresh"):
            assert not read(temperature=0.5).cached
        with calling(cache_mode=False):
            assert not read(temperature=0.5).cached
        assert read(temperature=0.5).cached
    assert len(server.calls) == 8


def test_failures_are_not_cached(read, server):
    server.script(cut_off(TEXT), GOOD)
    with calling(cache=Kept()):
        assert read().problem and read().problem is None


# --------------------------------------------------------------------------------------------- budget
def test_the_budget_stops_a_run_before_much_more_is_spent(server, pages):
    server.default = answered(TEXT)
    each = (1290 * 0.30 + 120 * 2.50) / 1e6
    budget, model = Budget(10 * each), GeminiModel("gemini-2.5-flash", Access(KEY, base_url=server.url))

    async def worker(done):
        while True:
            with calling(cache_mode=False):
                await model.extract(pages, {})
            done.append(1)

    async def run():
        done: list[int] = []
        return await asyncio.gather(*(worker(done) for _ in range(4)), return_exceptions=True)

    with calling(budget=budget, images=EncodedPages(), roots=["/"]):
        ends = asyncio.run(run())
    assert all(isinstance(e, BudgetExceeded) for e in ends)
    assert 10 <= len(server.calls) <= 13 and budget.spent_usd == pytest.approx(len(server.calls) * each)


def test_a_cap_on_a_model_without_a_price_is_refused(read, server):
    with calling(budget=Budget(1.0)), pytest.raises(ValueError, match="price of 'gemini-9' is not known"):
        read(model="gemini-9")


# ---------------------------------------------------------------------------------------- credentials
NO_ACCESS = (
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "GOOGLE_CLOUD_PROJECT",
    "GOOGLE_GENAI_USE_VERTEXAI",
    "GOOGLE_GENAI_USE_ENTERPRISE",
    "GOOGLE_GEMINI_BASE_URL",
    "GOOGLE_VERTEX_BASE_URL",
)


@pytest.fixture
def no_access(monkeypatch):
    for name in NO_ACCESS:
        monkeypatch.delenv(name, raising=False)
    if any(environment().get(n) for n in NO_ACCESS[:3]):
        pytest.skip("a .env file above this folder brings credentials")


def test_without_credentials_there_is_one_clear_error(no_access, pages):
    reason = model_available("gemini-2.5-flash")
    assert all(v in reason for v in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_CLOUD_PROJECT", *OFFLINE_MODELS))
    with calling(roots=["/"]), pytest.raises(MissingCredentials) as e:
        get_model("gemini-2.5-flash").extract_sync(pages, {})
    assert str(e.value) == reason


def test_the_environment_is_enough(no_access, monkeypatch, server, pages):
    server.default = GOOD
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
    config = check_configs([{"model": "gemini-2.5-flash", "temperature": 0}])[0].config
    assert model_available("gemini-2.5-flash") is None
    with calling(roots=["/"]):
        assert get_model("gemini-2.5-flash").extract_sync(pages, config).output
    assert server.calls[0].request.headers["x-goog-api-key"] == KEY


@pytest.mark.parametrize("transport", ["aiohttp", "httpx2"])
def test_vertex(server, pages, transport):
    server.script(refused(0.05), answered(TEXT, model="gemini-2.5-pro"))
    access = Access(
        project="elections",
        location="asia-southeast1",
        base_url=server.url,
        credentials=Credentials("token-of-a-service-account"),
        transport=transport,
    )
    with calling(retry=QUICK, roots=["/"]):
        found = asyncio.run(GeminiModel("gemini-2.5-pro", access).extract(pages, {"temperature": 0.0}))
    call = server.calls[-1]
    assert call.request.path == (
        "/v1beta1/projects/elections/locations/asia-southeast1/publishers/google/models/gemini-2.5-pro:generateContent"
    )
    assert call.request.headers["authorization"] == "Bearer token-of-a-service-account"
    assert "x-goog-api-key" not in call.request.headers and len(call.images) == 3
    assert found.attempts == 2 and found.cost_usd == pytest.approx((1290 * 1.25 + 120 * 10) / 1e6)


def test_a_planted_key_appears_nowhere(read, server, monkeypatch, caplog, capsys):
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    replies = [
        wrong_key(KEY),
        failed(500, "INTERNAL", f"key={KEY}"),
        answered(f"the key is {KEY}"),
        Reply(body=f"<{KEY}>"),
        Reply(502, f"<html>{KEY}</html>"),
    ]
    shown = []
    for reply in replies:
        server.default = reply
        with listening() as heard:
            shown += [read(max_attempts=2).problem, [(o.status_message, o.output, o.input, o.metadata) for o in heard]]
    shown += [repr(gemini.find_access()), caplog.text, *capsys.readouterr()]
    assert KEY not in repr(shown) and "[redacted]" in repr(shown)


# ------------------------------------------------------------------------------------ clients and loops
def test_one_client_per_loop_is_reused(server, pages):
    server.default = GOOD
    model, before = GeminiModel("gemini-2.5-flash", Access(KEY, base_url=server.url)), server.connections

    async def run():
        for _ in range(6):
            await model.extract(pages[:1], {})

    with calling(roots=["/"]):
        asyncio.run(run())
    assert server.connections == before + 1


@pytest.mark.parametrize("transport", ["aiohttp", "httpx2"])
def test_many_loops_one_after_another(server, pages, transport):
    server.default = GOOD
    model = GeminiModel("gemini-2.5-flash", Access(KEY, base_url=server.url, transport=transport))
    with calling(roots=["/"]):
        assert all(asyncio.run(model.extract(pages[:1], {})).output for _ in range(3))


def test_counting_tokens(server, pages):
    model = GeminiModel("gemini-2.5-flash", Access(KEY, base_url=server.url))
    with calling(roots=["/"]):
        assert asyncio.run(model.count_tokens(pages, {})) == 258 * 4
    assert len(server.requests[0].json["contents"][0]["parts"]) == 4


# ------------------------------------------------------------------------------------------ under load
def _storm(server, pages, forms: int, concurrency: int, transport: str) -> tuple[list[Extraction], float]:
    draw = random.Random(11)
    faults = [
        refused(0.05),
        overloaded(),
        Reply(hang=True),
        Reply(reset=True),
        html_502(),
        answered(TEXT[:99]),
        Reply(body=GOOD.body, cut_after=50),
    ]
    server.default = lambda request: draw.choice(faults) if draw.random() < 0.3 else answered(TEXT, delay_s=0.02)
    model = GeminiModel("gemini-2.5-flash", Access(KEY, base_url=server.url, transport=transport))

    async def run():
        gate = asyncio.Semaphore(concurrency)

        async def one():
            async with gate:
                return await model.extract(pages, {"max_attempts": 12, "deadline_s": 2.0})

        return await asyncio.gather(*(one() for _ in range(forms)))

    budget = Budget(1e6)
    with calling(retry=RetryPolicy(base_s=0.05), budget=budget, images=EncodedPages(), roots=["/"]):
        return asyncio.run(run()), budget.spent_usd


@pytest.mark.parametrize(
    "forms, concurrency, transport",
    [
        (40, 20, "aiohttp"),
        (40, 20, "httpx2"),
        pytest.param(500, 50, "aiohttp", marks=pytest.mark.slow),
        pytest.param(500, 50, "httpx2", marks=pytest.mark.slow),
    ],
)
def test_a_storm_is_survived(server, pages, forms, concurrency, transport):
    found, spent = _storm(server, pages, forms, concurrency, transport)
    assert all(f.output and not f.problem for f in found) and len(found) == forms
    print(
        f"{transport}: {forms} forms, {len(server.calls) / forms:.3f} calls an item, {server.most_in_flight} in flight at most"
    )
    assert len(server.calls) == sum(f.attempts for f in found) <= 1.6 * forms
    assert server.most_in_flight <= concurrency
    billed = sum((f.usage for f in found), Usage())
    assert spent == pytest.approx(sum(f.cost_usd for f in found))
    assert spent == pytest.approx((billed.prompt_tokens * 0.30 + billed.output_tokens * 2.50) / 1e6)
    assert billed.prompt_tokens >= 1290 * forms


def test_a_storm_is_survived_by_threads_too(server, pages):
    "The sync door: twenty threads share one client and one pace"
    draw = random.Random(5)
    faults = [refused(0.05), overloaded(), Reply(hang=True), Reply(reset=True), html_502(), answered(TEXT[:99])]
    server.default = lambda request: draw.choice(faults) if draw.random() < 0.3 else answered(TEXT, delay_s=0.02)
    model, connections = GeminiModel("gemini-2.5-flash", Access(KEY, base_url=server.url)), server.connections

    def one(_):
        with calling(retry=RetryPolicy(base_s=0.05), images=kept, roots=["/"]):
            return model.extract_sync(pages, {"max_attempts": 12, "deadline_s": 2.0})

    kept = EncodedPages()
    with ThreadPoolExecutor(20) as threads:
        found = list(threads.map(one, range(30)))
    assert all(f.output and not f.problem for f in found) and kept.encodings == 3
    assert len(server.calls) == sum(f.attempts for f in found) <= 1.8 * 30 and server.most_in_flight <= 20
    assert server.connections > connections


@pytest.mark.slow
def test_rate_is_found_and_a_halved_limit_followed(server, pages):
    "20 calls a second with a burst of 5, halved after 60 s: seconds of real time"
    limited = Limited(answered(TEXT, delay_s=0.3), refused(), per_second=20, burst=5)
    server.default, model = limited, GeminiModel("gemini-2.5-flash", Access(KEY, base_url=server.url))

    async def worker(until):
        while time.monotonic() < until:
            await model.extract(pages[:1], {"max_attempts": 20})

    async def watch(until):  # a machine that is busy otherwise makes the clients stand still and then rush
        while (before := time.monotonic()) < until:
            await asyncio.sleep(0.05)
            late.append(time.monotonic() - before - 0.05)

    async def run(start):
        tasks = [
            *(asyncio.create_task(worker(start + 120)) for _ in range(40)),
            asyncio.create_task(watch(start + 120)),
        ]
        await asyncio.sleep(60)
        limited.per_second = 10
        await asyncio.gather(*tasks)

    start, late = time.monotonic(), []
    with calling(images=EncodedPages(), roots=["/"]):
        asyncio.run(run(start))
    stood_still = sum(s for s in late if s > 0.1)

    def seen(begin, end):
        ok, no = (sum(start + begin <= t < start + end for t in times) for times in (limited.accepted, limited.refused))
        return ok / (end - begin), no / (ok + no)

    (before, refused_before), (after, refused_after) = seen(30, 60), seen(80, 118)
    print(
        f"limit 20/s: {before:.2f}/s and {100 * refused_before:.2f} % refused; halved to 10/s, 20 s later: "
        f"{after:.2f}/s and {100 * refused_after:.2f} % refused; the loop stood still for {stood_still:.1f} s of 120"
    )
    if stood_still > 3:
        pytest.skip(f"the machine was too busy to pace calls: the loop stood still for {stood_still:.1f} s of 120")
    assert before >= 0.9 * 20 and refused_before < 0.05, (before, refused_before)
    assert after >= 0.9 * 10 and refused_after < 0.05, (after, refused_after)
