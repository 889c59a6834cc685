"""The command line for using the winner: extract, the cache of answers, dry runs and cost caps"""

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
from servers.gemini_server import GeminiServer, answered, usage
from typer.testing import CliRunner

from promises import promise
import vote_experiments as ve
from vote_experiments.store.response_cache import StoredResponses
from vote_experiments.forms.thai import number_words
from vote_experiments.cli import main as cli
from vote_experiments.cli import models as cli_models
from vote_experiments.models.resilience import forget_pace, run_sync
from vote_experiments.settings import VARIABLES

KEY = "planted-shell-key-1234567890"


def answer(station: int, votes: int = 200) -> dict:
    return {
        "reports": [
            {
                "form_info": {
                    "form_type": "Constituency",
                    "date": "14 พฤษภาคม 2566",
                    "province": "ขอนแก่น",
                    "district": "ชุมแพ",
                    "sub_district": "โนนหัน",
                    "constituency_number": "2",
                    "polling_station_number": str(station),
                },
                "voter_statistics": {"eligible_voters": 480, "voters_present": 300},
                "ballot_statistics": {
                    "ballots_allocated": 500,
                    "ballots_used": 300,
                    "good_ballots": 290,
                    "bad_ballots": 4,
                    "no_vote_ballots": 6,
                    "ballots_remaining": 200,
                },
                "vote_results": [
                    {
                        "number": 1,
                        "candidate_name": "นาย ก",
                        "party_name": "ก",
                        "vote_count": votes,
                        "vote_count_text": number_words(votes),
                    },
                    {
                        "number": 2,
                        "candidate_name": "นาย ข",
                        "party_name": "ข",
                        "vote_count": 90,
                        "vote_count_text": "เก้าสิบ",
                    },
                ],
            }
        ]
    }


def station(images) -> int:
    return int(re.search(r"s(\d+)_page", images[0])[1])


@pytest.fixture
def home(tmp_path, monkeypatch):
    "A working directory of its own with five form sets and models that read them"
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.chdir(tmp_path)
    scans = tmp_path / "scans"
    scans.mkdir()
    for i in range(5):
        for page in (1, 2):
            Image.new("L", (40, 60), 200 + i).save(scans / f"s{i}_page{page}.png")
    ve.register_model("careful", lambda images, config: answer(station(images)))
    ve.register_model("hasty", lambda images, config: answer(station(images), 201 if station(images) == 1 else 200))
    yield tmp_path
    for name in ("careful", "hasty"):
        ve.forget_model(name)


def shell(*words, code: int | None = None):
    done = CliRunner().invoke(cli.app, [str(w) for w in words])
    if code is not None:
        assert done.exit_code == code, f"{words} → {done.exit_code}\n{done.output}"
    return done


def value(*words, code: int = 0):
    return json.loads(shell(*words, "--json", code=code).stdout)


# ------------------------------------------------------------------------------------------------ extract
def test_extract_reads_a_folder_and_shows_what_is_doubtful(home):
    said = shell("extract", "scans", "-c", "careful", "--second", "hasty", code=0).stdout
    assert (
        "5 reports read in extract-scans, 1 of them doubtful" in said
        and "vote_results[number=1].vote_count: 200 here, 201" in said
    )
    assert "5/5, 5 ok, 0 failed" in said and "BEST PERFORMER" not in said  # nothing was right or wrong here
    assert [p.name for p in sorted((home / "results/scans").iterdir())] == ["stations.csv", "totals.csv", "votes.csv"]
    again = value("extract", "scans", "-c", '{"model": "careful"}', "-o", "out", "--format", "json")
    assert again["reports"] == 5 and again["doubtful"] == [] and again["config"] == {"model": "careful"}
    assert [Path(f).suffix for f in again["files"]] == [".json"] * 3
    totals = json.loads((home / "out/totals.json").read_text())
    assert [(t["number"], t["votes"], t["forms"]) for t in totals] == [(1, 1000, 5), (2, 450, 5)]


