"""The command line: exit codes, one-line errors, JSON for programs, and real processes"""

import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from promises import promise
import vote_experiments as ve
from vote_experiments.cli import main as cli
from vote_experiments.cli import demo as cli_demo
from vote_experiments.cli import run as cli_run
from vote_experiments.reports.doctor import examine, faults
from vote_experiments.settings import PRESETS

TRUTH = {
    "form_info": {"form_type": "Constituency", "province": "แพร่"},
    "ballot_statistics": {"ballots_used": 10},
    "vote_results": [{"number": 1, "vote_count": 3}],
}


def record(i: int, **more) -> dict:
    name = f"f{i}"
    return {
        "id": name,
        "input": {"form_set_name": name, "image_paths": [f"{name}_page1.png"], "num_pages": 1},
        "ground_truth": TRUTH,
        **more,
    }


def write_forms(folder: Path, n: int = 4) -> Path:
    for i in range(n):
        Image.new("RGB", (40, 60), "white").save(folder / f"f{i}_page1.png")
    path = folder / "forms.json"
    path.write_text(json.dumps({"metadata": {"name": "forms"}, "records": [record(i) for i in range(n)]}))
    return path


@pytest.fixture
def home(tmp_path, monkeypatch):
    "A working directory of its own, with no setting and no credential in the environment"
    for name in list(os.environ):
        if re.match(r"(VOTE_EXPERIMENTS|DD|GEMINI|GOOGLE)_(?!TEST)", name) or name == "API_KEY":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def models():
    "Models by name, for as long as a test lasts"

    def breaks(images, config):
        if any(Path(image).name.startswith("f2_") for image in images):
            raise RuntimeError("this page cannot be read")
        return {"reports": [TRUTH]}

    ve.register_model("right", lambda images, config: {"reports": [TRUTH]})
    ve.register_model("blank", lambda images, config: {"reports": []})
    ve.register_model("breaks", breaks)
    yield
    for name in ("right", "blank", "breaks"):
        ve.forget_model(name)


def shell(*words, code: int | None = None, stdin: str | None = None):
    done = CliRunner().invoke(cli.app, [str(w) for w in words], input=stdin)
    if code is not None:
        assert done.exit_code == code, f"{words} → {done.exit_code}\n{done.output}"
    return done


def value(*words, code: int = 0):
    "What a command says with --json: one JSON value, and nothing else"
    return json.loads(shell(*words, "--json", code=code).stdout)


def refused(*words, code: int = 2) -> str:
    "The one line that a command which cannot work says"
    done = shell(*words, code=code)
    assert done.stdout == "" and "Traceback" not in done.stderr
    line = done.stderr.strip()
    assert "\n" not in line and line.startswith("error: "), line
    return line


# ── run, compare, resume ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def forms(home, models):
    shell("datasets", "import", write_forms(home), code=0)
    return home


def test_run_compares_models_and_says_where_everything_is(forms):
    said = shell("run", "-d", "forms", "-m", "right", "-m", "blank", code=0).stdout
    assert "vote-extraction-right-t0.0" in said and "100.0 %" in said and "RUNNING 2 EXPERIMENTS" in said
    page = Path(re.search(r"^Report: (.*)$", said, re.M)[1])
    assert page.is_relative_to(forms / "runs") and page.exists()
    run = re.search(r"^Run: +(grp_\w+)$", said, re.M)[1]
    assert [e["name"] for e in value("runs", "show", run)] == [
        "vote-extraction-right-t0.0",
        "vote-extraction-blank-t0.0",
    ]


@promise("command-line-3")
def test_json_is_the_result_of_run_model_experiments_and_people_read_standard_error(forms):
    done = shell("run", "-d", "forms", "-m", "right", "-n", "2", "--json", code=0)
    result = json.loads(done.stdout)
    assert result["experiments"][0]["summary_metrics"]["overall_accuracy"] == 1.0
    assert (result["dataset_size"], result["experiments"][0]["sample_size"]) == (4, 2)
    assert "Loading dataset: forms" in done.stderr


