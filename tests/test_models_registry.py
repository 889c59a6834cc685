"Model configs are checked before anything runs, and every message says where and what"

import asyncio
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vote_experiments.models import registry
from vote_experiments.models.registry import SETTINGS, check_configs, get_model, model_available, register_model
from vote_experiments.records import Extraction, Model
from vote_experiments.settings import OFFLINE_MODELS, PRESETS

OK = {"model": "ocr-fused", "temperature": 0.0}


@pytest.fixture
def named():
    "Names registered in a test are forgotten after it"
    before = dict(registry._registered)
    yield
    for name in set(registry._registered) - set(before):
        registry.forget_model(name)


def test_name_is_suffix_or_model_and_temperature():
    names = [
        c.experiment_name
        for c in check_configs(
            [
                {"model": "m", "temperature": 0},
                {"model": "m", "temperature": 0.1},
                {"model": "m"},
                {"model": "m", "temperature": None, "name_suffix": "mine"},
            ]
        )
    ]
    assert names == [
        "vote-extraction-m-t0.0",
        "vote-extraction-m-t0.1",
        "vote-extraction-m-tdefault",
        "vote-extraction-mine",
    ]


def test_absent_temperature_is_not_sent():
    assert "temperature" not in check_configs([{"model": "m"}])[0].config
    assert check_configs([{"model": "m", "temperature": 0}])[0].config == {"model": "m", "temperature": 0.0}


def test_suffix_and_tags_do_not_reach_the_model():
    config = check_configs([{**OK, "name_suffix": "x", "metadata": {"n": 1, "b": True}}])[0]
    assert config.metadata == {"n": "1", "b": "True"}
    assert config.config == OK


def test_every_preset_is_a_valid_list_of_configs():
    for preset in PRESETS.values():
        assert check_configs(preset.model_configs)


def test_numbers_of_numpy_become_plain():
    config = check_configs([{"model": "m", "temperature": np.float64(0.5), "seed": np.int64(3)}])[0]
    assert json.loads(json.dumps(config.to_dict())) == {
        "model": "m",
        "temperature": 0.5,
        "seed": 3,
        "name_suffix": "m-t0.5",
        "metadata": {},
    }


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("temperature", 1.01, "from 0.0 to 1.0, not 1.01"),
        ("temperature", -0.1, "-0.1"),
        ("temperature", True, "True"),
        ("temperature", float("nan"), "nan"),
        ("temperature", float("inf"), "inf"),
        ("temperature", "0.2", "'0.2'"),
        ("model", "", "not empty"),
        ("model", None, "not empty"),
        ("model", 3, "3"),
        ("model", "  ", "not empty"),
        ("metadata", ["a"], "dict"),
        ("name_suffix", "", "not empty"),
        ("name_suffix", "a\nb", "printable"),
        ("max_output_tokens", 0, "from 1"),
        ("max_output_tokens", 10.5, "10.5"),
        ("top_p", 0, "above 0"),
        ("thinking_level", "hgih", "minimal, low, medium, high"),
        ("service_tier", "cheap", "flex"),
        ("mode", "bulk", "batch"),
        ("seed", -1, "-1"),
        ("max_attempts", 0, "from 1"),
        ("deadline_s", 0, "above 0"),
        ("temprature", 0, "did you mean 'temperature'"),
        ("Thinking_Level", "low", "did you mean 'thinking_level'"),
        ("zzz", 1, "Known keys: model, temperature"),
        (3, 1, "unknown key"),
    ],
)
def test_bad_value_names_index_and_key(key, value, words):
    with pytest.raises(ValueError) as e:
        check_configs([OK, {"model": "m", key: value}])
    assert f"model_configs[1][{key!r}]" in str(e.value)
    assert words in str(e.value)


@pytest.mark.parametrize(
    "configs, words",
    [
        ([], "empty"),
        (OK, "list of dicts"),
        ("ocr-fused", "list of dicts"),
        ([None], "model_configs[0]"),
        ([OK, "ocr-fused"], "model_configs[1]"),
        ([{}], "model_configs[0]['model']"),
        (iter([OK]), "list of dicts"),
        (
            [OK, {"model": "b"}, {"model": "c", "name_suffix": "ocr-fused-t0.0"}],
            "model_configs[0] and model_configs[2]",
        ),
    ],
)
def test_bad_list(configs, words):
    with pytest.raises(ValueError) as e:
        check_configs(configs)
    assert words in str(e.value)


_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 200),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(), max_size=2),
    st.sampled_from(["low", "flex", "batch"]),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example({"model": "\x1b"})
@example({"model": "m" * 149, "temperature": 0.12345678901234568})
@given(
    st.dictionaries(st.sampled_from(["model", "temperature", "name_suffix", "metadata", *SETTINGS, "typo"]), _VALUES)
)
def test_a_config_is_accepted_and_stable_or_refused_with_its_place(config):
    try:
        checked = check_configs([config])[0]
    except ValueError as e:
        assert "model_configs[0]" in str(e)
    else:
        assert check_configs([checked.to_dict()])[0] == checked
        assert checked.temperature is None or 0 <= checked.temperature <= 1


def test_settings_a_provider_does_not_use_are_told():
    assert check_configs([{**OK, "thinking_level": "low"}])[0].ignored == ["thinking_level"]
    assert check_configs([{"model": "gemini-3-pro-preview", "thinking_level": "low"}])[0].ignored == []


def test_plain_functions_are_models(named):
    async def late(input_data, config):
        return [{"pages": input_data["num_pages"]}]

    model = register_model("mine", lambda images, config: {"seen": images, **config})
    assert isinstance(model, Model) and get_model("mine") is model and model_available("mine") is None
    assert model.extract(["p"], {"k": 1}) == Extraction(output={"seen": ["p"], "k": 1})
    assert asyncio.run(register_model("late", late).extract(["a", "b"], {})).output == [{"pages": 2}]
    assert register_model("none", lambda images, config: None).extract([], {}).problem == "the model returned nothing"


def test_objects_and_own_settings(named):
    class Reader:
        name, cpu_bound = "reader", True

        def extract(self, images, config):
            return Extraction(output=len(images))

    assert register_model("reader", Reader(), settings={"zoom": "scan scale"}).cpu_bound
    assert check_configs([{"model": "reader", "zoom": 2}])[0].config == {"model": "reader", "zoom": 2}
    with pytest.raises(ValueError, match="unknown key"):
        check_configs([{"model": "ocr-fused", "zoom": 2}])


@pytest.mark.parametrize("thing", [3, lambda: 0, lambda images: 0, lambda a, b, c: 0])
def test_what_cannot_be_a_model(thing, named):
    with pytest.raises(TypeError, match="bad-one"):
        register_model("bad-one", thing)


def test_async_is_not_cpu_bound(named):
    async def read(images, config): ...

    with pytest.raises(TypeError, match="cpu_bound"):
        register_model("bad", read, cpu_bound=True)


@pytest.mark.parametrize("name", ["ocr-fusd", "gpt-4o", "gemini-", "litellm/", "", "GEMINI-2.5-flash"])
def test_unknown_model_lists_the_offline_ones(name):
    with pytest.raises(ValueError) as e:
        get_model(name)
    assert all(m in str(e.value) for m in OFFLINE_MODELS) and repr(name) in str(e.value)
    assert str(e.value) == model_available(name)


def test_import_is_light():
    code = (
        "import sys, vote_experiments.models.registry as r; r.check_configs(); "
        "print([m for m in ('google.genai', 'numpy', 'pydantic', 'litellm', 'aiohttp') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
