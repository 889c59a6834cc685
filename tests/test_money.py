"""A cap is a cap, and what is not known is never shown as nothing: forty items, a cap of ten cents, a server that charges
in every way that made the cap leak"""

import asyncio
import json
import math
from datetime import date

import numpy as np
import pytest
from PIL import Image
from servers.gemini_server import GeminiServer, answered, failed, usage
from servers.loopback import Reply
from typer.testing import CliRunner

from vote_experiments.analysis.frames import cost_text, summary_markdown
from vote_experiments.cli.main import app
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.engine.plan import RunStoppedError
from vote_experiments.engine.progress import Progress, progress_line
from vote_experiments.experiments.comparison import run_model_experiments
from vote_experiments.experiments.estimate import estimate
from vote_experiments.experiments.race import race
from vote_experiments.experiments.result import experiment_result
from vote_experiments.models import gemini_batch
from vote_experiments.models.attempts import RetryPolicy
from vote_experiments.models.registry import check_configs, forget_model, register_model
from vote_experiments.models.resilience import calling, forget_pace, run_sync
from vote_experiments.models.retirements import read_retirements, retirement_notices, retirement_of
from vote_experiments.models.prices import PRICES_FILE, price_of
from vote_experiments.records import Extraction, Usage
from vote_experiments.reports.cards import result_card
from vote_experiments.reports.findings import cost_and_accuracy
from vote_experiments.reports.stored_run import open_run
from vote_experiments.server.messages import run_response
from vote_experiments.settings import DEFAULT_MODEL_CONFIGS, PRESETS, VARIABLES
from vote_experiments.store.runs import list_experiments
from vote_experiments.store.run_totals import spent

KEY = "planted-money-key-1234567890"
REPORT = {"form_info": {"province": "ตาก"}, "vote_results": [{"number": 1, "vote_count": 7}]}
TEXT = json.dumps({"reports": [REPORT]}, ensure_ascii=False)
CAP, JOBS = 0.10, 3
EACH = (20_000 * 0.30 + 4_000 * 2.50) / 1e6  # of a gemini-2.5-flash call


@pytest.fixture(scope="module")
def running():
    with GeminiServer() as server:
        yield server


