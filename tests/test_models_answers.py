"""What models answer when they do not answer as they should: wrappings that are read, bodies that are refused in one sentence,
each paid for as seldom as possible and with its cost counted"""

import asyncio
import contextvars
import json
import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest
from google.oauth2.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from servers.gemini_server import GeminiServer, answered, failed, usage
from servers.loopback import Reply
from servers.openai_server import OpenAIServer, completed
from servers.openai_server import failed as openai_failed

from vote_experiments.forms.json_text import json_in_text
from vote_experiments.models import gemini_batch
from vote_experiments.models.attempts import RetryPolicy
from vote_experiments.models.budget import Budget
from vote_experiments.models.gemini import GeminiModel
from vote_experiments.models.gemini_api import Access
from vote_experiments.models.registry import check_configs, get_model
from vote_experiments.models.resilience import calling, forget_pace, run_sync
from vote_experiments.records import Usage, listening

KEY = "planted-answers-key-123456"
REPORT = {
    "form_info": {"province": "ตาก"},
    "vote_results": [{"number": 1, "vote_count": 7}],
    "notes": "uses ``` in a note",
}
TEXT = json.dumps({"reports": [REPORT]}, ensure_ascii=False)
QUICK = RetryPolicy(base_s=0.01)
EACH = (1290 * 0.30 + 120 * 2.50) / 1e6


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("answers") / "page.png"
    Image.fromarray(np.full((80, 60), 200, np.uint8)).save(path)
    return str(path)


@pytest.fixture(scope="module")
def running():
    with GeminiServer() as server:
        yield server


@pytest.fixture(scope="module")
def loop():
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def server(running, loop):
    running.forget()
    loop.run(forget_pace())
    return running


@pytest.fixture
def read(server, page, loop):
    def read(model="gemini-2.5-flash", access=None, **config):
        with calling(retry=config.pop("retry", QUICK), roots=["/"], budget=config.pop("budget", None)):
            work = GeminiModel(model, access or Access(KEY, base_url=server.url)).extract([page], config)
            return loop.run(work, context=contextvars.copy_context())

    return read


# ---------------------------------------------------------------------------------------- wrappings
WRAPPINGS = {
    "plain, with ``` in a string": TEXT,
    "a fence": f"```json\n{TEXT}\n```",
    "four backticks": f"````json\n{TEXT}\n````",
    "an unclosed fence": f"```json\n{TEXT}",
    "a text fence before": f"```text\nThe form says {{province}}.\n```\n\n{TEXT}",
    "prose before and after": f"Here is the report:\n\n{TEXT}\n\nLet me know if you need more!",
    "given twice": f"{TEXT}\n\n{TEXT}",
    "a trailing comma": TEXT.replace("}]}", "},]}"),
    "thinking aloud": f'<think>{{"reports": []}}?</think>{TEXT}',
    "a BOM": f"\ufeff{TEXT}",
}


@pytest.mark.parametrize("name", WRAPPINGS)
def test_a_wrapped_answer_is_paid_for_once(name, read, server):
    server.default = answered(WRAPPINGS[name])
    found = read()
    assert (
        found.output["reports"][0]["notes"] == REPORT["notes"]
        and found.output["reports"][0]["vote_results"][0]["vote_count"] == 7
    )
    assert len(server.calls) == found.attempts == 1 and found.cost_usd == pytest.approx(EACH)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300)
@given(_JSON)
def test_plain_json_is_read_as_it_is(value):
    text = json.dumps(value)
    if text.strip():
        assert json_in_text(text) == value


@settings(max_examples=300)
@given(
    st.dictionaries(st.text(), _JSON, min_size=1, max_size=4),
    st.sampled_from(["", "So [sic]: ", "The {form}: "]),
    st.sampled_from(["", "```", "````json\n"]),
    st.sampled_from(["", "\n```", "\n\nThat is {all}."]),
)
def test_an_object_is_found_in_prose_and_fences(value, before, opening, after):
    assert json_in_text(f"{before}{opening}{json.dumps(value)}{after}") == value


