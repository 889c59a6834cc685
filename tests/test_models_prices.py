"A price is never made up: what is not in a file has no cost"

import math
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vote_experiments.models import prices
from vote_experiments.models.prices import cost_problem, cost_usd, estimate_run, known_models, price_of, read_prices
from vote_experiments.models.prices import price_table as prices_by_model
from vote_experiments.models.registry import is_reroute, list_models
from vote_experiments.records import Usage
from vote_experiments.settings import DEFAULT_MODEL_CONFIGS

BEFORE, AFTER = date(2026, 12, 31), date(2027, 1, 1)


@pytest.mark.parametrize(
    "model, input_price, output_price",
    [
        ("gemini-3.5-flash-lite", 0.30, 2.50),
        ("gemini-3.1-flash-lite", 0.25, 1.50),
        ("gemini-2.5-flash-lite", 0.10, 0.40),
        ("gemini-3.8-flash", 0.75, 3.75),
        ("gemini-3.5-flash", 1.50, 9.00),
        ("gemini-3.1-pro-preview", 2, 12),
        ("gemini-2.5-flash", 0.30, 2.50),
        ("gemini-2.5-pro", 1.25, 10),
        ("gemini-3-pro-preview", 2, 12),
    ],
)
def test_recorded_prices(model, input_price, output_price):
    usage = Usage(prompt_tokens=100_000, output_tokens=30_000, thoughts_tokens=20_000)
    assert cost_usd(model, usage, BEFORE) == pytest.approx(0.1 * input_price + 0.05 * output_price)
    assert cost_usd(model, usage, BEFORE, "flex") == pytest.approx(cost_usd(model, usage, BEFORE) / 2)
    assert price_of(model, BEFORE).source.startswith("https://") and price_of(model, BEFORE).noted <= date(2026, 11, 30)


def test_every_default_model_has_a_price():
    assert all(price_of(c["model"]) for c in DEFAULT_MODEL_CONFIGS)


def test_a_price_may_change_on_a_day():
    assert price_of("gemini-3.8-flash", AFTER).output == 2 * price_of("gemini-3.8-flash", BEFORE).output


@pytest.mark.parametrize("name", ["gemini-9", "gemini-2.5-flash-image", "gemini-2.5-flash-preview-05-20", "", "flash"])
def test_unknown_is_unknown(name):
    assert cost_usd(name, Usage(1, 1)) is None and price_of(name) is None


def test_long_prompts_of_pro_models_have_a_price_of_their_own():
    assert cost_usd("gemini-2.5-pro", Usage(200_000)) == pytest.approx(0.25)
    assert cost_usd("gemini-2.5-pro", Usage(200_001, 1000, 0, 100_000)) == pytest.approx(
        (100_001 * 2.5 + 100_000 * 0.25 + 1000 * 15) / 1e6
    )
    assert cost_usd("gemini-2.5-flash", Usage(400_000)) == pytest.approx(0.12)


def test_a_long_prompt_without_a_listed_price_is_unknown(tmp_path, monkeypatch):
    own = tmp_path / "prices.toml"
    own.write_text('[models."mine"]\ninput = 1\noutput = 2\nup_to_prompt_tokens = 1000\n')
    monkeypatch.setenv("VOTE_EXPERIMENTS_PRICES", str(own))
    assert cost_usd("mine", Usage(1001)) is None and "beyond 1,000 prompt tokens" in cost_problem("mine", Usage(1001))


CACHED = [
    (None, 0.3 * 60 + 0.03 * 40),
    ("standard", 0.3 * 60 + 0.03 * 40),
    ("flex", 0.15 * 60 + 0.02 * 40),
    ("batch", 0.15 * 60 + 0.02 * 40),
    ("priority", 1.8 * (0.3 * 60 + 0.03 * 40)),
]


@pytest.mark.parametrize("tier, micro_dollars", CACHED)
def test_cached_tokens_cost_a_tenth_in_every_tier(tier, micro_dollars):
    assert cost_usd("gemini-3.5-flash-lite", Usage(100, 0, 0, 40), BEFORE, tier) == pytest.approx(micro_dollars / 1e6)


def test_every_model_that_is_served_has_a_price_for_cached_tokens():
    unpriced = [m for m, prices in prices_by_model().items() if prices[0].cached is None]
    assert not unpriced


def test_versions_have_the_price_of_their_model():
    assert price_of("models/gemini-2.5-flash-001") == price_of("gemini-2.5-flash")


_TOKENS = st.integers(0, 100_000)