def test_quiet_says_only_where_the_result_is(forms):
    lines = shell("run", "-d", "forms", "-m", "right", "-q", code=0).stdout.split("\n")
    assert [line.split(":")[0] for line in lines if line] == ["Report", "Run"]


def test_every_model_runs_at_every_temperature(forms):
    result = value("run", "-d", "forms", "-m", "right", "-m", "blank", "-t", "0", "-t", "0.2")
    assert [(e["model"], e["temperature"]) for e in result["experiments"]] == [
        ("right", 0.0),
        ("right", 0.2),
        ("blank", 0.0),
        ("blank", 0.2),
    ]


@promise("command-line-4")
@pytest.mark.parametrize(
    "name, text",
    [
        (
            "ask.yaml",
            "dataset_name: forms\nsample_size: 3\nmodel_configs:\n  - {model: right, temperature: 0.0, name_suffix: mine}\n",
        ),
        (
            "ask.toml",
            'dataset_name = "forms"\nsample_size = 3\nmodel_configs = [{model = "right", name_suffix = "mine"}]\n',
        ),
        (
            "ask.json",
            '{"dataset_name": "forms", "sample_size": 3, "model_configs": [{"model": "right", "name_suffix": "mine"}]}',
        ),
    ],
)
def test_a_config_file_says_the_same_and_flags_win(forms, name, text):
    (forms / name).write_text(text)
    result = value("run", name)
    assert (result["experiments"][0]["experiment_name"], result["experiments"][0]["sample_size"]) == (
        "vote-extraction-mine",
        3,
    )
    assert value("run", name, "-n", "1")["experiments"][0]["sample_size"] == 1


@promise("command-line-4")
def test_a_config_file_may_name_a_preset_evaluators_and_a_moment(forms):
    (forms / "ask.yaml").write_text(
        "dataset_name: forms\ndataset_version: 2999-01-01\nmodel_configs: [{model: right}]\nevaluators: [row_shift, has_no_errors]\n"
    )
    value("run", "ask.yaml")
    scores = value("runs", "show")[0]["summary"]["scores"]
    assert set(scores) <= {"row_shift", "has_no_errors"} and "has_no_errors" in scores
    (forms / "ask.yaml").write_text("dataset_name: forms\npreset: offline\n")
    assert cli_run.whole_request(forms / "ask.yaml", {})["model_configs"] == list(PRESETS["offline"].model_configs)


@promise("command-line-2")
def test_a_failed_experiment_is_exit_code_1_and_the_others_are_kept(forms):
    done = shell("run", "-d", "forms", "-m", "right", "-m", "invalid-model", "--no-raise-errors", "--json", code=1)
    result = json.loads(done.stdout)
    assert [e["status"] for e in result["experiments"]] == ["success", "failed"]
    assert "invalid-model" in result["experiments"][1]["error"]


def test_the_first_failing_item_stops_a_run_which_is_then_continued(forms):
    line = shell("run", "-d", "forms", "-m", "breaks", "-j", "1", code=1).stderr.strip().split("\n")[-1]
    assert "this page cannot be read" in line and "vote-experiments resume grp_" in line
    run = re.search(r"vote-experiments resume (grp_\w+)", line)[1]
    result = value("resume", run, "--no-raise-errors")
    entry = result["experiments"][0]
    assert (result["group_id"], entry["successful_records"], entry["failed_records"]) == (run, 3, 1)
    ve.register_model("breaks", lambda images, config: {"reports": [TRUTH]})
    entry = value("resume", run[:-2], "--failed-only")["experiments"][0]
    assert (entry["successful_records"], entry["failed_records"]) == (4, 0)


def test_a_run_with_functions_of_its_own_is_continued_in_python_only(forms):
    ve.run_model_experiments(
        dataset_name="forms", model_configs=[{"model": "right"}], task_function=lambda item: {}, show_comparison=False
    )
    assert "resume='grp_" in refused("resume", "latest")
    alone = ve.run_experiment(name="mine", data=[{"input": 1}], task=lambda item: 1)
    assert "run_experiment" in refused("resume", alone.experiment_id)