@settings(max_examples=300)
@given(st.dictionaries(st.text(), _JSON, min_size=1, max_size=4), st.data())
def test_half_an_object_is_never_taken_for_a_whole_one(value, data):
    text = json.dumps({"reports": [value, value]})
    cut = data.draw(st.integers(1, len(text) - 1))
    with pytest.raises(ValueError):
        json_in_text(text[:cut])


# ------------------------------------------------------------------------------- answers that are none
@pytest.mark.parametrize(
    "text, words",
    [
        (
            '{"reports": [{"vote_results": [{"number": 1, "vote_count": 7}]}], "reports": []}',
            "the key 'reports' comes twice with different values",
        ),
        ('{"reports": [{"notes": "a"}]} or {"reports": [{"notes": "b"}]}', "2 different JSON values"),
        ("I cannot read this form.", "it holds no JSON object"),
        (TEXT[:-20], "the text is not JSON"),
    ],
)
def test_an_answer_that_is_none_is_requested_once_more_and_not_a_third_time(text, words, read, server):
    server.default = answered(text)
    found = read()
    assert words in found.problem and found.problem.endswith("the same answer came twice")
    assert (
        len(server.calls) == found.attempts == 2 and found.cost_usd == pytest.approx(2 * EACH) and found.output is None
    )


def test_different_useless_answers_are_paid_for_three_times(read, server):
    draw = random.Random(3)
    server.default = lambda request: answered(f"no {draw.random()}")
    found = read()
    assert len(server.calls) == 3 and found.cost_usd == pytest.approx(3 * EACH)


def _body(**parts):
    "A response with these fields"
    candidate = {"content": {"role": "model", "parts": [{"text": TEXT}]}, "finishReason": "STOP"}
    return {"candidates": [candidate], "usageMetadata": usage(), "modelVersion": "gemini-2.5-flash", **parts}


def _with(**candidate):
    return _body(candidates=[{"content": {"parts": [{"text": TEXT}]}, "finishReason": "STOP", **candidate}])


