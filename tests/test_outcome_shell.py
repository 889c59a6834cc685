"""An outcome check as a newcomer types it: from the folder that extract wrote, with names typed wrong and a second check begun"""

import json
import re

import pandas as pd
import pytest
from test_outcome_check import election
from typer.testing import CliRunner

from vote_experiments.cli.main import app
from vote_experiments.outcome.check import OutcomeCheck

SEED = "27182818284590452353"
NAMES = ["1 สมชาย", "2 สมหญิง", "3 มานะ"]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    "A folder with readings.csv, a store of its own, and the truth"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOTE_EXPERIMENTS_STORE", str(tmp_path / "night.db"))
    truth, table = election(choices=NAMES)
    table.to_csv("readings.csv", index=False)
    return truth, table


def typed(*words, code=0):
    "What a command prints; a refusal is one line"
    result = CliRunner().invoke(app, ["check", *map(str, words)])
    assert result.exit_code == code, result.output
    if code:
        assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    return result.stderr if code else result.stdout


def values(*words):
    return json.loads(typed(*words, "--json"))


# ── a name that was typed wrong ─────────────────────────────────────────────────────────────────────────────────────


def test_a_form_that_nobody_was_given_to_read_is_not_stored_unless_that_is_wanted(desk):
    truth, _ = desk
    typed("start", "readings.csv")
    assert "no form has been drawn yet" in typed("record", "หน่วย 004", 1, 2, 3, code=2)
    typed("seed", SEED)
    given = [s["station"] for s in values("next", "-n", 3)["stations"]]
    other = next(s for s in sorted(truth) if s not in given)
    said = typed("record", other, 1, 2, 3, code=2)
    assert "has not been drawn" in said and given[0] in said and "--out-of-turn" in said
    assert OutcomeCheck.resume().readings().empty
    for station in reversed(given):
        typed("record", station, *truth[station].values())
    said = typed("record", other, *truth[other].values(), "--out-of-turn")
    assert "1 form was read before being drawn" in said
    assert values("status")["waiting"] == [other]


def test_a_form_stays_mine_after_i_took_others(desk):
    truth, _ = desk
    typed("start", "readings.csv", "--seed", SEED)
    mine = [s["station"] for s in values("next", "-n", 3, "--reader", "Anong")["stations"]]
    typed("next", "-n", 1, "--reader", "Anong")
    typed("record", mine[2], *truth[mine[2]].values(), "--reader", "Anong")
    typed("record", mine[2], *truth[mine[2]].values(), "--reader", "Boon")  # a second reading is always welcome


def test_python_warns_and_keeps_the_reading_until_its_form_is_drawn(store):
    from vote_experiments import start_outcome_check

    truth, table = election()
    check = start_outcome_check(table, seed=SEED, store=store)
    first = check.next()[0]
    other = next(s for s in sorted(truth) if s != first)
    with pytest.warns(UserWarning, match="has not been drawn"):
        check.record(other, truth[other])
    assert check.status().waiting == (other,) and check.risk == 1
    check.record(first, truth[first])
    assert check.status().draws >= 1 and check.risk < 1


# ── a second check ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_second_start_catches_no_reading_of_the_first(desk):
    truth, _ = desk
    typed("start", "readings.csv", "--seed", SEED)
    first = values("status")["check"]
    station = values("next")["stations"][0]["station"]
    said = typed("start", "readings.csv", "--seed", SEED)
    second = values("status")["check"]
    assert "attempt 2" in said and first in said and "--check" in said
    for words in (("record", station, *truth[station].values()), ("next",), ("seed", SEED)):
        refusal = typed(*words, code=2)
        assert first in refusal and second in refusal and "--check" in refusal
    typed("record", station, *truth[station].values(), "--check", first)
    assert f"Check: {second}" in typed("status")
    assert values("status", "--check", first)["forms_read"] == 1 and values("status")["forms_read"] == 0


def test_a_decided_check_needs_no_name_for_the_next_one(desk):
    truth, _ = desk
    typed("start", "readings.csv", "--seed", SEED)
    check = OutcomeCheck.resume()
    while stations := check.next(5):
        for station in stations:
            check.record(station, truth[station])
    typed("start", "readings.csv", "--seed", SEED[::-1])
    station = values("next")["stations"][0]["station"]
    typed("record", station, *truth[station].values())
    assert values("status")["forms_read"] == 1


