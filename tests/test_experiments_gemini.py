"""run_model_experiments with Gemini models, end to end: the real SDK against a server on the loopback that reads ten
synthetic form sets. What is printed, paid, cached, stopped, resumed, and what never leaks."""

import asyncio
import base64
import collections
import hashlib
import io
import json
import logging
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from PIL import Image
from servers.gemini_server import (
    GeminiServer,
    answered,
    failed,
    overloaded,
    read_model_request,
    refused,
    usage,
    wrong_key,
)
from servers.loopback import Reply

from vote_experiments.datasets.saving import save_dataset
from vote_experiments.store.run_totals import evaluator_errors, status_counts
from vote_experiments.store.runs import list_experiments, list_groups
from vote_experiments.store.database import Store
from vote_experiments.engine.plan import ItemFailedError, RunStoppedError
from vote_experiments.experiments.estimate import estimate
from vote_experiments.experiments.comparison import arun_model_experiments, run_model_experiments, stored_request
from vote_experiments.synthesis.drawn import form_set
from vote_experiments.reports import findings
from vote_experiments.models import images
from vote_experiments.models.registry import forget_model, register_model
from vote_experiments.models.attempts import RetryPolicy
from vote_experiments.models.resilience import calling, forget_pace, run_sync
from vote_experiments.records import Extraction
from vote_experiments.scoring.evaluators import STANDARD_EVALUATORS
from vote_experiments.scoring.judges import LLMJudge, extraction_judge
from vote_experiments.settings import DEFAULT_DATASET, VARIABLES

KEY = "planted-experiment-key-1234567890"
TOKENS = usage(prompt=3000, output=1000)
FLASH = [{"model": "gemini-2.5-flash", "temperature": 0.0, "name_suffix": "flash"}]
FLASH_USD = (3000 * 0.30 + 1000 * 2.50) / 1e6  # of one form set


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    "Ten synthetic form sets, their pages made small: (records, reports by the digest of the first page)"
    folder, records, truth = tmp_path_factory.mktemp("forms"), [], {}
    for seed in range(10):
        drawn = form_set(seed, "clean", "plain", "both" if seed == 3 else "Constituency")
        paths = []
        for i, page in enumerate(drawn.pages):
            image = Image.open(io.BytesIO(page))
            image.thumbnail((200, 300))
            image.save(folder / f"s{seed}_page{i + 1}.jpg")
            paths.append(f"s{seed}_page{i + 1}.jpg")
        given = drawn.record["ground_truth"]
        records.append(
            {
                "id": drawn.record["id"],
                "expected_output": given,
                "input": {"form_set_name": drawn.record["id"], "image_paths": paths, "num_pages": len(paths)},
            }
        )
        truth[hashlib.sha256((folder / paths[0]).read_bytes()).hexdigest()] = (
            given if isinstance(given, list) else [given]
        )
    return folder, records, truth


class Reader(GeminiServer):
    "Reads the forms it is shown; the lite model misreads one number of each. Also gives out the tokens that Vertex AI asks for."

    def __init__(self, truth):
        super().__init__()
        self.truth, self.serves = truth, {}

    def answer(self, request):
        if request.path == "/token":
            return Reply(
                body={"access_token": "token-of-a-service-account", "expires_in": 3600, "token_type": "Bearer"}
            )
        return super().answer(request)

    def generated(self, body, model):
        pages = [p["inlineData"]["data"] for p in body["contents"][0]["parts"] if "inlineData" in p]
        if not pages:  # a judge
            return answered(
                json.dumps({"reasoning": "as expected", "errors": [], "score": 9}), model=model, tokens=usage(500, 100)
            )
        reports = json.loads(json.dumps(self.truth[hashlib.sha256(base64.urlsafe_b64decode(pages[0])).hexdigest()]))
        if "lite" in model:
            reports[0]["ballot_statistics"]["good_ballots"] += 1
        return answered(
            json.dumps({"reports": reports}, ensure_ascii=False), model=self.serves.get(model, model), tokens=TOKENS
        )


@pytest.fixture(scope="module")
def running(forms):
    with Reader(forms[2]) as server:
        yield server