@pytest.fixture
def server(running, tmp_path, monkeypatch):
    "A Gemini server, a key in the environment, and a dataset of forty items"
    running.forget()
    running.batches.clear()
    running.batch_state, running.batch_reply = "SUCCEEDED", running.generated
    run_sync(forget_pace())
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", running.url)
    monkeypatch.setenv("VOTE_EXPERIMENTS_STORE", str(tmp_path / "store.db"))
    monkeypatch.setenv("VOTE_EXPERIMENTS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(gemini_batch, "GATHER_S", 0.25)
    monkeypatch.chdir(tmp_path)
    for i in range(40):
        Image.fromarray(np.full((80, 60), 200 + i, np.uint8)).save(tmp_path / f"page{i}.png")
    save_dataset(
        "forty",
        [{"id": f"f{i}", "input": {"image_paths": [f"page{i}.png"]}, "expected_output": REPORT} for i in range(40)],
        root=tmp_path,
    )
    with calling(retry=RetryPolicy(base_s=0.01), poll_s=0.05):
        yield running


def ask(*configs, **how):
    return run_model_experiments(
        dataset_name="forty",
        model_configs=list(configs),
        **{"jobs": JOBS, "cache": False, "show_comparison": False, "raise_errors": False, **how},
    )


def without_usage(reply: Reply) -> Reply:
    del reply.body["usageMetadata"]
    return reply


COSTLY = usage(prompt=20_000, output=4_000)
LONG = usage(prompt=250_000, output=4_000)
FLASH = {"model": "gemini-2.5-flash"}
SITUATIONS = {  # name: (config, reply, calls until the cap is reached, words of the message)
    "standard": (FLASH, answered(TEXT, tokens=COSTLY), math.ceil(CAP / EACH), "USD are spent of max_cost_usd=0.1"),
    "priority": (
        {**FLASH, "service_tier": "priority"},
        answered(TEXT, tokens=COSTLY),
        math.ceil(CAP / EACH / 1.8),
        "are spent of",
    ),
    "no token counts": (FLASH, without_usage(answered(TEXT)), 1, "the answer reports no token counts"),
    "empty token counts": (
        FLASH,
        answered(TEXT, tokens={"totalTokenCount": None}),
        1,
        "the answer reports no token counts",
    ),
    "rerouted to an unpriced model": (
        FLASH,
        answered(TEXT, model="gemini-9-ultra"),
        1,
        "the price of 'gemini-9-ultra' is not known",
    ),
    "a long prompt": (
        {"model": "gemini-2.5-pro"},
        answered(TEXT, tokens=LONG, model="gemini-2.5-pro"),
        1,
        "are spent of",
    ),
    "a long prompt without a price": (
        {"model": "gemini-own"},
        answered(TEXT, tokens=LONG, model="gemini-own"),
        1,
        "beyond 200,000 prompt tokens is not known",
    ),
    "a tier that no one prices": (
        FLASH,
        answered(TEXT, tokens=COSTLY | {"trafficType": "PROVISIONED_THROUGHPUT"}),
        1,
        "in the tier 'provisioned' is not known",
    ),
    "an answer that is not JSON": (FLASH, Reply(body="<html>hello</html>"), 1, "the response is not JSON"),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_cap_is_a_cap(situation, server, tmp_path, monkeypatch):
    config, reply, calls, words = SITUATIONS[situation]
    own = tmp_path / "prices.toml"
    own.write_text('[models."gemini-own"]\ninput = 1.25\noutput = 10\nup_to_prompt_tokens = 200_000\n')
    monkeypatch.setenv("VOTE_EXPERIMENTS_PRICES", str(own))
    server.default = reply
    with pytest.raises(RunStoppedError) as stopped:
        ask(config, max_cost_usd=CAP)
    assert words in str(stopped.value) and "resume" in str(stopped.value)
    assert calls <= len(server.calls) <= calls + JOBS - 1


def test_without_a_cap_the_same_runs_are_whole_and_their_cost_is_unknown(server):
    server.default = without_usage(answered(TEXT))
    (entry,) = ask(FLASH)["experiments"]
    assert entry["successful_records"] == 40 and (entry["cost_usd"], entry["known_cost_usd"], entry["n_unpriced"]) == (
        None,
        None,
        40,
    )


def test_unknown_costs_can_be_allowed(server):
    server.default = without_usage(answered(TEXT))
    (entry,) = ask({**FLASH, "unknown_cost": "allow"}, max_cost_usd=CAP)["experiments"]
    assert entry["successful_records"] == 40 and entry["n_unpriced"] == 40 and entry["cost_usd"] is None


# ------------------------------------------------------------------------------------------ batches
BATCH = {**FLASH, "mode": "batch"}


def test_a_batch_that_would_exceed_the_cap_is_not_sent(server):
    with pytest.raises(
        RunStoppedError, match=r"a batch of 40 requests to gemini-2.5-flash would cost about .* max_cost_usd=0.1"
    ):
        ask(BATCH, max_cost_usd=CAP)
    assert not server.batches


def test_a_batch_counts_with_what_earlier_runs_took_and_its_cost_is_charged(server):
    small = answered(TEXT, tokens=usage(prompt=1000, output=200))
    server.default, server.batch_reply = small, lambda body, model: small
    with pytest.raises(RunStoppedError, match="would cost about"):
        ask(BATCH, max_cost_usd=CAP)  # nothing is known: 32,768 output tokens each
    ask(FLASH, sample_size=3)
    (entry,) = ask(BATCH, max_cost_usd=CAP)["experiments"]
    assert len(server.batches) == 1 and entry["successful_records"] == 40
    assert entry["cost_usd"] == pytest.approx(40 * (1000 * 0.15 + 200 * 1.25) / 1e6)


def test_two_batches_share_one_cap(server):
    reply = answered(TEXT, tokens=usage(prompt=1000, output=200))
    server.batch_reply = lambda body, model: reply
    each = {**BATCH, "max_output_tokens": 1024}
    estimated = 40 * (258 * 2 * 0.15 + 1024 * 1.25) / 1e6  # the server counts 258 tokens for the text and for the page
    with pytest.raises(RunStoppedError, match="would cost about"):
        ask(
            {**each, "name_suffix": "one"},
            {**each, "temperature": 0.5, "name_suffix": "two"},
            max_cost_usd=1.2 * estimated,
        )
    assert len(server.batches) == 1  # the first one fits


# ------------------------------------------------------------------------- other ways to spend money
def test_a_race_has_the_same_cap_also_when_it_is_resumed(server):
    server.default = answered(TEXT, tokens=COSTLY)
    how = {
        "dataset_name": "forty",
        "model_configs": [{**FLASH, "name_suffix": "a"}, {**FLASH, "temperature": 0.5, "name_suffix": "b"}],
        "jobs": JOBS,
        "cache": False,
        "progress": False,
        "round_size": 20,
    }
    with pytest.raises(ValueError, match="the price of 'gemini-9' is not known"):
        race(**{**how, "model_configs": [FLASH, {"model": "gemini-9"}]}, max_cost_usd=CAP)
    with pytest.raises(RunStoppedError, match="are spent of"):
        race(**how, max_cost_usd=CAP)
    made = len(server.calls)
    assert made <= math.ceil(CAP / EACH) + JOBS - 1
    with pytest.raises(RunStoppedError, match="are spent of"):
        race(**how, max_cost_usd=CAP, resume=True)
    assert len(server.calls) == made


def test_a_registered_model_that_reports_tokens_without_a_cost_ends_a_capped_run(server):
    asked = []
    register_model(
        "counts", lambda images, config: asked.append(1) or Extraction({"reports": [REPORT]}, usage=Usage(1000, 100))
    )
    register_model("computes", lambda images, config: {"reports": [REPORT]})
    try:
        with pytest.raises(RunStoppedError, match="counts: it reports tokens but no cost"):
            ask({"model": "counts"}, jobs=1, max_cost_usd=CAP)
        assert len(asked) == 1
        assert ask({"model": "computes"}, max_cost_usd=CAP)["experiments"][0]["successful_records"] == 40
    finally:
        forget_model("counts"), forget_model("computes")


# ---------------------------------------------------------------------- unknown is not shown as zero
@pytest.fixture
def half_known(server):
    "A run of which every second cost is unknown, and one of which nothing is known"
    replies = iter([answered(TEXT, tokens=COSTLY), without_usage(answered(TEXT))] * 20)
    server.default = lambda request: next(replies, without_usage(answered(TEXT)))
    return ask({**FLASH, "name_suffix": "half"}, {**FLASH, "temperature": 0.5, "name_suffix": "none"}, jobs=1)


def test_what_is_not_known_is_never_shown_as_zero(half_known, capsys):
    half, none = half_known["experiments"]
    known = pytest.approx(20 * EACH)
    assert (half["cost_usd"], half["known_cost_usd"], half["n_unpriced"]) == (None, known, 20)
    assert (cost_text(half), cost_text(none)) == ("≥ $0.32", "–")
    shown = {
        "headline": half_known["headline"],
        "entries": json.dumps(half_known),
        "http": run_response(half_known, "http://here").model_dump_json(),
    }
    opened = open_run(half_known["group_id"])
    shown["report"] = str(cost_and_accuracy(opened))
    for entry in (half, none):
        result = experiment_result(entry["experiment_id"])
        shown |= {
            f"card {entry['experiment_name']}": str(result_card(result)),
            f"markdown {entry['experiment_name']}": summary_markdown(result),
        }
    shown["page"] = (opened.folder / "index.html").read_text() if hasattr(opened, "folder") else ""
    shown["cli"] = CliRunner().invoke(app, ["runs", "show", half_known["group_id"]]).output
    assert not [where for where, text in shown.items() if "$0.00" in text or '"cost_usd":0.0' in text.replace(" ", "")]
    assert "≥ $0.32" in shown["cli"] and "≥ $0.32" in shown[f"card {half['experiment_name']}"]
    assert "The price of no experiment is known" in shown["report"]


def test_the_printed_table_and_the_progress_line_do_not_say_zero(server, capsys):
    server.default = without_usage(answered(TEXT))
    ask(FLASH, show_comparison=True)
    printed = "".join(capsys.readouterr())
    assert "$0.00" not in printed and "the cost of 40 items is not known" in printed
    assert progress_line(Progress("e", "n", 10, 5, cost_usd=0.0, n_unpriced=2)).endswith("cost of 2 not known")
    assert "$0.1000, cost of 2 not known" in progress_line(Progress("e", "n", 10, 5, cost_usd=0.1, n_unpriced=2))


# ------------------------------------------------------------------------------------ retired models
def test_a_retired_model_costs_three_calls_and_the_other_configs_run(server):
    gone = failed(404, "NOT_FOUND", "models/gemini-3-pro-preview is not found for API version v1beta")
    server.default = lambda request: gone if "gemini-3-pro-preview" in request.path else answered(TEXT, tokens=COSTLY)
    results = ask({"model": "gemini-3-pro-preview"}, {"model": "gemini-2.5-flash-lite"}, jobs=1)
    first, second = results["experiments"]
    assert (
        first["status"] == "failed" and "in a row" in first["error"] and "use gemini-3.1-pro-preview" in first["error"]
    )
    assert sum("pro-preview" in c.model for c in server.calls) == 3 and second["successful_records"] == 40
    assert any("gemini-3-pro-preview was shut down on 2026-03-09" in n for n in results["notices"])


def test_two_404s_and_an_answer_are_no_reason_to_stop(server):
    gone = failed(404, "NOT_FOUND", "no such model")
    replies = iter([gone, gone, answered(TEXT)] * 20)
    server.default = lambda request: next(replies)
    (entry,) = ask({"model": "gemini-2.5-flash-lite"}, jobs=1)["experiments"]
    assert entry["failed_records"] == 27 and entry["successful_records"] == 13


RETIRED = {"model": "gemini-3-pro-preview", "name_suffix": "gone"}


def test_every_interface_names_a_retired_model_before_anything_is_spent(server, tmp_path, capsys):
    words = "gemini-3-pro-preview was shut down on 2026-03-09: every call fails; use gemini-3.1-pro-preview"
    assert words in str(estimate("forty", [RETIRED]))
    config = tmp_path / "run.json"
    config.write_text(json.dumps({"dataset_name": "forty", "model_configs": [RETIRED]}))
    dry = CliRunner().invoke(app, ["run", str(config), "--dry-run"])
    assert words in dry.output.replace("\n", " "), dry.output
    assert not server.calls
    server.default = failed(404, "NOT_FOUND", "gone")
    ask(RETIRED, show_comparison=True)
    printed = capsys.readouterr().out
    assert printed.index(words) < printed.index("RUNNING 1 EXPERIMENT")


def test_the_preset_current_has_models_that_are_served_and_priced():
    models = [c["model"] for c in PRESETS["current"].model_configs]
    assert all(retirement_of(m) is None and price_of(m) is not None for m in models) and check_configs(
        PRESETS["current"].model_configs
    )


def test_the_documented_defaults_are_kept_and_their_retirements_are_known():
    models = [c["model"] for c in DEFAULT_MODEL_CONFIGS]
    assert models == ["gemini-2.5-flash", "gemini-2.5-flash-lite", "gemini-3-pro-preview"]
    assert len(retirement_notices(models, date(2026, 12, 1))) == 2
    assert all(r.noted and r.source.startswith("https://") for r in read_retirements(PRICES_FILE).values())


def test_an_estimate_after_a_reroute_has_the_price_of_the_model_that_answers(server, tmp_path, monkeypatch):
    own = tmp_path / "prices.toml"
    own.write_text(
        '[retirements."gemini-2.5-flash"]\non = 2026-01-01\nrerouted = true\nsuccessor = "gemini-3.5-flash"\n'
    )
    server.default = answered(TEXT, tokens=COSTLY)
    ask(FLASH, sample_size=2)
    before = estimate("forty", [FLASH]).cost_usd
    monkeypatch.setenv("VOTE_EXPERIMENTS_PRICES", str(own))
    found = estimate("forty", [FLASH])
    assert found.cost_usd > 3 * before and "answered by gemini-3.5-flash and billed at its price" in str(found)


def test_spent_tells_what_is_known_from_what_is_not(server):
    replies = iter(
        [answered(TEXT, tokens=COSTLY), failed(400, "INVALID_ARGUMENT", "bad"), without_usage(answered(TEXT))]
    )
    server.default = lambda request: next(replies)
    ask(FLASH, sample_size=3, jobs=1)
    from vote_experiments.store.database import open_store

    (row,) = list_experiments(open_store())
    found = spent(open_store(), row["id"])
    assert found["cost_usd"] is None and found["known_cost_usd"] == pytest.approx(EACH)
    assert (found["n_priced"], found["n_unpriced"]) == (2, 1)  # a refused call is known to cost nothing


def test_awaiting_many_calls_at_the_cap_sends_no_more(server):
    "Calls that wait for their turn when the cap is reached are not sent"
    from vote_experiments.models.budget import Budget, BudgetExceeded
    from vote_experiments.models.gemini import GeminiModel
    from vote_experiments.models.gemini_api import Access

    server.default = answered(TEXT, tokens=COSTLY)
    model = GeminiModel("gemini-2.5-flash", Access(KEY, base_url=server.url))

    async def run():
        return await asyncio.gather(
            *(model.extract(["page0.png"], {"seed": i}) for i in range(60)), return_exceptions=True
        )

    with calling(budget=Budget(EACH), roots=["/"]):
        ended = asyncio.run(run())
    assert sum(isinstance(e, BudgetExceeded) for e in ended) >= 40 and len(server.calls) <= 20