ODD = {  # name: (body, its problem or None when it can be read, its cost is known)
    "content is a text": (_with(content=TEXT), None, True),
    "content is a list": (_with(content=[{"text": TEXT}]), None, True),
    "parts: [null]": (_with(content={"parts": [None, {"text": TEXT}]}), None, True),
    "parts is an object": (_with(content={"parts": {"text": TEXT}}), None, True),
    "candidates is an object": (_body(candidates=_with()["candidates"][0]), None, True),
    "candidates: [null, …]": (_body(candidates=[None, _with()["candidates"][0]]), None, True),
    "candidates: [null]": (_body(candidates=[None]), "the answer is empty", True),
    "candidates is a number": (_body(candidates=3), "the answer is empty", True),
    "candidates: [text]": (_body(candidates=["text"]), "the candidate is not an object", True),
    "text is a number": (_with(content={"parts": [{"text": 7}]}), "the answer is empty", True),
    "finishReason is a number": (_with(finishReason=7), "stopped: 7", True),
    "token counts as text": (
        _body(usageMetadata={"promptTokenCount": "1290", "candidatesTokenCount": "120"}),
        None,
        True,
    ),
    "token counts that are none": (
        _body(usageMetadata={"promptTokenCount": "many", "candidatesTokenCount": 120}),
        None,
        False,
    ),
    "token counts with a fraction": (
        _body(usageMetadata={"promptTokenCount": 12.5, "candidatesTokenCount": 120}),
        None,
        False,
    ),
    "token counts as a list": (_body(usageMetadata=[1]), None, False),
    "no token counts": (_body(usageMetadata=None), None, False),
    "modelVersion is a list": (_body(modelVersion=[1]), None, True),
    "promptFeedback is a text": (
        {"promptFeedback": "no", "usageMetadata": usage(output=0)},
        "the answer is empty",
        True,
    ),
    "an error in a 200": (
        {"error": {"code": 400, "message": "bad image"}},
        "the response is an error: bad image",
        False,
    ),
    "a list": ([1], "the answer is not an object", False),
    "a text": ("text", "the response is not JSON", False),
    "null": (None, "the response is not JSON", False),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_bodies_are_read_or_refused_in_one_sentence_with_their_cost(name, read, server):
    body, problem, is_known = ODD[name]
    server.default = Reply(body=body)
    budget = Budget(100.0)
    with listening() as heard:
        found = read(budget=budget, unknown_cost="allow")
    assert (found.problem or "").startswith(problem or "") and bool(found.output) is (problem is None)
    assert "\n" not in (found.problem or "") and "Traceback" not in (found.problem or "")
    assert len(server.calls) == found.attempts <= (1 if problem is None else 3)
    assert (found.cost_usd is not None) is is_known and (budget.n_unknown == 0) is is_known
    assert is_known is (budget.spent_usd > 0) and all(o.cost_usd != 0 for o in heard if o.type == "GENERATION")


def test_a_json_text_is_no_object(read, server):
    server.default = Reply(body=json.dumps("text"))
    assert read().problem.startswith("the answer is not an object")


# ------------------------------------------------------------------------------------ errors that pass
@pytest.mark.parametrize("status", [409, 425, 499, 500, 520, 529])
def test_errors_that_pass_are_tried_again(status, read, server):
    server.script(failed(status, "X", "later"), answered(TEXT))
    assert read().output and len(server.calls) == 2


@pytest.mark.parametrize("status", [400, 404, 405, 422, 501])
def test_errors_that_last_are_not(status, read, server):
    server.script(failed(status, "X", "no"), answered(TEXT))
    assert read().problem.startswith(f"http {status}") and len(server.calls) == 1


def test_retry_after_may_be_a_date(read, server):
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    server.script(failed(429, "RESOURCE_EXHAUSTED", "slow", headers={"Retry-After": later}), answered(TEXT))
    found = read()
    assert (
        found.output and server.calls[1].request.time - server.calls[0].request.time >= 0.9
    )  # a date has whole seconds


# ------------------------------------------------------------------------------------------- tiers
TIERS = [
    ("flex", {"serviceTier": "flex"}, {}, 0.5),
    ("flex", {}, {}, 0.5),
    ("priority", {}, {"x-gemini-service-tier": "standard"}, 1),
    ("priority", {"serviceTier": "SERVICE_TIER_PRIORITY"}, {}, 1.8),
    ("priority", {}, {}, 1.8),
    (None, {}, {}, 1),
]


@pytest.mark.parametrize("requested, reported, headers, factor", TIERS)
def test_the_tier_that_served_a_call_decides_its_price(requested, reported, headers, factor, read, server):
    server.default = answered(TEXT, tokens=usage() | reported, headers=headers)
    found = read(**({"service_tier": requested} if requested else {}))
    assert found.cost_usd == pytest.approx(factor * EACH) and server.calls[0].json.get("serviceTier") == requested


@pytest.mark.parametrize("traffic, factor", [("ON_DEMAND", 1), ("ON_DEMAND_FLEX", 0.5), (None, 0.5)])
def test_flex_on_vertex_is_a_header_and_may_be_refused_in_the_answer(traffic, factor, read, server):
    server.default = answered(TEXT, tokens=usage() | ({"trafficType": traffic} if traffic else {}))
    access = Access(project="p", location="global", base_url=server.url, credentials=Credentials("a-token"))
    found = read(access=access, service_tier="flex")
    (call,) = server.calls
    assert call.request.headers["x-vertex-ai-llm-shared-request-type"] == "flex" and "serviceTier" not in call.json
    assert found.cost_usd == pytest.approx(factor * EACH)


def test_the_level_xhigh_is_sent_and_two_ways_to_think_are_refused(read, server):
    server.default = answered(TEXT)
    (config,) = check_configs([{"model": "gemini-3.8-flash", "thinking_level": "xhigh"}])
    read(**config.settings)
    assert server.calls[0].config["thinkingConfig"] == {"thinkingLevel": "XHIGH"}
    with pytest.raises(ValueError, match="thinking_level and thinking_budget exclude each other"):
        check_configs([{"model": "gemini-2.5-flash", "thinking_level": "low", "thinking_budget": 0}])


@pytest.mark.parametrize(
    "environment, location",
    [
        ({"GOOGLE_CLOUD_LOCATION": "europe-west4"}, "europe-west4"),
        ({}, "global"),
        ({"GOOGLE_CLOUD_LOCATION": "europe-west4", "VERTEX_AI_LOCATION": "asia-southeast1"}, "asia-southeast1"),
    ],
)
def test_the_location_on_vertex(environment, location, server, page, loop, monkeypatch):
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "VERTEX_AI_LOCATION", "GOOGLE_CLOUD_LOCATION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "elections")
    monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", server.url)
    from vote_experiments.models import gemini_api

    found = gemini_api.find_access(model="gemini-3.8-flash")
    access = Access(
        project=found.project, location=found.location, base_url=found.base_url, credentials=Credentials("a-token")
    )
    server.default = answered(TEXT, model="gemini-3.8-flash")
    with calling(retry=QUICK, roots=["/"]):
        loop.run(GeminiModel("gemini-3.8-flash", access).extract([page], {}), context=contextvars.copy_context())
    assert f"/locations/{location}/" in server.calls[0].request.path


# ------------------------------------------------------------------------------------------- batches
def _batch(server, page, n=2, **how):
    model = GeminiModel("gemini-2.5-flash", Access(KEY, base_url=server.url))

    async def run():
        return await asyncio.gather(*(model.extract([page], {"mode": "batch", "seed": i}) for i in range(n)))

    with calling(roots=["/"], poll_s=0.05, retry=QUICK, **how):
        return asyncio.run(run())


@pytest.fixture
def batches(monkeypatch):
    monkeypatch.setattr(gemini_batch, "GATHER_S", 0.25)
    with GeminiServer() as server:
        server.batch_reply = lambda body, model: answered(TEXT, model=model)
        yield server


@pytest.mark.parametrize(
    "state, words", [("CANCELLED", "was cancelled at the provider"), ("EXPIRED", "expired at the provider")]
)
def test_a_job_that_was_ended_at_the_provider_is_not_created_again(state, words, batches, page):
    batches.batch_state = state
    found = _batch(batches, page)
    assert all(words in f.problem and "run the failed items again" in f.problem and f.attempts == 1 for f in found)
    assert len(batches.batches) == 1


def test_the_next_run_sends_a_new_job_for_it(batches, page):
    class Kept(dict):
        def put(self, key, value):
            self[key] = json.loads(json.dumps(value))

    kept = Kept()
    batches.batch_state = "CANCELLED"
    _batch(batches, page, cache=kept)
    batches.batch_state = "SUCCEEDED"
    assert all(f.output for f in _batch(batches, page, cache=kept)) and len(batches.batches) == 2


def test_a_broken_line_costs_its_own_answer_only(batches, page, monkeypatch):
    monkeypatch.setattr(gemini_batch, "INLINE_BYTES", 10)
    output = batches._output

    def broken(batch):
        where = output(batch)
        lines = batches.files[where["responsesFile"]].split(b"\n")
        if len(batches.batches) == 1:
            lines[1] = lines[1][:40]
        batches.files[where["responsesFile"]] = b"\n".join(lines)
        return where

    batches._output = broken
    found = _batch(batches, page, 4)
    assert all(f.output for f in found) and sorted(f.attempts for f in found) == [1, 1, 1, 2]
    assert sum(f.cost_usd is None for f in found) == 1  # the broken answer was billed
    assert len(batches.batches) == 2 and len(batches.batches["batches/b1"]["lines"]) == 1


# ---------------------------------------------------------------------------------- through LiteLLM
@pytest.fixture
def litellm(monkeypatch):
    pytest.importorskip("litellm", reason="the extra [litellm] is not installed")
    run_sync(forget_pace())
    with OpenAIServer() as server:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-openai-key-123456")
        monkeypatch.setenv("OPENAI_API_BASE", f"{server.url}/v1")
        yield server


def by_litellm(page, **how):
    with calling(retry=QUICK, roots=["/"], **how), listening() as heard:
        return get_model("litellm/openai/gpt-4o").extract_sync([page], {"unknown_cost": "allow"}), heard


def test_a_refusal_is_requested_once_and_its_words_are_kept(litellm, page):
    litellm.default = completed(None)
    litellm.default.body["choices"][0]["message"]["refusal"] = "I do not read ballots."
    found, _ = by_litellm(page)
    assert (
        found.problem == "the model refuses: I do not read ballots."
        and len(litellm.chats) == found.attempts == 1
        and found.cost_usd > 0
    )


@pytest.mark.parametrize("header, seconds", [("2", 2.0), (None, 0.9)])
def test_litellm_waits_as_long_as_the_server_wants(litellm, page, header, seconds):
    header = header or format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    litellm.script(openai_failed(429, "slow down", headers={"Retry-After": header}), completed(TEXT))
    found, _ = by_litellm(page)
    assert found.output and litellm.chats[1].time - litellm.chats[0].time >= seconds


@pytest.mark.parametrize("status", [499, 529])
def test_litellm_tries_these_again(litellm, page, status):
    litellm.script(openai_failed(status, "later"), completed(TEXT))
    assert by_litellm(page)[0].output and len(litellm.chats) == 2


def _choices(choices):
    reply = completed("x")
    reply.body["choices"] = choices
    return reply


def _counts(counts):
    reply = completed(TEXT)
    reply.body["usage"] = counts
    return reply


ODD_COMPLETIONS = {
    "choices: null": _choices(None),
    "choices: []": _choices([]),
    "choices: [null]": _choices([None]),
    "choices is an object": _choices({}),
    "message: null": _choices([{"index": 0, "message": None}]),
    "message is a text": _choices([{"index": 0, "message": "hi"}]),
    "a list": Reply(body=[1]),
    "a text": Reply(body='"hi"'),
    "HTML": Reply(body="<html>"),
    "empty": Reply(body=b""),
    "token counts that are none": _counts({"prompt_tokens": "many"}),
    "no token counts": _counts(None),
}


@pytest.mark.parametrize("name", ODD_COMPLETIONS)
def test_odd_completions_are_refused_in_one_sentence_and_never_free(name, litellm, page):
    litellm.default = ODD_COMPLETIONS[name]
    budget = Budget(100.0)
    found, heard = by_litellm(page, budget=budget)
    assert len(litellm.chats) == found.attempts <= 3 and "\n" not in (found.problem or "")
    assert budget.n_unknown + (budget.spent_usd > 0) > 0 and all(o.cost_usd != 0 for o in heard)
    assert bool(found.output) is (name == "no token counts")


ERRORS = [
    (openai_failed(500, "oops"), 5),
    (Reply(body={"error": {"message": "boom"}}), 1),
    (openai_failed(400, "bad"), 1),
    (Reply(reset=True), 5),
]


@pytest.mark.parametrize("reply, tries", ERRORS, ids=["500", "an error in a 200", "400", "reset"])
def test_real_errors_are_free(litellm, page, reply, tries):
    litellm.default = reply
    found, _ = by_litellm(page)
    assert found.attempts == tries and found.cost_usd == 0


def test_usage_of_several_answers_is_added(read, server):
    server.script(answered("no"), answered(TEXT))
    assert read().usage == Usage(2580, 240)
