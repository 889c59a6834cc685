"""Config files have a schema: complete, valid, and the judge of files that people write."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from promises import promise
from vote_experiments.experiments.sweep_files import SWEEP_TEMPLATE
from vote_experiments.cli import main as cli
from vote_experiments.cli.run import check_types, read_request, run_schema, sweep_schema
from vote_experiments.models.registry import SETTINGS

GOOD = {
    "a.yaml": "dataset_name: forms\nsample_size: 20\nmodel_configs:\n  - {model: ocr-fused, temperature: 0.0}\n  - {model: gemini-2.5-flash, thinking_budget: 0}\n",
    "b.toml": 'dataset_name = "forms"\ncache = "refresh"\nmax_cost_usd = 1.5\n[[model_configs]]\nmodel = "ocr-words"\nmetadata = {who = "me"}\n',
    "c.json": '{"preset": "offline", "repeats": 3, "sample_size": null, "dataset_version": "2026-01-31"}',
}
BAD = {
    "d.yaml": ("sample_size: ten\n", "sample_size='ten' must be a whole number of at least 1 or null"),
    "e.yaml": ("jobs: 0\n", "jobs=0 must be a whole number of at least 1"),
    "f.json": ('{"raise_errors": "no"}', "raise_errors='no' must be true or false"),
    "g.toml": (
        'backend = "datadgo"\n',
        "backend='datadgo' must be one of local, datadog, langfuse, interactiveai or null",
    ),
    "h.json": ('{"model_configs": {"model": "ocr-fused"}}', "model_configs={'model': 'ocr-fused'} must be a list"),
    "i.yaml": ("preset: ofline\n", "preset='ofline' must be one of offline"),
}


def published(schema, files, *more):
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "check_jsonschema",
            *(["--schemafile", str(schema)] if schema else []),
            *more,
            *map(str, files),
        ],
        capture_output=True,
        text=True,
    )


@promise("command-line-10")
def test_the_schemas_judge_files_as_a_pipeline_would(tmp_path):
    for what in ("run", "sweep"):
        done = CliRunner().invoke(cli.app, ["schema", what])
        assert done.exit_code == 0
        (tmp_path / f"{what}.schema.json").write_text(done.stdout)
    for name, text in GOOD.items():
        (tmp_path / name).write_text(text)
    for name, (text, _) in BAD.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "sweep.yaml").write_text(SWEEP_TEMPLATE)
    done = published(None, [tmp_path / "run.schema.json", tmp_path / "sweep.schema.json"], "--check-metaschema")
    assert done.returncode == 0, done.stdout
    assert (done := published(tmp_path / "run.schema.json", [tmp_path / n for n in GOOD])).returncode == 0, done.stdout
    done = published(tmp_path / "run.schema.json", [tmp_path / n for n in BAD])
    assert done.returncode == 1 and all(f"{n}::" in done.stdout for n in BAD), done.stdout
    assert (done := published(tmp_path / "sweep.schema.json", [tmp_path / "sweep.yaml"])).returncode == 0, done.stdout


@promise("command-line-11")
@pytest.mark.parametrize("name", BAD)
def test_the_same_schema_words_the_errors_of_run(tmp_path, name):
    (tmp_path / name).write_text(BAD[name][0])
    with pytest.raises(ValueError, match=f"config file .*{name}") as refused:
        read_request(tmp_path / name)
    assert BAD[name][1] in str(refused.value)


def test_good_files_are_read(tmp_path):
    for name, text in GOOD.items():
        (tmp_path / name).write_text(text)
        assert read_request(tmp_path / name)


@promise("command-line-10")
def test_there_is_one_table_of_settings():
    properties = run_schema()["properties"]["model_configs"]["items"]["properties"]
    assert set(SETTINGS) <= set(properties)
    for name, s in SETTINGS.items():
        known = properties[name]
        assert known["description"] == s.meaning and ("enum" in known or "type" in known), name
        for value in known.get("enum", []):
            assert s.check(value) == value
        for bound in ("minimum", "maximum"):
            if bound in known:
                assert s.check(known[bound]) == known[bound]
                with pytest.raises(ValueError):
                    s.check(known[bound] + (1 if bound == "maximum" else -1))


def test_models_are_judged_in_the_registry_s_words():
    check_types(
        "x.yaml", {"model_configs": [{"model": "ocr-fused", "temprature": 3, "temperature": 7}]}
    )  # refused later, with the nearest name
    assert json.dumps(sweep_schema())


def test_an_unknown_schema_is_told():
    done = CliRunner().invoke(cli.app, ["schema", "rnu"])
    assert done.exit_code == 2