@pytest.fixture
def server(running, forms, tmp_path, monkeypatch):
    "The reader, with a key in the environment and the dataset in the default store"
    running.forget()
    running.serves.clear()
    running.batches.clear()
    running.batch_state, running.batch_reply = "SUCCEEDED", running.generated
    run_sync(forget_pace())
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", running.url)
    monkeypatch.setenv("VOTE_EXPERIMENTS_STORE", str(tmp_path / "store.db"))
    monkeypatch.setenv("VOTE_EXPERIMENTS_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    save_dataset(DEFAULT_DATASET, forms[1], root=forms[0])
    with calling(retry=RetryPolicy(base_s=0.01), poll_s=0.1):
        yield running


@pytest.fixture
def store(server, tmp_path):
    opened = Store(tmp_path / "store.db")
    yield opened
    opened.close()


def asked(server):
    "How often each model was called on each form set"
    return collections.Counter((c.model, hashlib.sha256(c.images[0][1]).hexdigest()) for c in server.calls if c.images)


# ------------------------------------------------------------------------------------ the three default models
def test_the_default_models_end_to_end(server, capsys):
    results = run_model_experiments()
    assert [(e["experiment_name"], e["status"], e["total_records"]) for e in results["experiments"]] == [
        (f"vote-extraction-{s}", "success", 10) for s in ("flash-t0", "lite-t0", "pro-t0")
    ]
    flash, lite, pro = results["experiments"]
    assert flash["summary_metrics"]["overall_accuracy"] == pro["summary_metrics"]["overall_accuracy"] == 1.0
    assert lite["summary_metrics"]["overall_accuracy"] < 1 and lite["summary_metrics"]["success_rate"] == 1.0
    assert flash["cost_usd"] == pytest.approx(10 * FLASH_USD) and flash["usage"]["prompt_tokens"] == 30_000
    assert lite["cost_usd"] == pytest.approx(10 * (3000 * 0.10 + 1000 * 0.40) / 1e6)
    assert pro["cost_usd"] == pytest.approx(10 * (3000 * 2 + 1000 * 12) / 1e6)
    assert [e["model_version"] for e in results["experiments"]] == [
        "gemini-2.5-flash",
        "gemini-2.5-flash-lite",
        "gemini-3-pro-preview",
    ]
    assert len(server.calls) == 30 and set(asked(server).values()) == {1} and server.most_in_flight <= 2
    assert {c.request.headers["x-goog-api-key"] for c in server.calls} == {KEY}
    assert {c.config["temperature"] for c in server.calls} == {0.0}
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    said = capsys.readouterr().out
    before, table = said.split("EXPERIMENT COMPARISON")
    told = [
        "BACKEND: local",
        f"Loading dataset: {DEFAULT_DATASET}",
        "RUNNING 3 EXPERIMENTS",
        "Experiment 1/3: gemini-2.5-flash (T=0.0)",
        "10/10, 10 ok, 0 failed",
        "$0.0340",
        "✅ Completed! Processed 10 records",
        "Experiment 3/3: gemini-3-pro-preview",
    ]
    shown = [
        "vote-extraction-flash-t0",
        "$0.034",
        "vote-extraction-lite-t0",
        "$0.0070",
        "vote-extraction-pro-t0",
        "$0.18",
        "Results:",
        "BEST PERFORMER: not decided",
    ]
    for text, parts in ((before, told), (table, shown)):
        places = [text.index(p) for p in parts]
        assert places == sorted(places)
    assert "Note:" not in said


def test_pages_are_read_once_for_four_configs(server, monkeypatch, forms):
    read, original = collections.Counter(), images.encode_file

    def counted(path, *rest):
        read[Path(path).name] += 1
        return original(path, *rest)

    monkeypatch.setattr(images, "encode_file", counted)
    run_model_experiments(
        model_configs=[{"model": "gemini-2.5-flash", "temperature": t / 10} for t in range(4)],
        show_comparison=False,
        jobs=5,
    )
    assert len(server.calls) == 40 and set(read.values()) == {1}
    assert len(read) == sum(len(r["input"]["image_paths"]) for r in forms[1])


def test_it_stays_on_the_callers_loop(server):
    results = asyncio.run(arun_model_experiments(model_configs=FLASH, sample_size=2, show_comparison=False))
    assert results["experiments"][0]["successful_records"] == 2 and len(server.calls) == 2


def _service_account(folder, token_uri):
    "Google's default credentials as a deployment has them: a file with a key of its own"
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    pem = (
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )
    path = folder / "service-account.json"
    path.write_text(
        json.dumps(
            {
                "type": "service_account",
                "project_id": "elections",
                "private_key_id": "k1",
                "private_key": pem,
                "token_uri": token_uri,
                "client_email": "reader@elections.iam.gserviceaccount.com",
                "client_id": "1",
            }
        )
    )
    return path


def test_vertex_with_default_credentials(server, tmp_path, monkeypatch):
    monkeypatch.delenv("GEMINI_API_KEY")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(_service_account(tmp_path, f"{server.url}/token")))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "elections")
    monkeypatch.setenv("VERTEX_AI_LOCATION", "asia-southeast1")
    monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", server.url)
    results = run_model_experiments(show_comparison=False, sample_size=3)
    assert [e["successful_records"] for e in results["experiments"]] == [3, 3, 3]
    assert {c.request.path.split("/models/")[0] for c in server.calls} == {
        "/v1beta1/projects/elections/locations/asia-southeast1/publishers/google"
    }
    assert {c.request.headers["authorization"] for c in server.calls} == {"Bearer token-of-a-service-account"}
    assert not any("x-goog-api-key" in c.request.headers for c in server.calls)


