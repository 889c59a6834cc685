"Models reached through LiteLLM, against an OpenAI-style server on the loopback"

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from servers.loopback import Reply
from servers.openai_server import OpenAIServer, completed, failed, images

from vote_experiments.datasets.saving import save_dataset
from vote_experiments.engine.plan import RunStoppedError
from vote_experiments.experiments.comparison import run_model_experiments
from vote_experiments.forms.schema import report_schema
from vote_experiments.models.prompts import prompt_text
from vote_experiments.models.registry import get_model, model_available
from vote_experiments.models.attempts import RetryPolicy
from vote_experiments.models.budget import Budget
from vote_experiments.models.resilience import calling, forget_pace, run_sync
from vote_experiments.records import Usage, listening
from vote_experiments.settings import OFFLINE_MODELS

pytest.importorskip("litellm", reason="the extra [litellm] is not installed")

KEY = "sk-planted-openai-key-123456"
NAME = "litellm/openai/gpt-4o"
TEXT = json.dumps({"reports": [{"form_info": {"province": "ตาก"}, "vote_results": [{"number": 1, "vote_count": 7}]}]})
QUICK = RetryPolicy(base_s=0.01)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("litellm") / "page.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 60), dtype=np.uint8)).save(path)
    return str(path)


@pytest.fixture(scope="module")
def running():
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def server(running, monkeypatch):
    running.forget()
    run_sync(forget_pace())
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_BASE", f"{running.url}/v1")
    return running


@pytest.fixture(params=["async", "sync"])
def read(request, server, page):
    def read(name=NAME, **config):
        with calling(retry=QUICK, roots=["/"]):
            work = get_model(name)
            return (
                work.extract_sync([page], config)
                if request.param == "sync"
                else asyncio.run(work.extract([page], config))
            )

    return read


def test_what_is_sent_and_what_comes_back(read, server, page):
    server.script(completed(TEXT, prompt=1000, completion=500, reasoning=100, cached=200))
    with listening() as heard:
        found = read(temperature=0.0, seed=3, max_output_tokens=9000)
    (chat,) = server.chats
    assert chat.headers["authorization"] == f"Bearer {KEY}"
    assert chat.json["messages"][0]["content"][0] == {"type": "text", "text": prompt_text()}
    assert images(chat) == [("image/png", open(page, "rb").read())]
    assert chat.json["response_format"]["json_schema"]["schema"] == report_schema()
    assert (chat.json["model"], chat.json["temperature"], chat.json["seed"], chat.json["max_tokens"]) == (
        "gpt-4o",
        0.0,
        3,
        9000,
    )
    assert found.output["reports"][0]["vote_results"][0]["vote_count"] == 7 and found.problem is None
    assert (
        found.usage == Usage(1000, 400, 100, 200) and found.model_version == "gpt-4o-2024-08-06" and found.cost_usd > 0
    )
    assert heard[0].level == "DEFAULT" and heard[0].model == NAME


@pytest.mark.parametrize(
    "reply, problem",
    [
        (failed(429, "slow down", "rate_limit", headers={"Retry-After": "0"}), "http 429"),
        (failed(503, "overloaded"), "http 503"),
        (failed(500, "oops"), "http 500"),
        (Reply(502, "<html>bad gateway</html>"), "http 502"),
        (Reply(reset=True), ""),
        (completed("not JSON"), "the answer is not valid"),
        (completed(None), "the answer is empty"),
        (Reply(hang=True), "timeout"),
    ],
)
def test_what_may_help_is_tried_again_by_us_alone(read, server, reply, problem):
    server.script(reply, completed(TEXT))
    with listening() as heard:
        found = read(deadline_s=2.0 if reply.hang else 60.0)
    assert found.output and found.attempts == len(server.chats) == len(heard) == 2
    assert heard[0].status_message.startswith(problem), heard[0].status_message