def test_compare_takes_runs_experiments_and_one_score(forms):
    first = value("run", "-d", "forms", "-m", "right")["group_id"]
    second = value("run", "-d", "forms", "-m", "right", "-m", "blank")["experiments"]
    found = value("compare", first, second[0]["experiment_id"], second[1]["experiment_id"])
    names = {e["experiment"] for e in found["experiments"]}
    assert names == {
        "vote-extraction-right-t0.0",
        f"vote-extraction-right-t0.0 ({second[0]['experiment_id']})",
        "vote-extraction-blank-t0.0",
    }
    means = {e["experiment"]: e["mean"] for e in value("compare", "--score", "ballot_accuracy_score")["experiments"]}
    assert means == {"vote-extraction-right-t0.0": 1.0, "vote-extraction-blank-t0.0": 0.0}
    said = shell("compare", code=0).stdout
    assert "vote-extraction-blank-t0.0" in said and "verdict" in said
    assert "Scores are exact_form_match" in refused("compare", "--score", "no_such_score")


def test_an_unknown_score_is_answered_with_the_nearest(forms):
    value("run", "-d", "forms", "-m", "right")
    assert "did you mean 'vote_results_quality'? Scores are exact_form_match" in refused(
        "compare", "latest", "--score", "vote_result_quality"
    )


def test_compare_says_when_the_data_were_not_the_same(forms):
    value("run", "-d", "forms", "-m", "right")
    ve.upsert_item("forms", record(9))
    value("run", "-d", "forms", "-m", "blank", "-n", "2")
    runs = [r["run"] for r in value("runs", "list")]
    assert any("forms version 1, forms version 2" in s for s in value("compare", *runs)["sentences"])


def test_runs_are_listed_newest_first_shown_and_deleted(forms):
    for model in ("right", "blank"):
        value("run", "-d", "forms", "-m", model)
    ve.run_experiment(name="alone", data=[{"input": 1}], task=lambda item: 1)
    listed = value("runs", "list")
    assert [r["what"] for r in listed] == ["alone", "forms", "forms"]
    assert "grp_" in shell("runs", "list", code=0).stdout
    assert "add --yes" in refused("runs", "delete", listed[1]["run"])
    assert value("runs", "delete", listed[1]["run"], "--yes") == {"deleted": listed[1]["run"], "experiments": 1}
    assert value("runs", "delete", listed[0]["run"], "-y")["experiments"] == 1
    assert [r["run"] for r in value("runs", "list")] == [listed[2]["run"]]


def test_runs_show_names_the_items_that_failed(forms):
    shell("run", "-d", "forms", "-m", "breaks", "--no-raise-errors", code=0)
    said = shell("runs", "show", code=0).stdout
    assert "f2: RuntimeError: this page cannot be read" in said and "has_no_errors" in said


# ── datasets ────────────────────────────────────────────────────────────────────────────────────────────────────────


@promise("command-line-9")
def test_a_dataset_goes_in_is_shown_changed_compared_exported_and_deleted(home):
    path = write_forms(home)
    assert value("datasets", "import", path)["version"] == 1
    assert [d["name"] for d in value("datasets", "list")] == ["forms"]
    changed = json.loads(path.read_text())
    changed["records"][1]["ground_truth"] = {**TRUTH, "ballot_statistics": {"ballots_used": 11}}
    path.write_text(json.dumps(changed))
    assert value("datasets", "import", path)["version"] == 2
    assert len(value("datasets", "show", "forms", "--limit", "2")["first_items"]) == 2
    assert "… and 2 more" in shell("datasets", "show", "forms", "--limit", "2", code=0).stdout
    found = value("datasets", "diff", "forms", "1")
    assert [f["path"] for f in found["changed"][0]["fields"]] == ["expected_output.ballot_statistics.ballots_used"]
    assert "ballots_used" in shell("datasets", "diff", "forms", "1", "2", code=0).stdout
    for name in ("copy.jsonl", "copy.csv", "copy.json"):
        assert value("datasets", "export", "forms", name, "--version", "1")["items"] == 4
        assert value("datasets", "import", name, "--name", name)["items"] == 4
    assert value("datasets", "delete", "copy.csv", "--yes")["deleted"] == "copy.csv"
    assert "copy.csv" not in [d["name"] for d in value("datasets", "list")]


