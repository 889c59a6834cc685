"""The workflow and the composite action: valid by the published schemas, and their shell steps executed as a runner would."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from promises import promise
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.store.runs import list_experiments, list_groups
from vote_experiments.store.database import Store
from vote_experiments.settings import VARIABLES

GITHUB = Path(__file__).parent.parent / ".github"
WORKFLOW, ACTION = GITHUB / "workflows" / "run-experiments.yml", GITHUB / "actions" / "vote-experiments" / "action.yml"
TRUTH = {"form_info": {"form_type": "Constituency"}, "vote_results": [{"number": 1, "vote_count": 200}]}
SHIM = """\
#!{python}
import os, sys
import vote_experiments as ve
truth = {truth!r}
ve.register_model("good", lambda images, config: {{"reports": [truth]}})
bad = {{**truth, "vote_results": [{{"number": 1, "vote_count": 1}}]}}
ve.register_model("changing", lambda images, config: {{"reports": [bad if os.path.exists({worse!r}) else truth]}})
from vote_experiments.cli.main import main
main()
"""


@promise("ci-and-packaging-1")
@pytest.mark.parametrize(
    "schema, paths",
    [("vendor.github-workflows", [WORKFLOW, GITHUB / "workflows" / "ci.yml"]), ("vendor.github-actions", [ACTION])],
)
def test_the_published_schema_accepts_it(schema, paths):
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, paths)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@promise("ci-and-packaging-2")
def test_the_documented_inputs_schedule_and_secrets():
    text, found = WORKFLOW.read_text(), yaml.safe_load(WORKFLOW.read_text())
    on = found[True]  # YAML 1.1 reads `on` as a truth value
    assert {"dataset_name", "sample_size", "project_name", "models", "fail_under", "baseline_run"} == on[
        "workflow_dispatch"
    ]["inputs"].keys()
    assert on["schedule"] == [{"cron": "0 8 * * 1"}]
    secrets = set(re.findall(r"secrets\.(\w+)", text))
    assert secrets == {
        "DD_API_KEY",
        "DD_APP_KEY",
        "DD_SITE",
        "GCP_SA_KEY",
        "GCP_PROJECT_ID",
        "VERTEX_AI_LOCATION",
        "GEMINI_API_KEY",
    }
    assert found["permissions"] == {"contents": "read"}


@promise("ci-and-packaging-3")
def test_nothing_that_a_person_types_becomes_shell_code():
    "inputs reach a script as environment variables only"
    for step in [
        *yaml.safe_load(ACTION.read_text())["runs"]["steps"],
        *yaml.safe_load(WORKFLOW.read_text())["jobs"]["experiments"]["steps"],
    ]:
        assert "${{" not in step.get("run", "")


class Runner:
    "What GitHub's runner does with a composite action, as far as this one needs it"

    def __init__(self, folder: Path):
        self.folder, self.summary = folder, folder / "summary.md"
        (folder / "bin").mkdir()
        shim = folder / "bin" / "vote-experiments"
        shim.write_text(SHIM.format(python=sys.executable, truth=TRUTH, worse=str(folder / "worse")))
        shim.chmod(0o755)
        (folder / "bin" / "python").symlink_to(sys.executable)
        clean = {k: v for k, v in os.environ.items() if k not in {v.name for v in VARIABLES}}
        self.env = {
            **clean,
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "RUNNER_TEMP": str(folder),
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "GITHUB_ENV": str(folder / "env"),
            "GITHUB_OUTPUT": str(folder / "output"),
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(ACTION.parent),
            "VOTE_EXPERIMENTS_STORE": ".vote_experiments/store.db",
            "VOTE_EXPERIMENTS_RUNS": "runs",
            "VOTE_EXPERIMENTS_PLAIN": "1",
        }

    def run(self, **inputs: str) -> tuple[int, str, dict[str, str]]:
        "The code of the first step that fails, what was said, and what the steps gave out"
        action = yaml.safe_load(ACTION.read_text())
        values = (
            {k: d.get("default", "") for k, d in action["inputs"].items()}
            | {"package": "none", "full_report": "false"}
            | inputs
        )
        by_step: dict[str, dict[str, str]] = {}
        outputs: dict[str, str] = {}
        said, env = "", dict(self.env)
        for step in action["runs"]["steps"]:
            assert step["shell"] == "bash"
            for name in ("env", "output"):
                (self.folder / name).write_text("")
            given = values | {
                f"steps.{s}.outputs.{k}": v for s, given_out in by_step.items() for k, v in given_out.items()
            }
            own = {
                k: re.sub(r"\$\{\{ (\S+) \}\}", lambda m, given=given: given[m[1].removeprefix("inputs.")], v)
                for k, v in step.get("env", {}).items()
            }
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
                cwd=self.folder,
                capture_output=True,
                text=True,
                env={**env, **own},
            )
            said += done.stdout + done.stderr
            env |= dict(line.split("=", 1) for line in (self.folder / "env").read_text().splitlines())
            written = dict(line.split("=", 1) for line in (self.folder / "output").read_text().splitlines())
            by_step.setdefault(step.get("id", ""), {}).update(written)
            outputs |= written
            if done.returncode:
                return done.returncode, said, outputs
        return 0, said, outputs


@pytest.fixture
def runner(tmp_path):
    found = Runner(tmp_path)
    (tmp_path / "forms.json").write_text(
        json.dumps(
            [{"id": f"f{i}", "input": {"image_paths": [f"{i}.jpg"]}, "expected_output": TRUTH} for i in range(12)]
        )
    )
    return found


@promise("ci-and-packaging-4")
def test_a_week_passes_and_the_next_fails_when_a_model_became_worse(runner, tmp_path):
    asked = {"dataset_name": "stations", "dataset_file": "forms.json", "models": "good, changing", "fail_under": "0.5"}
    code, said, out = runner.run(**asked)
    assert code == 0, said
    assert out["failed"] == "0" and out["run"].startswith("grp_") and (tmp_path / "runs").is_dir()
    assert (
        "### Gate: passed" in runner.summary.read_text()
        and "there is no run before this one" in runner.summary.read_text()
    )
    (tmp_path / "worse").touch()
    code, said, out = runner.run(**asked, sample_size="10")
    assert code == 1 and "### Gate: failed (1 of 2 experiments)" in runner.summary.read_text()
    report = Path(out["report"])
    assert (report / "gate.xml").is_file() and (report / "gate.md").is_file() and (report / "index.html").is_file()
    store = Store(tmp_path / ".vote_experiments" / "store.db")
    newest = list_groups(store, 1)[0]
    assert newest["id"] == out["run"] and newest["project"] == "vote-extraction-project"
    assert [e["n_items"] for e in list_experiments(store, group_id=newest["id"])] == [10, 10]
    store.close()


@promise("ci-and-packaging-5")
def test_mistakes_stop_at_the_step_that_finds_them(runner, tmp_path):
    code, said, _ = runner.run(dataset_name="nowhere")
    assert code == 2 and "::error::There is no such dataset" in said
    store = Store(tmp_path / ".vote_experiments" / "store.db")
    save_dataset("stations", [{"id": "a", "input": {"image_paths": ["0.jpg"]}, "expected_output": TRUTH}], store=store)
    store.close()
    code, said, _ = runner.run(dataset_name="stations", models="ocr-fussed")
    assert code == 2 and "ocr-fused" in said
    code, said, out = runner.run(dataset_name="stations", models="good,gemini-2.5-flash", baseline_run="")
    assert code == 1 and "::error::An experiment failed" in said and out["failed"] == "1", (
        "a model without its key is reported, not left out"
    )
    code, said, out = runner.run(dataset_name="stations", models="good,gemini-2.5-flash", fail_under="0.5")
    summary = runner.summary.read_text()
    assert code == 1 and "### Gate: passed" not in summary and "### stations: 1 of 2 experiments failed" in summary
    assert "| gemini-2.5-flash | failed |" in summary and "| good | 100.0% | 1 |" in summary
    evil = '$(touch hacked); `touch hacked` "; touch hacked'
    code, said, _ = runner.run(dataset_name=evil, models=evil, sample_size=evil)
    assert code == 2 and not (tmp_path / "hacked").exists()


@promise("ci-and-packaging-6")
def test_the_key_of_a_service_account_becomes_a_private_file(runner, tmp_path):
    runner.env |= {"GCP_SA_KEY": '{"type": "service_account"}', "GCP_PROJECT_ID": "my-project"}
    runner.run(dataset_name="nowhere")
    path = tmp_path / "gcp.json"
    assert json.loads(path.read_text()) == {"type": "service_account"} and path.stat().st_mode & 0o077 == 0


@promise("ci-and-packaging-5")
def test_a_schedule_without_any_key_runs_the_offline_readers_over_drawn_forms(runner):
    "What the shipped schedule does in a repository that has no secrets"
    workflow = yaml.safe_load(WORKFLOW.read_text())
    (step,) = [s for s in workflow["jobs"]["experiments"]["steps"] if "actions/vote-experiments" in s.get("uses", "")]
    default = re.search(r"\|\| '([^']+)'", step["with"]["dataset_name"])[1]
    condition, fallback = re.fullmatch(
        r"\$\{\{ (.+) && '([^']+)' \|\| '' \}\}", step["with"]["fallback_dataset"]
    ).groups()
    assert condition == f"(inputs.dataset_name || '{default}') == '{default}'", (
        "a dataset that a person names is not replaced"
    )
    code, said, out = runner.run(dataset_name=default, fallback_dataset=fallback, sample_size="1", models="ocr-digits")
    assert code == 0 and "::warning::There are no Datadog keys" in said, said
    summary = runner.summary.read_text()
    assert "### vote-extraction-synthetic-1-10: 1 experiment\n" in summary and "Cost of the run: 0.0000 USD" in summary


@promise("ci-and-packaging-3")
def test_actions_are_pinned_by_commit_and_credentials_are_not_kept():
    for path in (GITHUB / "workflows").iterdir():
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            for step in job["steps"]:
                uses = step.get("uses", "./")
                assert uses.startswith("./") or re.search(r"@[0-9a-f]{40}$", uses), (path.name, uses)
                if uses.startswith("actions/checkout@"):
                    assert step["with"]["persist-credentials"] is False, path.name


def test_from_another_repository_the_action_installs_its_own_package():
    action = yaml.safe_load(ACTION.read_text())
    install = action["runs"]["steps"][0]["run"]
    own = ACTION.parent / "../../.."
    assert action["inputs"]["package"]["default"] == "" and '"$GITHUB_ACTION_PATH/../../.."' in install
    assert (own / "pyproject.toml").is_file()