def test_a_form_set_that_could_not_be_read_is_told_in_the_exit_code(home):
    ve.register_model(
        "torn", lambda images, config: answer(station(images)) if station(images) else {"reports": "none"}
    )
    try:
        assert (
            "4 reports read in extract-scans, 0 of them doubtful, 1 form set could not be read"
            in shell("extract", "scans", "-c", "torn", code=1).stdout
        )
        assert value("extract", "scans", "-c", "torn", code=1)["unread"] == 1
    finally:
        ve.forget_model("torn")


def test_the_config_may_be_named_by_a_run_a_file_json_or_a_model(home):
    ve.save_dataset(
        "forms",
        [
            {
                "id": f"s{i}",
                "input": {"image_paths": [f"scans/s{i % 5}_page1.png"]},
                "expected_output": answer(i)["reports"][0],
            }
            for i in range(12)
        ],
    )
    ve.register_model("blind", lambda images, config: {"reports": []})
    try:
        decided = value("run", "-d", "forms", "-m", "careful", "-m", "blind")
    finally:
        ve.forget_model("blind")
    assert cli_models.chosen_config(decided["experiments"][1]["experiment_id"])["model"] == "blind"
    assert decided["best"] == "vote-extraction-careful-t0.0"
    assert (
        cli_models.chosen_config("latest")
        == cli_models.chosen_config(decided["group_id"])
        == {"model": "careful", "temperature": 0.0}
    )
    value("extract", "scans", "-c", "careful", "--second", "hasty")
    assert cli_models.chosen_config("latest")["model"] == "careful", "reading a folder is no comparison"
    value("run", "-d", "forms", "-m", "careful", "-t", "0", "-t", "0.5")
    done = shell("extract", "scans", "-c", "latest", code=2)
    assert "did not decide" in done.stderr and "vote-extraction-careful-t0.5" in done.stderr
    Path("one.toml").write_text('model = "careful"\ntemperature = 0.1\n')
    assert cli_models.chosen_config("one.toml") == {"model": "careful", "temperature": 0.1}
    for wrong, why in (("no.yaml", "does not exist"), ("{", "is not JSON"), ("nobody", "unknown model 'nobody'")):
        assert why in shell("extract", "scans", "-c", wrong, code=2).stderr
    (home / "empty").mkdir()
    assert "no page images" in shell("extract", "empty", "-c", "careful", code=2).stderr


# -------------------------------------------------------------------------------------------------- cache
@promise("command-line-13")
def test_the_cache_is_listed_pruned_and_cleared(home):
    kept = StoredResponses()
    for k in range(4):
        kept.keep(f"k{k}", {"model": "gemini-2.5-flash" if k else "gemini-3-pro-preview", "text": "x" * 1000})
    assert {(m["model"], m["n"]) for m in value("cache", "list")} == {
        ("gemini-2.5-flash", 3),
        ("gemini-3-pro-preview", 1),
    }
    assert value("cache", "size")["answers"] == 4 and "4 answers, 4.2 kB" in shell("cache", "size", code=0).stdout
    assert "--yes" in shell("cache", "clear", code=2).stderr and value("cache", "size")["answers"] == 4
    assert value("cache", "prune", "--older-than-days", "1") == {"forgotten": 0, "left": 4}
    assert value("cache", "prune", "--max-mb", "0.0025") == {"forgotten": 2, "left": 2}
    assert value("cache", "clear", "-y") == {"forgotten": 2}
    assert shell("cache", "list", code=0).stdout == "No answer is kept yet.\n"
    assert "--max-mb or --older-than-days" in shell("cache", "prune", code=2).stderr


# --------------------------------------------------------------------------------------- dry runs and caps
@pytest.fixture
def gemini(home, monkeypatch):
    with GeminiServer() as server:
        run_sync(forget_pace())
        monkeypatch.setenv("GEMINI_API_KEY", KEY)
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        server.default = answered(json.dumps(answer(1)), tokens=usage(3000, 1000))
        ve.save_dataset(
            "forms",
            [
                {
                    "id": f"s{i}",
                    "input": {"image_paths": [f"scans/s{i}_page1.png"]},
                    "expected_output": answer(i)["reports"][0],
                }
                for i in range(5)
            ],
            root=home,
        )
        yield server