def test_columns_of_a_csv_file_are_chosen(home):
    (home / "sheet.csv").write_text("station,pages,votes\n007,[],12\n")
    value(
        "datasets",
        "import",
        "sheet.csv",
        "--name",
        "sheet",
        "--id-column",
        "station",
        "--input-columns",
        "pages,",
        "--expected-columns",
        "votes",
    )
    item = value("datasets", "show", "sheet")["first_items"][0]
    assert (item["id"], item["input"], item["expected_output"]) == ("007", {"pages": []}, 12)


@promise("command-line-9")
def test_a_folder_of_scans_is_shown_before_it_is_stored(home):
    write_forms(home)
    (home / "forms.json").unlink()
    said = shell("datasets", "import-folder", ".", "scans", "--dry-run", code=0).stdout
    assert "f0_page1.png" in said and "4 form sets" in said
    assert value("datasets", "list") == []
    done = shell("datasets", "import-folder", ".", "scans", code=2)
    assert "4 form sets" in done.stdout and "add --yes" in done.stderr
    found = value("datasets", "import-folder", ".", "scans", "-y")
    assert found["stored"]["items"] == 4 and len(found["form_sets"]) == 4


@promise("command-line-9")
def test_validate_names_every_problem_of_a_dataset_or_a_file(home):
    path = write_forms(home)
    assert value("datasets", "validate", path) == {"problems": [], "errors": 0, "warnings": 0}
    broken = json.loads(path.read_text())
    del broken["records"][0]["ground_truth"]
    broken["records"][1]["input"]["image_paths"] = ["gone.png"]
    path.write_text(json.dumps(broken))
    found = value("datasets", "validate", path, code=1)
    assert [(p["item_id"], p["kind"]) for p in found["problems"]] == [
        ("f0", "no_ground_truth"),
        ("f1", "missing_image"),
    ]
    shell("datasets", "import", path, code=0)
    assert (found["errors"], found["warnings"]) == (1, 1)
    assert "gone.png" in shell("datasets", "validate", "forms", code=1).stdout


@promise("command-line-9")
def test_synth_draws_and_stores_a_dataset(home):
    found = value(
        "datasets", "synth", "-n", "1", "--seed", "3", "--level", "clean", "--kind", "Constituency", "--name", "drawn"
    )
    assert (found["name"], found["items"]) == ("drawn", 1)
    assert len(list((home / "datasets/drawn/pages").glob("*.jpg"))) == 2
    assert value("datasets", "validate", "drawn")["errors"] == 0


# ── bad input: one line that names the value and the remedy ─────────────────────────────────────────────────────────