@pytest.mark.parametrize(
    "reply, problem",
    [
        (completed(TEXT, "length"), "truncated"),
        (completed(None, "content_filter"), "blocked: content_filter"),
        (failed(400, "unknown parameter", "invalid_request_error"), "http 400"),
        (failed(401, f"Incorrect API key provided: {KEY}", "invalid_request_error"), "http 401"),
        (failed(404, "no such model", "invalid_request_error"), "http 404"),
    ],
)
def test_what_cannot_be_helped_is_told_at_once(read, server, reply, problem):
    server.script(reply, completed(TEXT))
    found = read()
    assert found.problem.startswith(problem) and found.attempts == len(server.chats) == 1 and KEY not in found.problem


def test_own_price_or_none(read, server, tmp_path, monkeypatch):
    server.default = completed(TEXT, model="my-own-model")
    name = "litellm/openai/my-own-model"
    assert read(name).cost_usd is None
    with calling(budget=Budget(1.0)), pytest.raises(ValueError, match="price of 'litellm/openai/my-own-model'"):
        read(name)
    prices = tmp_path / "prices.toml"
    prices.write_text(f'[models."{name}"]\ninput = 1.0\noutput = 10.0\n')
    monkeypatch.setenv("VOTE_EXPERIMENTS_PRICES", str(prices))
    with calling(budget=Budget(1.0)) as context:
        assert read(name).cost_usd == pytest.approx((1290 + 1200) / 1e6) == context.budget.spent_usd


def test_cache(read, server):
    class Kept(dict):
        def put(self, key, value):
            self[key] = value

    server.default = completed(TEXT)
    with calling(cache=Kept()):
        assert [read().cached, read().cached, read(seed=1).cached] == [False, True, False]


def test_what_is_missing_is_said(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_API_BASE", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    reason = model_available("litellm/anthropic/claude-sonnet-4-5")
    assert "ANTHROPIC_API_KEY" in reason and all(m in reason for m in OFFLINE_MODELS)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-something-long")
    assert model_available("litellm/anthropic/claude-sonnet-4-5") is None


def test_an_experiment_end_to_end(server, page, sqlite_store, tmp_path, monkeypatch, capsys):
    "Cost, cache, cap and secrets are the same as with any other model"
    monkeypatch.setenv("VOTE_EXPERIMENTS_RUNS", str(tmp_path / "runs"))
    server.default = completed(TEXT, prompt=1000, completion=500)
    save_dataset(
        "forms",
        [
            {
                "id": f"f{i}",
                "input": {"image_paths": [page], "station": i},
                "expected_output": json.loads(TEXT)["reports"][0],
            }
            for i in range(4)
        ],
        root=Path(page).parent,
        store=sqlite_store,
    )
    how = {
        "dataset_name": "forms",
        "store": sqlite_store,
        "model_configs": [{"model": NAME, "temperature": 0.0}],
        "cache": False,
    }
    with pytest.raises(RunStoppedError, match="are spent of max_cost_usd"):
        run_model_experiments(**how, jobs=1, max_cost_usd=1e-6)
    assert len(server.chats) == 1
    (entry,) = run_model_experiments(**how, jobs=1, max_cost_usd=1, resume=True)["experiments"]
    assert (
        (entry["successful_records"], len(server.chats)) == (4, 4)
        and entry["cost_usd"] > 0
        and entry["rerouted"] is None
    )
    with pytest.raises(ValueError, match="price of 'litellm/openai/gpt-99' is not known"):
        run_model_experiments(**{**how, "model_configs": [{"model": "litellm/openai/gpt-99"}]}, max_cost_usd=1)
    server.default = failed(401, f"Incorrect API key provided: {KEY}", "invalid_request_error")
    results = run_model_experiments(**how, raise_errors=False)
    assert results["failed_experiments"] == 1 and "http 401" in results["experiments"][0]["error"]
    written = b"".join(
        p.read_bytes()
        for folder in (tmp_path, Path(sqlite_store.url.removeprefix("sqlite:///")).parent)
        for p in folder.rglob("*")
        if p.is_file()
    )
    assert (
        b"http 401" in written
        and KEY.encode() not in written
        and KEY not in "".join([json.dumps(results), *capsys.readouterr()])
    )
