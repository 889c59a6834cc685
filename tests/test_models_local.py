"Local models without a key: the real OpenAI SDK against servers that behave like Ollama, vLLM, LM Studio and Typhoon OCR"

import asyncio
import json

import numpy as np
import pytest
from PIL import Image
from servers.local_server import LmStudioServer, OldVllmServer, OllamaServer, TyphoonServer, VllmServer, reads
from servers.loopback import LoopbackServer, Reply
from servers.openai_server import completed, failed

from vote_experiments.datasets.dataset import get_dataset
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.engine.plan import RunStoppedError
from vote_experiments.experiments.comparison import run_model_experiments
from vote_experiments.experiments.estimate import estimate
from vote_experiments.experiments.experiment import run_experiment
from vote_experiments.forms.schema import report_schema
from vote_experiments.models.attempts import RetryPolicy
from vote_experiments.models.budget import Budget
from vote_experiments.models.extraction import extraction_task
from vote_experiments.models.registry import check_configs, get_model, model_available, provider_of
from vote_experiments.models.resilience import calling, forget_pace, run_sync
from vote_experiments.records import Usage, listening
from vote_experiments.scoring.judges import LLMJudge
from vote_experiments.settings import VARIABLES

NAME = "openai-compatible/qwen3-vl"
REPORT = {
    "form_info": {"province": "ตาก"},
    "voter_statistics": {"eligible_voters": 600},
    "ballot_statistics": {"good_ballots": 430},
    "vote_results": [
        {"number": 1, "candidate_name": "นายหนึ่ง", "party_name": "ก", "vote_count": 400},
        {"number": 2, "candidate_name": "นางสอง", "party_name": "ข", "vote_count": 30},
    ],
}
QUICK = RetryPolicy(base_s=0.01)
SECRET = "sk-a-real-openai-key-1234567890"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("local") / "page.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 60), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def home(tmp_path, monkeypatch, page):
    "An environment in which only keys of others are set, which must never be sent"
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("VOTE_EXPERIMENTS_STORE", str(tmp_path / "store.db"))
    monkeypatch.setenv("VOTE_EXPERIMENTS_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    run_sync(forget_pace())
    save_dataset(
        "pages",
        [
            {"id": f"f{i}", "input": {"image_paths": [str(page)], "station": i}, "expected_output": REPORT}
            for i in range(4)
        ],
        root=page.parent,
    )
    return tmp_path


def perfect(page):
    return reads({page.read_bytes(): REPORT})


def read(page, config, **context):
    with calling(retry=QUICK, roots=["/"], **context), listening() as heard:
        found = asyncio.run(get_model(config["model"]).extract([str(page)], config))
    return found, heard


def first_report(found):
    return found.output["reports"][0]


def test_one_line_of_a_config_is_enough(home, page):
    with OllamaServer("qwen3-vl", perfect(page)) as server:
        config = check_configs([{"model": NAME, "api_base": server.url, "temperature": 0.0, "seed": 3}])[0]
        assert model_available(config.model, config.config) is None and provider_of(NAME) == "openai-compatible"
        found, heard = read(page, config.config)
    (chat,) = server.chats
    assert (chat.json["model"], chat.json["temperature"], chat.json["seed"]) == ("qwen3-vl", 0.0, 3)
    assert chat.json["response_format"]["json_schema"]["schema"] == report_schema()
    assert [r["vote_count"] for r in first_report(found)["vote_results"]] == [400, 30]
    assert found.usage == Usage(1400, 300) and found.cost_usd == 0.0 and found.model_version == "qwen3-vl:latest"
    assert [o.level for o in heard] == ["DEFAULT"]  # the tag is not another model
    assert (
        SECRET not in json.dumps([r.headers for r in server.requests])
        and chat.headers["authorization"] == "Bearer not-needed"
    )


SERVERS = [
    (VllmServer, ["json_schema"]),
    (OllamaServer, ["json_schema"]),
    (LmStudioServer, ["json_schema"]),
    (OldVllmServer, ["json_schema", "json_object", None]),
]


@pytest.mark.parametrize("kind, formats", SERVERS, ids=[k.__name__ for k, _ in SERVERS])
def test_a_server_gets_the_best_format_it_takes(home, page, kind, formats):
    with kind("qwen3-vl", perfect(page)) as server:
        found, heard = read(page, {"model": NAME, "api_base": server.url})
    sent = [(c.json.get("response_format") or {}).get("type") for c in server.chats]
    assert sent == formats and found.attempts == 1 and first_report(found)["vote_results"][0]["vote_count"] == 400
    assert sum(o.name == "answer format" for o in heard) == len(formats) - 1
    if None in formats:  # the schema is in the text then
        assert "vote_results" in server.chats[-1].json["messages"][0]["content"][-1]["text"]


def test_what_a_server_takes_is_learnt_once(home, page):
    with OldVllmServer("qwen3-vl", perfect(page)) as server:
        results = run_model_experiments(
            dataset_name="pages",
            model_configs=[{"model": NAME, "api_base": server.url}],
            cache=False,
            jobs=1,
            show_comparison=False,
        )
    assert results["experiments"][0]["successful_records"] == 4 and len(server.chats) == 4 + 2


@pytest.mark.parametrize("version", [1, 2])
def test_the_tables_of_a_document_model_are_read(home, page, version):
    with TyphoonServer("scb10x/typhoon-ocr", perfect(page), version=version) as server:
        found, _ = read(page, {"model": "openai-compatible/scb10x/typhoon-ocr", "api_base": f"{server.url}/v1"})
    report = first_report(found)
    assert [(r["number"], r["candidate_name"], r["vote_count"]) for r in report["vote_results"]] == [
        (1, "นายหนึ่ง", 400),
        (2, "นางสอง", 30),
    ]
    assert (
        report["form_info"]["province"] == "ตาก"
        and report["ballot_statistics"]["good_ballots"] == 430
        and found.attempts == 1
    )


def test_two_servers_side_by_side(home, page):
    wrong = {**REPORT, "vote_results": [{**REPORT["vote_results"][0], "vote_count": 401}, REPORT["vote_results"][1]]}
    with (
        VllmServer("qwen3-vl", perfect(page)) as good,
        VllmServer("qwen3-vl", reads({page.read_bytes(): wrong})) as bad,
    ):
        configs = [
            {"model": NAME, "api_base": good.url, "name_suffix": "a100"},
            {"model": NAME, "api_base": bad.url, "name_suffix": "laptop"},
        ]
        found = estimate("pages", configs)
        results = run_model_experiments(
            dataset_name="pages", model_configs=configs, max_cost_usd=0.01, show_comparison=False
        )
    assert found.cost_usd in (None, 0.0) and "costs nothing" in str(found)
    first, second = results["experiments"]
    assert good.chats and len(good.chats) == len(bad.chats)  # one is never answered from the other's cache
    assert (first["cost_usd"], second["cost_usd"]) == (0.0, 0.0)
    assert first["summary_metrics"]["overall_accuracy"] > second["summary_metrics"]["overall_accuracy"]


def test_ollama_host_is_enough(home, page, monkeypatch):
    assert "OLLAMA_HOST" in model_available(NAME) and "api_base" in model_available(NAME)
    with pytest.raises(ValueError, match="no server for 'openai-compatible/qwen3-vl'"):
        run_model_experiments(dataset_name="pages", model_configs=[{"model": NAME}], show_comparison=False)
    with OllamaServer("qwen3-vl", perfect(page)) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url.removeprefix("http://"))
        found, _ = read(page, {"model": NAME})
    assert found.output and len(server.chats) == 1