@promise("command-line-2", "command-line-5")
@pytest.mark.parametrize(
    "words, said",
    [
        (["run", "-d", "form", "-m", "right"], "nearest names are 'forms'"),
        (["run", "-d", "forms", "-m", "right", "-n", "0"], "sample_size=0"),
        (["run", "-d", "forms", "-m", "right", "-j", "0"], "jobs=0"),
        (["run", "-d", "forms", "-m", "right", "--repeats", "0"], "repeats=0"),
        (["run", "-d", "forms", "-m", "right", "-t", "1.5"], "1.5"),
        (["run", "-d", "forms", "-m", "rihgt"], "did you mean 'right'"),
        (["run", "-d", "forms", "-m", "right", "-m", "right"], "name_suffix"),
        (["run", "-d", "forms", "-m", "right", "--evaluator", "row_shift", "--evaluator", "row_shift"], "row_shift"),
        (["run", "-d", "forms", "-m", "right", "--evaluator", "row_shfit"], "did you mean 'row_shift'"),
        (["run", "-d", "forms", "-m", "right", "--set", "thinking_levle=low"], "did you mean 'thinking_level'"),
        (["run", "-d", "forms", "-m", "right", "--set", "thinking_level"], "name=value"),
        (["run", "-d", "forms", "-t", "0"], "--model"),
        (["run", "-d", "forms", "-m", "right", "--preset", "offline"], "choose the models once"),
        (["run", "-d", "forms", "--preset", "ofline"], "did you mean 'offline'"),
        (["run", "-d", "forms", "-m", "right", "--backend", "datadgo"], "datadgo"),
        (["run", "-d", "forms", "-m", "right", "--dataset-version", "7"], "no version 7"),
        (["run", "nothing.yaml"], "nothing.yaml"),
        (["resume", "grp_0"], "grp_0"),
        (["compare", "nothing"], "nothing"),
        (["schema", "rnu"], "run, sweep"),
        (["runs", "show", "nothing"], "nothing"),
        (["datasets", "show", "form"], "'forms'"),
        (["datasets", "import", "nothing.json"], "nothing.json"),
        (["datasets", "import", "."], "import_folder"),
        (["datasets", "import-folder", "nowhere", "x"], "nowhere"),
        (["datasets", "export", "forms", "copy.xlsx"], "end the path in .json"),
        (["datasets", "synth", "-n", "0"], "n=0"),
        (["datasets", "synth", "--level", "dirty"], "dirty"),
        (["datasets", "diff", "forms", "9"], "no version 9"),
        (["datasets", "validate", "form"], "'forms'"),
        (["datasets", "delete", "form", "-y"], "'forms'"),
    ],
    ids=lambda w: " ".join(w) if isinstance(w, list) else "",
)
def test_a_request_that_cannot_work_is_one_line_and_exit_code_2(forms, words, said):
    assert said in refused(*words)


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("broken.jsonl", '{"input": 1}\n{"input": 2,}\n', "line 2 (record 2)"),
        ("broken.json", '{"records": [\n{"input": 1}}]}', "line 2"),
        ("field.json", '[{"input": 1, "metadata": 3}]', "'metadata'"),
        ("input.json", '[{"ground_truth": 3}]', "no field 'input'"),
        ("twice.json", '[{"input": 1, "id": "a"}, {"input": 2, "id": "a"}]', "'a'"),
        ("short.csv", "id,input\n1\n", "line 2"),
        ("empty.json", "", "is empty"),
        ("scan.json", "%PDF-1.7", "PDF"),
        ("outside.json", '[{"input": {"image_paths": ["/etc/passwd"]}}]', "/etc/passwd"),
    ],
)
def test_a_malformed_dataset_file_is_told_with_line_and_field(home, name, text, said):
    (home / name).write_text(text)
    line = refused("datasets", "import", name)
    assert name in line and said in line
    assert value("datasets", "list") == []


def test_an_empty_dataset_and_a_used_one_are_refused(forms):
    (forms / "none.json").write_text('{"name": "none", "records": []}')
    value("datasets", "import", "none.json")
    assert "has no items" in refused("run", "-d", "none", "-m", "right")
    value("run", "-d", "forms", "-m", "right")
    assert "force" in refused("datasets", "delete", "forms", "-y")
    assert value("datasets", "delete", "forms", "-y", "--force")["deleted"] == "forms"


@promise("command-line-5")
def test_a_mistyped_command_or_option_is_exit_code_2_with_the_nearest_name(home):
    assert "'run'" in shell("rnu", code=2).stderr
    assert "--sample-size" in shell("run", "--smaple-size", "3", code=2).stderr


def test_a_store_that_is_none_is_told_in_words(home):
    (home / "rubbish.db").write_text("this is not a database " * 99)
    assert "not a readable store" in refused("runs", "list", "--store", "rubbish.db", code=1)