def test_without_credentials_one_clear_error_and_no_call(server, store, monkeypatch, capsys):
    monkeypatch.delenv("GEMINI_API_KEY")
    with pytest.raises(ValueError) as told:
        run_model_experiments()
    assert all(w in str(told.value) for w in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_CLOUD_PROJECT", "ocr-fused"))
    assert not server.requests and list_groups(store) == [] and capsys.readouterr().out == ""


# --------------------------------------------------------------------------------------------- cache
def test_the_second_run_makes_no_call_and_says_so(server, capsys):
    first = run_model_experiments(model_configs=FLASH)
    assert "from the cache" not in capsys.readouterr().out and len(server.calls) == 10
    second = run_model_experiments(model_configs=FLASH)
    (entry,) = second["experiments"]
    assert len(server.calls) == 10 and (entry["n_cached"], entry["cost_usd"], entry["latency"]["n"]) == (10, 0, 0)
    assert "Processed 10 records (0 failed, all from the cache: no model was called)" in capsys.readouterr().out
    assert entry["summary_metrics"] == first["experiments"][0]["summary_metrics"]
    run_model_experiments(model_configs=FLASH, cache=False, show_comparison=False)
    assert len(server.calls) == 20
    run_model_experiments(model_configs=FLASH, cache="refresh", show_comparison=False)
    assert len(server.calls) == 30


def test_three_repeats_are_three_calls(server):
    results = run_model_experiments(model_configs=FLASH, repeats=3, show_comparison=False)
    assert set(asked(server).values()) == {3} and len(server.calls) == 30
    assert results["experiments"][0]["total_records"] == 30 and results["experiments"][0]["n_cached"] == 0
    again = run_model_experiments(model_configs=FLASH, repeats=4, show_comparison=False)
    assert len(server.calls) == 40 and again["experiments"][0]["n_cached"] == 30


# --------------------------------------------------------------------------------------------- money
def test_the_cap_stops_the_run_and_a_new_cap_resumes_it(server, store, capsys):
    both = [*FLASH, {**FLASH[0], "temperature": 0.5, "name_suffix": "warm"}]
    how = {"model_configs": both, "jobs": 3, "show_comparison": False}
    with pytest.raises(
        RunStoppedError, match=r"USD are spent of max_cost_usd=0.0119; resume .* higher max_cost_usd"
    ) as told:
        run_model_experiments(**how, max_cost_usd=3.5 * FLASH_USD)
    assert "vote-experiments resume grp_" in str(told.value)
    made = len(server.calls)
    assert 4 <= made <= 3 + 3  # the cap is reached with the fourth; two more may be in flight then
    (group,) = list_groups(store)
    (row,) = list_experiments(store)
    assert (group["status"], row["status"]) == ("interrupted", "interrupted") and status_counts(store, row["id"])[
        "ok"
    ] == made
    with pytest.raises(RunStoppedError, match="are spent"):
        run_model_experiments(**how, resume=True, max_cost_usd=3.5 * FLASH_USD)
    assert len(server.calls) == made  # what was spent before counts
    with pytest.raises(RunStoppedError, match="are spent"):
        run_model_experiments(**how, resume=True, max_cost_usd=8.5 * FLASH_USD)
    assert 9 <= len(server.calls) <= 8 + 3
    assert stored_request(store, group["id"])["max_cost_usd"] == pytest.approx(3.5 * FLASH_USD)  # as the run began
    results = run_model_experiments(**how, resume=True, max_cost_usd=1.0)
    assert results["group_id"] == group["id"] and len(list_groups(store)) == 1
    assert [e["successful_records"] for e in results["experiments"]] == [10, 10] and set(asked(server).values()) == {2}
    assert (
        sum(e["cost_usd"] for e in results["experiments"]) == pytest.approx(20 * FLASH_USD) and len(server.calls) == 20
    )


def test_money_that_runs_out_in_a_judge_stops_the_run_and_no_form_is_read_twice(server, store):
    judge_usd = (500 * 0.30 + 100 * 2.50) / 1e6
    how = {
        "model_configs": FLASH,
        "jobs": 1,
        "show_comparison": False,
        "evaluators": [*STANDARD_EVALUATORS, extraction_judge],
    }
    with pytest.raises(RunStoppedError, match="are spent"):  # the third form is read and not judged
        run_model_experiments(**how, max_cost_usd=3 * FLASH_USD + 2 * judge_usd)
    (row,) = list_experiments(store)
    assert status_counts(store, row["id"]) == {"ok": 2, "failed": 0, "skipped": 0} and len(server.calls) == 5
    with pytest.raises(
        RunStoppedError, match="are spent"
    ):  # what was paid for the third counts although it is not stored
        run_model_experiments(**how, resume=True, max_cost_usd=3 * FLASH_USD + 2 * judge_usd)
    assert len(server.calls) == 5
    results = run_model_experiments(**how, resume=True, max_cost_usd=1.0)
    (entry,) = results["experiments"]
    assert entry["successful_records"] == 10 and set(asked(server).values()) == {1} and len(server.calls) == 20
    assert results["comparison"] and entry["metrics_ci"]["llm_judge_evaluator"]
    assert evaluator_errors(store, row["id"]) == {}


def test_a_cap_that_cannot_be_kept_is_refused_before_anything_runs(server, store):
    for how in (
        {"model_configs": [*FLASH, {"model": "gemini-9"}]},
        {"model_configs": FLASH, "evaluators": [extraction_judge.using("gemini-9")]},
    ):
        with pytest.raises(
            ValueError, match="max_cost_usd cannot be kept: the price of 'gemini-9' is not known; add it to a file"
        ):
            run_model_experiments(**how, max_cost_usd=1.0, raise_errors=False)
    with pytest.raises(ValueError, match="max_cost_usd.* must be a number.* above 0"):
        run_model_experiments(model_configs=FLASH, max_cost_usd=0)
    assert not server.requests and list_groups(store) == []


@pytest.mark.parametrize("is_async", [False, True])
def test_the_cap_holds_for_registered_models_that_say_their_cost(server, is_async):
    asked = []

    def reads(images, config):
        asked.append(images)
        return Extraction({"reports": []}, cost_usd=0.01)

    async def reads_later(images, config):
        return reads(images, config)

    register_model("reads", reads_later if is_async else reads)
    how = {"model_configs": [{"model": "reads"}], "jobs": 2, "show_comparison": False}
    try:
        with pytest.raises(RunStoppedError, match="are spent of max_cost_usd=0.035"):
            run_model_experiments(**how, max_cost_usd=0.035)
        assert 4 <= len(asked) <= 5
        results = run_model_experiments(**how, max_cost_usd=1, resume=True)
    finally:
        forget_model("reads")
    assert len(asked) == 10 and results["experiments"][0]["cost_usd"] == pytest.approx(0.1)


def test_judges_are_checked_before_anything_runs(server, store, monkeypatch):
    monkeypatch.delenv("GEMINI_API_KEY")
    read = []
    register_model("reads", lambda images, config: read.append(images))
    try:
        with pytest.raises(
            ValueError, match="'llm_judge_evaluator' cannot judge here: .*GEMINI_API_KEY.*GOOGLE_CLOUD_PROJECT"
        ):
            run_model_experiments(model_configs=[{"model": "reads"}], evaluators=[extraction_judge], raise_errors=False)
        with pytest.raises(ValueError, match="'mine' cannot judge here: unknown model 'gpt-9'"):
            run_model_experiments(
                model_configs=[{"model": "reads"}], evaluators=[LLMJudge("is it right?", "gpt-9", "mine")]
            )
    finally:
        forget_model("reads")
    assert not read and list_groups(store) == []


def _stormy(server, seed):
    "Three in ten calls go wrong; counts what was billed"
    draw, billed = random.Random(seed), []
    faults = [
        lambda: refused(0.02),
        overloaded,
        lambda: Reply(reset=True),
        lambda: Reply(502, "<html>"),
        lambda: answered('{"reports": [{', tokens=TOKENS),
    ]

    def reply(request):
        made = draw.choice(faults)() if draw.random() < 0.3 else server.generated(request.json, "gemini-2.5-flash")
        if made.status == 200 and not made.reset:
            billed.append(FLASH_USD)
        return made

    server.default = reply
    return billed


@pytest.mark.parametrize("repeats", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_a_storm_loses_nothing_and_every_billed_try_is_counted(server, repeats):
    billed = _stormy(server, seed=repeats)
    config = {**FLASH[0], "max_attempts": 12}
    results = run_model_experiments(
        model_configs=[config], repeats=repeats, jobs=20, show_comparison=False, max_cost_usd=1000.0
    )
    (entry,) = results["experiments"]
    assert (entry["successful_records"], entry["failed_records"]) == (10 * repeats, 0)
    assert entry["summary_metrics"]["overall_accuracy"] == 1.0
    assert len(server.calls) <= 1.6 * 10 * repeats and server.most_in_flight <= 20
    assert entry["cost_usd"] == pytest.approx(sum(billed)) and len(billed) > 10 * repeats


# ----------------------------------------------------------------------------------- another model answered
def test_a_reroute_is_told_wherever_the_model_is_named(server, capsys):
    server.serves["gemini-2.5-flash"] = "gemini-3.5-flash"
    results = run_model_experiments(model_configs=[*FLASH, {"model": "gemini-2.5-flash-lite", "name_suffix": "lite"}])
    flash, lite = results["experiments"]
    note = "requested gemini-2.5-flash, answered by gemini-3.5-flash (10 items)"
    assert flash["rerouted"] == note and flash["model_version"] == "gemini-3.5-flash"
    assert lite["rerouted"] is None and lite["model_version"] == "gemini-2.5-flash-lite"
    assert flash["cost_usd"] == pytest.approx(10 * (3000 * 1.50 + 1000 * 9.00) / 1e6)  # as what answered
    said = capsys.readouterr().out
    assert f"Note: vote-extraction-flash: {note}" in said and "gemini-2.5-flash (answered by another)" in said
    page = Path(results["report_path"], "index.html").read_text()
    assert note in page and "gemini-2.5-flash (answered by another)" in page
    asked = str(findings.asked(findings.open_run(results["group_id"], None)))
    assert note in asked and asked.count("Another model answered") == 1


# --------------------------------------------------------------------------------------------- batch
BATCH = """
import sys
from vote_experiments import run_model_experiments
from vote_experiments.models.resilience import calling
with calling(poll_s=0.1):
    results = run_model_experiments(model_configs=[{"model": "gemini-2.5-flash", "mode": "batch", "name_suffix": "batch"}],
                                    jobs=2, resume=True, show_comparison=False, cache=sys.argv[1] == "cache")
print(results["experiments"][0]["successful_records"], results["experiments"][0]["cost_usd"])
"""


@pytest.mark.parametrize("cache", ["cache", pytest.param("no-cache", marks=pytest.mark.slow)])
def test_a_killed_batch_run_finds_its_one_job_again(server, store, tmp_path, cache):
    script = tmp_path / "batch.py"
    script.write_text(textwrap.dedent(BATCH))
    command, server.batch_state = [sys.executable, str(script), cache], "RUNNING"
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not server.batches or sum(r.path.startswith("/v1beta/batches/") for r in server.requests) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (batch,) = server.batches.values()
    assert len(batch["lines"]) == 10  # jobs=2 does not limit what goes into it
    server.batch_state = "SUCCEEDED"
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    n, cost = done.stdout.split()
    assert (
        (n, float(cost)) == ("10", pytest.approx(10 * FLASH_USD / 2)) and len(server.batches) == 1 and not server.calls
    )
    assert [e["status"] for e in list_experiments(store)] == ["finished"] and len(list_groups(store)) == 1


def test_batch_on_vertex_is_refused_for_every_item_with_the_way_out(server, monkeypatch, tmp_path):
    monkeypatch.delenv("GEMINI_API_KEY")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(_service_account(tmp_path, f"{server.url}/token")))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "elections")
    monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", server.url)
    with pytest.raises(ItemFailedError, match="batches are read from Cloud Storage or BigQuery only"):
        run_model_experiments(model_configs=[{"model": "gemini-2.5-flash", "mode": "batch"}], show_comparison=False)