@given(_TOKENS, _TOKENS, _TOKENS, _TOKENS, st.sampled_from(known_models()), st.sampled_from([None, "flex", "batch"]))
def test_cost_is_additive_and_cached_tokens_never_cost_more(prompt, output, thoughts, cached, model, tier):
    usage = Usage(prompt, output, thoughts, min(cached, prompt))
    parts = [Usage(prompt, 0, 0, min(cached, prompt)), Usage(0, output), Usage(0, 0, thoughts)]
    cost = cost_usd(model, usage, BEFORE, tier)
    assert cost == pytest.approx(sum(cost_usd(model, p, BEFORE, tier) for p in parts))
    assert 0 <= cost <= cost_usd(model, Usage(prompt, output, thoughts), BEFORE) + 1e-12


def test_own_file_adds_and_replaces(tmp_path, monkeypatch):
    own = tmp_path / "prices.toml"
    own.write_text(
        '[models."mine"]\ninput = 1\noutput = 2\ncached = 0.1\n[models."gemini-2.5-flash"]\ninput = 9\noutput = 9\n'
    )
    monkeypatch.setenv("VOTE_EXPERIMENTS_PRICES", str(own))
    assert cost_usd("mine", Usage(1_000_000, 0, 0, 500_000)) == pytest.approx(0.55)
    assert price_of("gemini-2.5-flash").input == 9 and price_of("gemini-2.5-pro").input == 1.25
    assert "mine" in list_models()


@pytest.mark.parametrize(
    "text, words",
    [
        ("[models.x]\ninput = 1", "'output' is missing"),
        ("[models.x]\ninput = -1\noutput = 1", "input must be a number"),
        ("[models.x]\ninput = nan\noutput = 1", "input must be a number"),
        ("[models.x]\ninput = true\noutput = 1", "True"),
        ("[models.x]\ninput = 1\noutput = 1\nnoted = '2026'", "noted must be a date"),
        ("models = 3", "table of models"),
        ("[models.x]\ninput = 1\noutput = 1\ninptu = 1", "unknown key 'inptu'"),
        ("[models", "cannot be read"),
        ("[models]\nx = 3", "must be a table"),
    ],
)
def test_a_bad_file_is_told(tmp_path, text, words):
    path = tmp_path / "p.toml"
    path.write_text(text)
    with pytest.raises(ValueError) as e:
        read_prices(path)
    assert words in str(e.value) and "p.toml" in str(e.value)


def test_a_missing_own_file_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("VOTE_EXPERIMENTS_PRICES", str(tmp_path / "nowhere.toml"))
    with pytest.raises(ValueError, match=r"nowhere\.toml"):
        prices.price_table()


def test_estimate_of_a_run():
    run = estimate_run("gemini-2.5-flash-lite", 200, 2000, 4000, repeats=3, jobs=20, latency_s=30)
    assert run.calls == 600 and run.seconds == 900
    assert run.cost_usd == pytest.approx(600 * (2000 * 0.10 + 4000 * 0.40) / 1e6)
    assert estimate_run("gemini-2.5-flash-lite", 600, 1, 1, jobs=600, latency_s=1, rpm=60).seconds == 600
    assert "cost unknown" in str(estimate_run("own", 1, 1, 1)) and "15 min" in str(run)


@pytest.mark.parametrize(
    "change", [{"items": -1}, {"prompt_tokens": math.nan}, {"output_tokens": math.inf}, {"repeats": 0}, {"jobs": 0}]
)
def test_estimate_refuses_nonsense(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        estimate_run(**{"model": "m", "items": 1, "prompt_tokens": 1, "output_tokens": 1, **change})


@pytest.mark.parametrize(
    "asked, served, rerouted",
    [
        ("gemini-2.5-flash", "gemini-2.5-flash", False),
        ("gemini-2.5-flash", "gemini-2.5-flash-002", False),
        ("gemini-2.5-flash", "models/gemini-2.5-flash-preview-09-2025", False),
        ("gemini-2.5-flash", None, False),
        ("gemini-3-pro-preview", "gemini-3-pro-preview-11-2025", False),
        ("gemini-flash-latest", "gemini-3.5-flash", False),
        ("gemini-2.5-flash", "gemini-2.5-flash-lite", True),
        ("gemini-2.5-flash", "gemini-3.5-flash", True),
        ("gemini-2.5-pro", "gemini-2.5-flash", True),
        ("litellm/openai/gpt-4o", "gpt-4o-2024-08-06", False),
        ("litellm/openai/gpt-4o", "gpt-4o-mini", True),
    ],
)
def test_reroutes(asked, served, rerouted):
    assert is_reroute(asked, served) is rerouted