def test_debug_shows_where_an_error_came_from_and_secrets_stay_hidden(home, monkeypatch):
    monkeypatch.setenv("DD_API_KEY", "planted-secret-key")
    done = shell("run", "-d", "planted-secret-key", "-m", "ocr-digits", "--backend", "local", "--debug", code=2)
    assert "Traceback" in done.stderr and "DatasetNotFoundError" in done.stderr
    assert "planted-secret-key" not in done.output and "[redacted]" in done.stderr


def test_an_error_that_should_not_happen_is_still_one_line(home, monkeypatch):
    monkeypatch.setattr(cli_run, "whole_request", lambda *a: 1 / 0)
    assert "ZeroDivisionError" in refused("run", code=1) and "--debug" in refused("run", code=1)


# ── doctor ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@promise("command-line-8")
def test_doctor_says_what_is_set_and_never_its_value(home, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "planted-secret-key")
    monkeypatch.setenv("VOTE_EXPERIMENTS_STORE", "postgresql://me:planted-password@nowhere.invalid/db")
    done = shell("doctor", "--json")
    found = json.loads(done.stdout)
    assert {v["name"]: v["is_set"] for v in found["variables"]}["GEMINI_API_KEY"] is True
    assert "planted" not in done.output + shell("doctor").output
    assert found["store"]["faults"] and done.exit_code == 1


def test_doctor_looks_at_the_store_without_making_one(home):
    found = value("doctor", code=0)
    assert found["store"]["exists"] is False and not (home / ".vote_experiments").exists()
    write_forms(home)
    value("datasets", "import", "forms.json")
    assert value("doctor")["store"]["datasets"] == 1
    said = shell("doctor", code=0).stdout
    assert "sound, 1 datasets" in said and "DD_API_KEY" in said and "needed for: publishing runs to Datadog" in said


def test_faults_are_what_stops_offline_work_only(home):
    found = examine()
    assert faults(found) == []
    lost = {
        **found,
        "packages": [
            {"name": "numpy", "version": None, "extra": None},
            {"name": "psycopg", "version": None, "extra": "postgres"},
        ],
    }
    assert faults(lost) == ["package numpy is not installed: pip install numpy"]


# ── real processes ──────────────────────────────────────────────────────────────────────────────────────────────────

COMMAND = [str(Path(sys.executable).with_name("vote-experiments"))]
SLOW = textwrap.dedent("""
    import sys, time
    import vote_experiments as ve
    from vote_experiments.cli.main import main
    def slow(images, config):
        with open("asked.txt", "a") as f: f.write(images[0] + "\\n")
        time.sleep(0.3)
        return {"reports": []}
    ve.register_model("slow", slow)
    main()
""")


def process(*words, home: Path, command=COMMAND, **more) -> subprocess.CompletedProcess:
    return subprocess.run([*command, *map(str, words)], cwd=home, capture_output=True, text=True, timeout=900, **more)


def test_help_answers_at_once_and_loads_nothing_heavy(home):
    def seconds(*words, command=COMMAND, said="") -> float:  # of processor time: a busy machine does not count
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = process(*words, home=home, command=command)
        assert done.returncode == 0 and said in done.stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    help_s = min(seconds("--help", said="vote-experiments demo") for _ in range(4))
    parser_s = min(seconds("import typer, rich.console", command=[sys.executable, "-c"]) for _ in range(4))
    assert help_s < max(0.5, 4 * parser_s), (
        "half a second, on a slow machine in the measure of what the parser alone takes"
    )
    code = "import sys; import vote_experiments.cli.main; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {"pandas", "numpy", "scipy", "sqlalchemy", "pydantic", "matplotlib", "cv2", "ddtrace"}