# ------------------------------------------------------------------------------------------ what it would take
def _methods(server):
    return collections.Counter(read_model_request(r).method for r in server.requests)


def test_an_estimate_counts_a_few_forms_and_pays_nothing(server, store):
    configs = [
        *FLASH,
        {"model": "gemini-2.5-flash-lite", "mode": "batch"},
        {"model": "gemini-9"},
        {"model": "ocr-digits"},
    ]
    before = estimate(model_configs=configs, repeats=2, jobs=4)
    assert _methods(server) == {"countTokens": 3 * 2 * 3} and list_groups(store) == []  # prompts and right answers
    flash, lite, unknown, offline = before.configs
    assert 258 * 2 < flash.prompt_tokens <= 258 * 7 and flash.output_tokens == 258 and flash.calls == 20
    assert flash.cost_usd == pytest.approx(20 * (flash.prompt_tokens * 0.30 + 258 * 2.50) / 1e6, rel=0.01)
    assert lite.cost_usd == pytest.approx(20 * (lite.prompt_tokens * 0.10 + 258 * 0.40) / 2e6, rel=0.01)
    assert "thinking comes on top" in str(flash.notes) and "within 24 hours" in str(lite.notes) and lite.seconds is None
    assert unknown.cost_usd is None and "price of gemini-9 is not known" in str(unknown.notes)
    assert offline.cost_usd == 0 and before.cost_usd is None and "cost not known" in before.summary()
    run_model_experiments(
        model_configs=FLASH, evaluators=[*STANDARD_EVALUATORS, extraction_judge], show_comparison=False, sample_size=4
    )
    after = estimate(model_configs=FLASH, sample_size=6, jobs=3).configs[0]
    assert (
        after.output_tokens == 1000 and after.calls == 6 and after.seconds > 0
    )  # as it really wrote; judges are not counted
    warm = estimate(model_configs=[{**FLASH[0], "temperature": 0.5}]).configs[0]
    assert warm.output_tokens == 1000 and "with other settings" in str(warm.notes)