def test_a_dry_run_says_what_it_would_take_and_asks_nothing(gemini):
    words = (
        "run",
        "-d",
        "forms",
        "-m",
        "gemini-2.5-flash",
        "-m",
        "careful",
        "-n",
        "4",
        "--dry-run",
        "--max-cost-usd",
        "0.001",
        "--evaluator",
        "llm_judge_evaluator",
    )
    said = shell(*words, code=0).stdout
    assert "8 calls on 4 items of forms" in said and "Not counted: the calls of llm_judge_evaluator." in said
    assert "prompt counted by the provider on 3 items" in said and "nothing is known of this model yet" in said
    found = value(*words)
    assert found["configs"][0]["cost_usd"] == pytest.approx(4 * (258 * 2 * 0.30 + 258 * 2.50) / 1e6)
    assert found["cost_usd"] is None and not gemini.calls and value("runs", "list") == []
    alone = shell("run", "-d", "forms", "-m", "gemini-2.5-flash", "--dry-run", "--max-cost-usd", "0.001", code=0).stdout
    assert "max_cost_usd=0.001 would stop the run before its end." in alone
    assert (
        "unknown key"
        in shell("run", "-d", "forms", "-m", "gemini-2.5-flash", "--set", "temperatur=1", "--dry-run", code=2).stderr
    )


def test_a_capped_run_stops_with_1_and_resumes_with_a_new_cap(gemini):
    each = (3000 * 0.30 + 1000 * 2.50) / 1e6
    done = shell(
        "run", "-d", "forms", "-m", "gemini-2.5-flash", "-j", "1", "--max-cost-usd", f"{1.5 * each:.6f}", code=1
    )
    assert (
        "are spent of max_cost_usd" in done.stderr
        and "vote-experiments resume" in done.stderr
        and len(gemini.calls) == 2
    )
    assert (
        "are spent" in shell("resume", "latest", code=1).stderr and len(gemini.calls) == 2
    )  # the cap as the run began
    result = value("resume", "latest", "--max-cost-usd", "1")
    assert result["experiments"][0]["successful_records"] == 5 and len(gemini.calls) == 5


def test_a_capped_extraction_goes_on_where_it_stopped(gemini):
    each = (3000 * 0.30 + 1000 * 2.50) / 1e6
    words = ("extract", "scans", "-c", "gemini-2.5-flash", "-j", "1")
    assert "are spent" in shell(*words, "--max-cost-usd", f"{2.5 * each:.6f}", code=1).stderr and len(gemini.calls) == 3
    found = value(*words, "--max-cost-usd", "1")
    assert found["reports"] == 5 and len(gemini.calls) == 5 and found["cost_usd"] == pytest.approx(5 * each)
    assert not [p for p in Path.cwd().rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]


@promise("command-line-8")
def test_doctor_says_what_each_missing_credential_disables(home, monkeypatch):
    said = shell("doctor").stdout
    for name, purpose in (
        ("GEMINI_API_KEY", "Gemini models"),
        ("GOOGLE_API_KEY", "Gemini models"),
        ("DD_API_KEY", "Datadog"),
    ):
        assert re.search(rf"^   {name} +not set; needed for: .*{purpose}", said, re.M), name
    assert re.search(r"^   GOOGLE_CLOUD_PROJECT +not set.*Vertex AI", said, re.M)
    assert re.search(r"^   gemini-… +no credentials for Gemini: set GEMINI_API_KEY", said, re.M)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    said = shell("doctor").stdout
    assert re.search(r"^   GEMINI_API_KEY +set$", said, re.M) and KEY not in said
    assert re.search(r"^   gemini-… +ready, Developer API$", said, re.M)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "elections")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    assert re.search(r"^   gemini-… +ready, Vertex AI, project elections in us-central1$", shell("doctor").stdout, re.M)