SPECIFIED = [
    "demo",
    "run",
    "resume",
    "compare",
    "report",
    "export",
    "sweep",
    "race",
    "ensemble",
    "extract",
    "gate",
    "publish",
    "serve",
    "work",
    "ui",
    "doctor",
    "schema",
    *(
        f"datasets {n}"
        for n in ("list", "show", "import", "import-folder", "export", "synth", "validate", "diff", "delete")
    ),
    *(f"runs {n}" for n in ("list", "show", "delete", "share", "import")),
    *(f"cache {n}" for n in ("list", "size", "clear", "prune")),
    *(f"store {n}" for n in ("backup", "check")),
]
NO_RESULT = ("serve", "work", "ui", "schema")  # they print no value


def commands(group, name=""):
    "Every command with its full name"
    for own, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{name}{own} ")
        else:
            yield f"{name}{own}", command


@promise("command-line-1")
def test_the_whole_tree_of_commands_teaches():
    tree = dict(commands(typer.main.get_command(cli.app)))
    assert set(SPECIFIED) <= set(tree)
    for name, command in tree.items():
        said = shell(*name.split(), "--help", code=0).stdout
        options = {o for p in command.params for o in p.opts}
        assert name in NO_RESULT or {"--json", "--store"} <= options, name
        assert all(
            getattr(p, "help", None) or p.param_type_name == "argument"
            for p in command.params
            if p.opts != ["--port", "-p"]
        ), name
        assert "\x1b" not in said and len(command.help or "") > 10, name
        required = [p for p in command.params if p.required]
        needs_words = required or len(options) > 4
        assert not needs_words or f"vote-experiments {name}" in said, f"{name} --help shows no example"


@promise("command-line-6")
def test_a_pipe_and_plain_mode_get_no_control_codes(home):
    shell("datasets", "import", write_forms(home), code=0)
    piped = process("run", "-d", "forms", "-m", "slow", home=home, command=[sys.executable, "-c", SLOW])
    assert piped.returncode == 0 and not re.search(r"[\x1b\r]", piped.stdout + piped.stderr)
    leader, follower = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-c", SLOW, "run", "-d", "forms", "-m", "slow"],
        cwd=home,
        stdout=follower,
        stderr=follower,
        env={**os.environ, "VOTE_EXPERIMENTS_PLAIN": "1"},
    )
    os.close(follower)
    said = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not part:
            break
        said += part
    os.close(leader)
    assert done.wait(60) == 0 and b"4/4" in said
    assert b"\x1b" not in said and b"\r" not in said.replace(b"\r\n", b"\n")