def test_an_estimate_without_an_answer_says_so(server, monkeypatch):
    server.answer = lambda request: failed(403, "PERMISSION_DENIED", f"no access for {KEY}")
    try:
        found = estimate(model_configs=FLASH).configs[0]
    finally:
        del server.answer
    assert (
        found.cost_usd is None and "could not be counted: http 403" in str(found.notes) and KEY not in str(found.notes)
    )
    monkeypatch.delenv("GEMINI_API_KEY")
    assert "cannot run here: no credentials" in str(estimate(model_configs=FLASH).configs[0].notes)


# -------------------------------------------------------------------------------------------- secrets
def _everything_written(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("report", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_planted_key_is_nowhere(server, tmp_path, capsys, caplog, report):
    caplog.set_level(logging.DEBUG)
    script = [
        wrong_key(KEY),
        failed(500, "INTERNAL", f"key={KEY}"),
        answered(f"the key is {KEY}"),
        Reply(body=f"<{KEY}>"),
        Reply(502, f"<html>{KEY}</html>"),
        failed(403, "PERMISSION_DENIED", KEY),
        answered(json.dumps({"reports": [{"form_info": {"province": KEY}, "vote_results": []}]})),
        answered(json.dumps({"reasoning": f"the key is {KEY}", "errors": [], "score": 3})),
    ]
    server.default = lambda request: script[len(server.requests) % len(script)]
    shown = []
    judge = LLMJudge(f"the key is {KEY}", name="judge")
    for raises in (False, True):
        try:
            results = run_model_experiments(
                model_configs=[
                    {
                        "model": "gemini-2.5-flash",
                        "temperature": t / 10,
                        "max_attempts": 2,
                        "metadata": {"k": KEY},
                        "prompt": f"Read it. {KEY}",
                    }
                    for t in range(3)
                ],
                raise_errors=raises,
                evaluators=[*STANDARD_EVALUATORS, judge],
                cache=not raises,
                report=report and not raises,
            )
            shown.append(json.dumps(results))
        except Exception as error:
            shown.append(f"{error!r} {error.__cause__!r} {error.__context__!r}")
    written = _everything_written(tmp_path)
    assert any(name.endswith("store.db") for name in written) and any(
        name.endswith("report.html" if report else "index.html") for name in written
    )
    assert not [name for name, content in written.items() if KEY.encode() in content]
    out, err = capsys.readouterr()
    for what, text in {"returned or raised": "".join(shown), "stdout": out, "stderr": err, "log": caplog.text}.items():
        assert KEY not in text, (what, re.findall(f".*{KEY}.*", text)[:3])
    assert any(b"[redacted]" in content for content in written.values()) and "[redacted]" in caplog.text
    assert server.requests[0].headers["x-goog-api-key"] == KEY  # it was really used