# ── what is printed ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_output_has_one_estimate(desk):
    said = typed("start", "readings.csv")
    assert said.count("80 % range") == 1 and "hours for one person" in said
    assert "without reading errors" in typed("plan") and "with 2.0% of the numbers misread" in typed(
        "plan", "--errors", 0.02
    )


def test_a_risk_is_a_probability_however_bad_the_forms_are(desk):
    truth, _ = desk
    for method in ("betting", "kaplan-markov"):
        typed("start", "readings.csv", "--seed", SEED, "--method", method)
        check = values("status")["check"]
        for station in values("next", "-n", 2, "--check", check)["stations"]:
            said = typed("record", station["station"], "--unreadable", "--check", check)
            assert "Risk 1.0000" in said
        now = values("status", "--assertions", "--check", check)
        assert now["risk"] == 1 and max(a["risk"] for a in now["assertions"]) == 1
        typed("report", "--out", "check.html", "--check", check)
        assert "no evidence yet" in open("check.html", encoding="utf-8").read()


def test_the_report_in_thai(desk):
    typed("start", "readings.csv", "--seed", SEED)
    typed("report", "--language", "th", "--out", "check.html")
    page = open("check.html", encoding="utf-8").read()
    assert 'lang="th"' in page and "ยังไม่ได้ยืนยันผล" in page and "1 สมชาย ชนะ" in page and "What this" not in page
    assert "must be one of 'en', 'th'" in typed("report", "--language", "de", code=2)