def test_a_model_that_is_not_pulled_ends_after_three_calls(home, page):
    with OllamaServer("qwen3-vl", perfect(page)) as server:
        config = {"model": "openai-compatible/qwen4-vl", "api_base": server.url}
        with pytest.raises(RunStoppedError, match="try pulling it first.*check its name"):
            run_experiment(
                name="one",
                data=get_dataset("pages"),
                task=extraction_task(config, ["/"]),
                config=config,
                max_concurrency=1,
            )
        assert len(server.chats) == 3


def test_a_server_that_is_not_there_is_named(home, page):
    with LoopbackServer() as server:
        address = server.url
    found, _ = read(page, {"model": NAME, "api_base": address, "max_attempts": 2})
    assert found.problem.startswith(f"transport: {address}/v1: ") and found.attempts == 2


REPLIES = {  # name: (reply, tries, beginning of the problem)
    "429 with a wait": (failed(429, "slow down", headers={"Retry-After": "0"}), 2, "http 429"),
    "529": (failed(529, "overloaded"), 2, "http 529"),
    "499": (failed(499, "closed"), 2, "http 499"),
    "reset": (Reply(reset=True), 2, "transport: "),
    "hang": (Reply(hang=True), 2, "timeout"),
    "not JSON": (Reply(body="<html>"), 2, "the response is not JSON"),
    "too large": (
        failed(400, "image is too large for the context of 8192 tokens", "invalid_request_error"),
        1,
        "http 400",
    ),
    "refusal": (completed(None), 2, "the answer is empty"),
    "cut off": (completed("{", "length"), 1, "truncated"),
}


@pytest.mark.parametrize("name", REPLIES)
def test_faults_are_handled_as_everywhere(home, page, name):
    reply, tries, problem = REPLIES[name]
    with VllmServer("qwen3-vl", perfect(page)) as server:
        server.script(reply)
        found, heard = read(page, {"model": NAME, "api_base": server.url, "deadline_s": 1.0 if reply.hang else 60.0})
        assert len(server.chats) == found.attempts == tries
    assert heard[0].status_message.startswith(problem), heard[0].status_message
    assert bool(found.output) is (tries == 2)


def test_a_public_server_without_a_listed_price_has_an_unknown_cost():
    "Nothing is sent: the address belongs to no one"
    config = {"model": NAME, "api_base": "https://llm.example.org/v1"}
    with (
        calling(budget=Budget(1.0), roots=["/"]),
        pytest.raises(ValueError, match=r"price of 'openai-compatible/qwen3-vl' at https://llm"),
    ):
        asyncio.run(get_model(NAME).extract([], config))


def test_a_local_model_can_judge(home, page):
    verdict = completed(json.dumps({"reasoning": "as expected", "errors": [], "score": 9}))
    with VllmServer("qwen3-vl", perfect(page)) as server:
        server.default = verdict
        judge = LLMJudge("right?", NAME).using(NAME, api_base=server.url)
        with calling(retry=QUICK):
            found = asyncio.run(judge(input=None, output={"reports": [REPORT]}, expected_output=None))
    assert found.value == 0.9