@pytest.mark.parametrize("name", ["extract", "cache list", "cache size", "cache clear", "cache prune"])
def test_every_command_explains_itself(home, name):
    said = shell(*name.split(), "--help", code=0).stdout
    assert "--json" in said and "--store" in said


def test_extract_says_what_it_left_out_and_what_it_counted_once(home):
    (home / "scans" / "notes.txt").write_text("no page")
    shutil.copy(home / "scans" / "s1_page1.png", home / "scans" / "s1-copy_page1.png")
    ve.register_model("copies", lambda images, config: answer(1 if "copy" in images[0] else station(images)))
    try:
        first = shell("extract", "scans", "-c", "copies", code=1).stdout
        assert "left out: notes.txt" in first and "same report: " in first and "counted once" in first
        facts = value("extract", "scans", "-c", "copies", "--allow-left-out")
        assert (
            list(facts["left_out"]) == ["notes.txt"]
            and not facts["complete"]
            and facts["duplicates"][0]["kind"] == "same report"
        )
        totals = json.loads(
            Path(
                value("extract", "scans", "-c", "copies", "--allow-left-out", "--format", "json")["files"][2]
            ).read_text()
        )
        assert [t["forms"] for t in totals] == [5, 5]
    finally:
        ve.forget_model("copies")


def test_stations_that_did_not_come_are_listed(home):
    header = answer(0)["reports"][0]["form_info"]
    lines = ["จังหวัด,เขต,อำเภอ,ตำบล,หน่วย"] + [
        f"{header['province']},{header['constituency_number']},{header['district']},{header['sub_district']},{n}"
        for n in range(7)
    ]
    Path("expected.csv").write_text("\n".join(lines), encoding="utf-8")
    assert len(value("extract", "scans", "-c", "careful", "--expected", "expected.csv")["missing"]) == 2


# ------------------------------------------------------------------------------------------------ extract → edit → import → measure
def test_extract_edit_import_measure(home):
    value("extract", "scans", "-c", "careful", "-o", "tables")
    stations = Path("tables/stations.csv").read_text(encoding="utf-8-sig")
    assert stations.count("\n") == 6
    votes = Path("tables/votes.csv").read_text(encoding="utf-8-sig").splitlines()
    wrong = next(i for i, line in enumerate(votes) if line.startswith("s3,") and ",200," in line)
    votes[wrong] = votes[wrong].replace(",200,", ",207,")  # a person looked at the page
    Path("tables/votes.csv").write_text("\n".join(votes) + "\n", encoding="utf-8-sig")
    joined = value("datasets", "join", "extract-scans", "tables")
    assert joined["complete"] and len(joined["matched"]) == 5
    result = value("run", "-d", "extract-scans", "-m", "careful")
    items = ve.experiment_result(result["experiments"][0]["experiment_id"]).item_results
    scores = {r.item.id: next(e.value for e in r.evaluations if e.name == "vote_results_quality") for r in items}
    assert scores == {f"s{n}": 0.5 if n == 3 else 1.0 for n in range(5)}


def test_a_table_is_imported_with_a_proposed_mapping_that_is_saved(home):
    Path("truth.csv").write_text(
        "จังหวัด,เขต,ตำบล,หน่วย,หมายเลข,ชื่อสกุล,คะแนน,สี\nแพร่,1,ในเวียง,4,1,นายสมมติ,12,แดง\n", encoding="utf-8"
    )
    refused = shell("datasets", "import", "truth.csv", "--map", "auto", code=None)
    assert refused.exit_code != 0 and "Not used: สี" in refused.output, "shown, and not stored without consent"
    stored = value("datasets", "import", "truth.csv", "--map", "auto", "--yes")
    assert (
        stored["items"] == 1 and stored["mapping"]["unmapped"] == ["สี"] and stored["mapping_file"] == "truth.map.yaml"
    )
    again = value("datasets", "import", "truth.csv", "--name", "again", "--map", "truth.map.yaml", "--yes")
    assert again["items"] == 1