def test_messages_name_what_a_person_typed_and_no_inner_terms(desk, tmp_path):
    _, table = desk
    table.drop(columns="ballots").to_csv("no-ballots.csv", index=False)
    table.assign(contest=["A", "B"] * (len(table) // 2)).to_csv("two.csv", index=False)
    table.rename(columns={"station": "หน่วย"}).to_csv("other.csv", index=False)
    refusals = {
        ("start", "missing.csv"): r"file 'missing.csv' does not exist",
        ("start", "readings.csv", "--first", "missing.txt"): r"file 'missing.txt' does not exist",
        ("start", "readings.csv", "--expected", "missing.csv"): r"file 'missing.csv' does not exist",
        ("start", "no-ballots.csv"): r"or give --ballots the most",
        ("start", "two.csv"): r"give --which one of 'A', 'B', or --one-contest",
        ("start", "two.csv", "--which", "C"): r"--which 'C' is not a contest of the table; there are 'A', 'B'",
        ("start", "readings.csv", "--which", "C"): r"--which 'C' selects a contest, but the table has no column",
        ("start", "other.csv"): r"the table has no column 'station'.*this table has 'หน่วย'",
        ("start", "readings.csv", "--method", "kaplan"): r"--method 'kaplan' is not one of",
        ("start", "readings.docx"): r"must be \.csv, \.xlsx",
        ("start", str(tmp_path)): r"has no votes\.csv.*give the folder that extract wrote",
        ("start", "readings.csv", "--risk-limit", "5"): r"--risk-limit 5\.0 must be a probability",
    }
    for words, pattern in refusals.items():
        said = typed(*words, code=2)
        assert re.search(pattern, said), said
        assert not re.search(r"\bframe\b|Errno|\b\w+=(?!')|enter_seed", said), said
    assert values("list") == []


# ── from extract to check ───────────────────────────────────────────────────────────────────────────────────────────


def extracted(folder, forms):
    "Tables as extract writes them: form set → (place, votes or None, counted)"
    stations, votes = [], []
    for name, (place, numbers, counted) in forms.items():
        head = {"form_set": name, "report": 0, "form_type": "Constituency", "province": "แพร่"}
        head |= {
            "constituency_number": "1",
            "sub_district": "ในเวียง",
            "polling_station_number": place,
            "counted": counted,
        }
        stations.append(head)
        rows = zip(NAMES, numbers or ())
        votes += [
            {**head, "number": int(n[0]), "candidate_name": n[2:], "party_name": None, "vote_count": v} for n, v in rows
        ]
    folder.mkdir(parents=True)
    pd.DataFrame(votes).to_csv(folder / "votes.csv", index=False, encoding="utf-8-sig")
    pd.DataFrame(stations).to_csv(folder / "stations.csv", index=False, encoding="utf-8-sig")


def test_the_folder_of_extract_with_a_copy_a_conflict_and_a_blank_form(desk, tmp_path):
    forms = {f"f{i:02}": (str(i), (200 + i, 60, 20), "yes") for i in range(20)}
    forms |= {"copy": ("3", (203, 60, 20), "duplicate"), "blank": (None, None, "")}
    forms |= {"one": ("30", (200, 60, 20), "held back"), "other": ("๓๐", (20, 60, 200), "held back")}
    extracted(tmp_path / "results" / "night", forms)
    register = [f"f{i:02}" for i in range(20)] + ["blank", "one", "never came"]
    pd.DataFrame({"station": register, "ballots": 400}).to_excel("register.xlsx", index=False)
    typed("start", "results/night", "--expected", "register.xlsx")
    frame = OutcomeCheck.resume().frame
    assert frame.stations == sorted(register) and frame.assumed == [] and frame.choices == NAMES
    assert frame.reasons == {
        "blank": "nothing was read",
        "one": "2 forms for one station",
        "never came": "no form at all",
    }
    typed("start", "results/night/votes.csv", "--ballots", 400)
    assert OutcomeCheck.resume().frame.stations == sorted(set(register) - {"never came"})


@pytest.mark.parametrize("name", ["official.xlsx", "official.csv"])
def test_official_results_from_a_spreadsheet(desk, name):
    truth, table = desk
    table["station"] = table["station"].str.slice(6).astype(int)  # Excel makes numbers of station numbers
    write = {"xlsx": table.to_excel, "csv": table.to_csv}[name.rpartition(".")[2]]
    write(name, index=False)
    typed("start", name)
    frame = OutcomeCheck.resume().frame
    assert set(frame.stations) in ({str(i) for i in range(60)}, {f"{i}" for i in range(60)}) and frame.reasons == {}
    assert frame.votes.sum() == table["votes"].sum()


def test_what_a_model_read_in_this_very_store(desk, tmp_path):
    "latest is the newest run; its pages are shown to the person who reads"
    from PIL import Image

    from vote_experiments import run_experiment

    def reads(input):
        rows = [{"number": i, "candidate_name": "ก", "vote_count": 300 // i} for i in (1, 2, 3)]
        info = {"form_type": "Constituency", "province": "แพร่", "constituency_number": "1"}
        return {"reports": [{"form_info": info, "vote_results": rows}]}

    for i in range(6):
        Image.new("RGB", (40, 60), "white").save(tmp_path / f"s{i}.png")
    data = [{"id": f"s{i}", "input": {"image_paths": [str(tmp_path / f"s{i}.png")]}} for i in range(6)]
    run_experiment(name="reading", data=data, task=reads, progress=False)
    typed("start", "latest", "--ballots", 700, "--seed", SEED)
    form = values("next")["stations"][0]
    assert form["pages"] == [str(tmp_path / f"{form['station']}.png")]


def test_a_blank_row_whose_zero_the_sum_proves_needs_no_person(desk, tmp_path):
    "Officers leave the row of a candidate without votes blank; where the sum does not fit, it is a number that was not read"
    forms = {f"f{i:02}": (str(i), (200 + i, 60, None if i < 2 else 20), "yes") for i in range(20)}
    extracted(tmp_path / "results" / "night", forms)
    stations = pd.read_csv("results/night/stations.csv", dtype=str).assign(good_ballots=None)
    stations.loc[stations["form_set"] == "f00", "good_ballots"] = 260
    stations.loc[stations["form_set"] == "f01", "good_ballots"] = 281
    stations.to_csv("results/night/stations.csv", index=False)
    typed("start", "results/night", "--ballots", 400)
    frame = OutcomeCheck.resume().frame
    assert frame.reasons == {"f01": "not read: 3 มานะ"} and frame.votes[0].tolist() == [200, 60, 0]


def test_the_errors_of_a_model_count_a_proved_blank_as_a_reading():
    from vote_experiments.outcome.plan import vote_errors
    from vote_experiments.records import DatasetItem, ItemResult

    def report(third, total):
        rows = [{"number": n, "vote_count": v} for n, v in ((1, 200), (2, 60), (3, third))]
        return {"form_info": {"form_type": "Constituency"}, "vote_results": rows, "total_votes_recorded": total}

    def errors(*totals):
        items = [
            ItemResult(DatasetItem(f"s{i}", expected_output=report(0, 260)), report(None, total), position=i)
            for i, total in enumerate(totals)
        ]
        return vote_errors(items)

    assert errors(260, 260).unread == 0 and not errors(260, 260).errors.any()
    assert errors(260, 999).unread == 0.5


# ── the page ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("language", "heading"), [("en", "Station หน่วย"), ("th", ">หน่วย")])
def test_the_tab_in_both_languages_after_a_name_was_typed(store, language, heading):
    "The request for a name is gone, a station is not called station twice, one form is one form"
    from vote_experiments import start_outcome_check
    from vote_experiments.widgets.outcome_panel import OutcomePanel

    truth, table = election()
    start_outcome_check(table, seed=SEED, store=store)
    panel = OutcomePanel(store, language)
    assert panel.news.value and "constituency" not in panel.widget.children[0].value
    panel.reader.value = "Anong"
    assert panel.news.value == "" and heading in panel.head.value and "หน่วย หน่วย" not in panel.head.value
    station = str(panel.station)
    for choice, number in truth[station].items():
        assert str(number) not in panel.bar.value + panel.news.value
        panel.entry.inputs[choice].value = str(number)
    assert station in panel.news.value and "หน่วย หน่วย" not in panel.news.value
    assert ("1 form read" if language == "en" else "อ่านแล้ว 1 แบบ") in panel.bar.value
    kind = "constituency" if language == "en" else "แบ่งเขต"
    assert panel.choice.options[0][0].startswith(kind)


def test_the_tab_begins_with_the_folder_of_extract(store, tmp_path):
    from vote_experiments.html.translations import Words
    from vote_experiments.widgets.outcome_panel import BeginCheck

    extracted(tmp_path / "night", {f"f{i:02}": (str(i), (200 + i, 60, 20), "yes") for i in range(20)})
    begun = []
    panel = BeginCheck(store, Words("outcome", "en"), begun.append)
    panel.file.value = str(tmp_path / "nothing.csv")
    panel.button.click()
    assert "does not exist" in panel.news.value and not begun
    panel.file.value, panel.ballots.value = str(tmp_path / "night"), 400
    panel.button.click()
    assert len(begun) == 1 and len(begun[0].frame.stations) == 20, panel.news.value


@pytest.mark.parametrize("language", ["en", "th"])
def test_the_tab_shows_what_is_refused(store, language):
    from vote_experiments import start_outcome_check
    from vote_experiments.widgets.outcome_panel import OutcomePanel

    truth, table = election()
    check = start_outcome_check(table, store=store)
    panel = OutcomePanel(store, language)
    panel.seed.value = "123"
    panel.seed_button.click()
    assert "20 digits" in panel.news.value and "Error" not in panel.news.value
    check.enter_seed(SEED)
    panel.again.click()
    panel.reader.value = "Anong"
    for choice in truth[str(panel.station)]:
        panel.entry.inputs[choice].value = "5000"
    assert "ballots that can be" in panel.news.value and check.readings().empty


def test_doubtful_forms_of_a_folder_are_read_first(desk, tmp_path):
    forms = {f"f{i:02}": (str(i), (200 + i, 60, 20), "yes") for i in range(20)} | {
        "copy": ("3", (203, 60, 20), "duplicate")
    }
    extracted(tmp_path / "results" / "night", forms)
    stations = pd.read_csv("results/night/stations.csv", dtype=str)
    stations["doubtful"] = stations["form_set"].isin(["f04", "f11", "copy"])
    stations.to_csv("results/night/stations.csv", index=False)
    typed("start", "results/night", "--ballots", 400, "--first", "doubtful")
    assert [s["station"] for s in values("next", "-n", 9)["stations"]] == ["f04", "f11"]
    assert "--first 'doubtful' must be a list" in typed("start", "readings.csv", "--first", "doubtful", code=2).replace(
        "--first doubtful", "--first 'doubtful'"
    )