@promise("command-line-2")
def test_ctrl_c_stores_what_is_in_flight_and_says_how_to_continue(home):
    shell("datasets", "import", write_forms(home, 12), code=0)
    words = ["run", "-d", "forms", "-m", "slow", "-j", "1"]
    running = subprocess.Popen(
        [sys.executable, "-c", SLOW, *words], cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    asked = home / "asked.txt"
    while not asked.exists() or len(asked.read_text().splitlines()) < 3:
        assert running.poll() is None, running.communicate()
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 130, out + err
    last = err.strip().split("\n")[-1]
    assert last.startswith("interrupted: ") and "Traceback" not in err
    run = re.search(r"vote-experiments resume (grp_\w+)", last)[1]
    done = process("resume", run, "--json", home=home, command=[sys.executable, "-c", SLOW])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["experiments"][0]["successful_records"] == 12
    lines = asked.read_text().splitlines()
    assert len(lines) == len(set(lines)) == 12


def test_thai_survives_a_terminal_that_knows_only_ascii(home):
    shell("datasets", "import", write_forms(home), "--name", "แบบ", code=0)
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    assert json.loads(process("datasets", "list", "--json", home=home, env=ascii_only).stdout)[0]["name"] == "แบบ"
    assert process("datasets", "list", home=home, env=ascii_only).returncode == 0


# ── with the offline readers ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    "One form set of two clean pages, with its dataset file"
    folder = tmp_path_factory.mktemp("drawn")
    return ve.synthesize_dataset(1, 5, "clean", folder, kind="Constituency", name="drawn")


def test_a_damaged_item_never_stops_the_others(home, drawn):
    good = json.loads(drawn.read_text())["records"][0]
    pages = [drawn.parent / p for p in good["input"]["image_paths"]]
    first, *rest = [Image.open(p) for p in pages]
    first.save(home / "whole.pdf", save_all=True, append_images=rest, resolution=150)
    (home / "torn.jpg").write_bytes(pages[0].read_bytes()[:5000])
    Image.new("1", (20_000, 10_000)).save(home / "huge.png")
    items = {
        "good": list(map(str, pages)),
        "pdf": ["whole.pdf"],
        "torn": ["torn.jpg"],
        "huge": ["huge.png"],
        "gone": ["gone.jpg"],
    }
    records = [
        {"id": k, "input": {"image_paths": v}, "expected_output": good["ground_truth"]} for k, v in items.items()
    ]
    (home / "mixed.json").write_text(json.dumps({"name": "mixed", "records": records}))
    value("datasets", "import", "mixed.json", "--root", str(drawn.parent))
    entry = value("run", "-d", "mixed", "-m", "ocr-digits", "--no-raise-errors")["experiments"][0]
    assert (entry["status"], entry["successful_records"], entry["failed_records"]) == ("success", 2, 3)
    said = shell("runs", "show", code=0).stdout
    for name, why in (("torn", "torn.jpg"), ("huge", "pixels"), ("gone", "gone.jpg")):
        assert re.search(rf"^   {name}: .*{why}", said, re.M), said


@pytest.mark.timeout(1800)  # a busy machine is no failure
def test_demo_shows_everything_and_a_second_call_says_what_it_reused(home):
    n = len(cli_demo.runnable_offline())  # fewer where tesserocr has no wheel
    first = process("demo", "--quick", home=home)
    assert first.returncode == 0, first.stderr
    lines = first.stdout.splitlines()
    assert lines[0].startswith("Offline readers, one dataset") and lines[1].startswith("Drawing form sets into")
    assert "form sets drawn: 4/4" in first.stdout and f"RUNNING {n} EXPERIMENTS" in first.stdout
    assert Path(re.search(r"^Report: (.*)$", first.stdout, re.M)[1]).exists()
    pages = {p: p.stat().st_mtime_ns for p in (home / "datasets").rglob("*.jpg")}
    assert len(pages) == sum(i.input["num_pages"] for i in ve.get_dataset(cli_demo.QUICK_DATASET))
    second = process("demo", "--quick", "--json", home=home)
    result = json.loads(second.stdout)
    assert f"Reused: dataset {cli_demo.QUICK_DATASET}" in second.stderr and "new run" in second.stderr
    assert (result["successful_experiments"], result["failed_experiments"]) == (n, 0)
    assert {p: p.stat().st_mtime_ns for p in (home / "datasets").rglob("*.jpg")} == pages
    assert not any(e["n_cached"] for e in result["experiments"])
    assert len(value("runs", "list")) == 2


def test_demo_draws_again_what_is_gone(home):
    folder = home / "datasets" / cli_demo.QUICK_DATASET
    before = cli_demo.demo_data(None, folder, quick=True)
    lost = sorted(folder.rglob("*.jpg"))[0]
    lost.unlink()
    after = cli_demo.demo_data(None, folder, quick=True)
    assert lost.exists() and (after.version, after.content_hash) == (before.version, before.content_hash)


@pytest.mark.slow
def test_the_whole_demo_has_ten_form_sets_a_report_and_stays_below_its_memory(home):
    done = process("demo", "--json", home=home)
    result = json.loads(done.stdout)
    items = list(ve.get_dataset("vote-extraction-synthetic-1-10"))
    assert (len(items), result["dataset_size"], result["failed_experiments"]) == (10, 10, 0)
    assert sum(i.input["num_pages"] for i in items) >= 50
    assert {f for i in items for f in i.metadata["field_difficulties"]} == {"Constituency", "PartyList"}
    assert len({i.metadata["level"] for i in items}) == 3
    assert (Path(result["report_path"]) / "report.html").exists()
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1_500_000  # kB, of the largest process
