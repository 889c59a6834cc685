"""Races through the one engine: nothing runs twice, nothing is decided otherwise after a stop, ties are reported as ties."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from vote_experiments.datasets.dataset import DatasetNotFoundError
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.store.runs import get_group, list_experiments, list_groups
from vote_experiments.experiments.result import experiment_result
from vote_experiments.store.database import open_store
from vote_experiments.experiments.comparison import stored_request
from vote_experiments.experiments.race import drawn_order, race, round_ends
from vote_experiments.engine.resuming import SettingsChangedError
from vote_experiments.models.registry import forget_model, register_model
from vote_experiments.records import Evaluation

CONFIGS = [{"model": f"reader-{s}"} for s in (0.9, 0.6, 0.3)]
asked = []


def reads(input, config):
    asked.append((config["model"], input))
    lucky = random.Random(f"{config['model']}{input}").random()
    return input if lucky < float(config["model"].removeprefix("reader-")) else -1


def correct(output, expected_output):
    return output == expected_output


@pytest.fixture
def forms(sqlite_store, tmp_path, monkeypatch):
    monkeypatch.setenv("VOTE_EXPERIMENTS_RUNS", str(tmp_path / "runs"))
    save_dataset("forms", [{"id": f"f{i}", "input": i, "expected_output": i} for i in range(200)], store=sqlite_store)
    asked.clear()
    return sqlite_store


def run(store, configs=CONFIGS, **more):
    return race(
        configs,
        "forms",
        **{
            "task_function": reads,
            "evaluators": [correct],
            "summary_evaluators": [],
            "store": store,
            "progress": False,
            **more,
        },
    )


def test_a_race_asks_each_item_once_and_leaves_out_the_rest(forms):
    found = run(forms)
    assert found.winner == "vote-extraction-reader-0.9-tdefault" and found.tied == [] and found.score == "correct"
    assert (
        len(asked) == len(set(asked)) == found.calls < found.calls_full == 600 and found.saved == 1 - found.calls / 600
    )
    rows = list_experiments(forms, group_id=found.group_id)
    assert {e["name"]: e["n_items"] for e in rows} == dict(zip(found.table["experiment"], found.table["items"]))
    assert {e["status"] for e in rows} == {"finished"} and {e["settings"]["n_items"] for e in rows} == {200}
    items = {m: [i for model, i in asked if model == m] for m in dict.fromkeys(m for m, _ in asked)}
    longest = max(items.values(), key=len)
    assert all(sorted(i) == sorted(longest[: len(i)]) for i in items.values()) and longest != sorted(longest), (
        "the same items, not the first ones"
    )


def test_the_result_is_kept_and_shown(forms, capsys):
    found = run(forms, progress=True)
    group = get_group(forms, found.group_id)
    assert (group["kind"], group["status"]) == ("race", "finished") and group["result"]["headline"] == found.sentence
    assert group["result"]["race"]["winner"] == found.winner and len(group["result"]["experiments"]) == 3
    page = open(os.path.join(found.report_path, "index.html")).read()
    assert (
        found.winner in page
        and "data:image/svg+xml;base64," in page
        and "://" not in page.replace("http://www.w3.org", "")
    )
    said = capsys.readouterr().out
    assert "round 1: 10 items" in said and found.sentence in said
    json.dumps(found.to_dict(), allow_nan=False)
    assert (
        found.table["difference"].dropna().lt(0).all()
        and (found.table["lower"].dropna() <= found.table["difference"].dropna()).all()
    )


def test_equal_leaders_are_a_tied_set(forms):
    configs = [{"model": "reader-0.8", "name_suffix": n} for n in "ab"] + [{"model": "reader-0.2"}]
    found = run(forms, configs, round_size=40)
    assert found.winner is None and sorted(found.tied) == ["vote-extraction-a", "vote-extraction-b"]
    assert (
        "vote-extraction-a and vote-extraction-b cannot be told apart after 200 items; "
        "shown to be behind: vote-extraction-reader-0.2-tdefault"
    ) in found.sentence
    assert found.table["verdict"].tolist()[:2] == ["not distinguishable"] * 2 and found.table["verdict"][2].startswith(
        "dropped after"
    )
    assert get_group(forms, found.group_id)["result"]["best"] is None


def test_a_race_that_was_stopped_ends_as_it_would_have(forms, tmp_path):
    whole = run(forms)
    asked.clear()
    other = open_store(tmp_path / "other.db")
    save_dataset("forms", [{"id": f"f{i}", "input": i, "expected_output": i} for i in range(200)], store=other)

    def stops(p):
        if len(asked) > 37:
            raise KeyError("stop here")

    with pytest.raises(KeyError):
        run(other, progress=stops)
    assert list_groups(other)[0]["status"] == "failed"
    again = run(other, resume=True)
    assert again.table.equals(whole.table) and again.history.equals(whole.history)
    assert len(asked) == len(set(asked)) == whole.calls and len(list_groups(other)) == 1
    asked.clear()
    assert run(other, resume=again.group_id).table.equals(whole.table) and asked == []


KILLED = """
    import sys, time
    sys.path.insert(0, sys.argv[2])
    from test_experiments_race import reads, correct, CONFIGS
    from vote_experiments.experiments.race import race

    def slowly(input, config):
        time.sleep(0.004)
        with open(sys.argv[3], "a") as log: log.write(f"{config['model']} {input}\\n")
        return reads(input, config)

    print("started", flush=True)
    race(CONFIGS, "forms", task_function=slowly, evaluators=[correct], summary_evaluators=[], store=sys.argv[1], progress=False,
         resume=True, jobs=1)
    print("done", flush=True)
"""


def test_a_killed_race_goes_on_in_another_process(forms, tmp_path):
    whole = run(forms, jobs=1)
    path, log = tmp_path / "killed.db", tmp_path / "asked.log"
    other = open_store(path)
    save_dataset("forms", [{"id": f"f{i}", "input": i, "expected_output": i} for i in range(200)], store=other)
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED))
    command = [sys.executable, str(script), str(path), os.path.dirname(__file__), str(log)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while not log.exists() or len(log.read_text().splitlines()) < 25:
        assert first.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert "done" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = log.read_text().splitlines()
    (group,) = list_groups(other)
    assert group["status"] == "finished" and group["result"]["race"]["winner"] == whole.winner
    assert group["result"]["race"]["calls"] == whole.calls and len(lines) - len(set(lines)) <= 60, (
        "at most what was in flight, 100 ms of it"
    )


def test_a_race_is_continued_only_as_it_was_asked(forms):
    found = run(forms)
    with pytest.raises(SettingsChangedError, match=r"error: was 0.05, now 0.01"):
        run(forms, error=0.01, resume=found.group_id)

    def correct(output, expected_output):
        return output == expected_output + 0

    with pytest.raises(SettingsChangedError, match="evaluators.correct"):
        run(forms, evaluators=[correct], resume=found.group_id)
    with pytest.raises(ValueError, match="used functions of its own"):
        stored_request(forms, found.group_id)
    assert run(forms, resume=True).group_id != found.group_id, "a finished race is not continued by True"


def test_failures_count_and_repeats_are_averaged(forms):
    def sometimes(input, config):
        if config["model"] == "reader-0.9" and input % 2:
            raise RuntimeError("no page")
        return input if config["model"] == "reader-0.9" else reads(input, config)

    found = run(forms, task_function=sometimes, repeats=2, round_size=40)
    broken = found.table.set_index("experiment").loc["vote-extraction-reader-0.9-tdefault"]
    assert 0.3 < broken["mean"] < 0.7 and found.calls == 2 * found.table["items"].sum()
    assert len(experiment_result(found.experiments["vote-extraction-reader-0.9-tdefault"], forms).failed_items) > 10


def test_lower_may_be_better_and_any_score_of_items_will_do(forms):
    def row_shift(output, expected_output):  # a standard score for which 0 is perfect
        return Evaluation("row_shift", float(output != expected_output))

    found = run(forms, evaluators=[correct, row_shift], score="row_shift")
    assert found.winner == "vote-extraction-reader-0.9-tdefault" and found.score == "row_shift"


@pytest.mark.parametrize(
    "more, words",
    [
        ({"configs": CONFIGS[:1]}, "at least two model configs"),
        ({"round_size": 0}, "round_size=0"),
        ({"error": 5}, "error=5"),
        ({"jobs": True}, "jobs=True"),
        ({"task_function": None}, "reader-0.9"),
        ({"score": "depth"}, "no item has a value of 'depth'"),
        ({"resume": "grp_none"}, "no group 'grp_none'"),
        ({"sample_size": 0}, "sample_size=0"),
    ],
)
def test_what_cannot_work_is_said(forms, more, words):
    with pytest.raises((ValueError, LookupError), match=words):
        run(forms, **more)


def test_a_score_outside_the_unit_interval_is_refused(forms):
    with pytest.raises(ValueError, match="a race needs a score between 0 and 1"):
        run(forms, evaluators=[lambda output, expected_output: Evaluation("votes", 7.0)])
    with pytest.raises(DatasetNotFoundError):
        race(CONFIGS, "nothing", task_function=reads, store=forms)


def test_models_race_over_page_images(forms):
    def model(share):
        def read(images, config):
            right = random.Random(f"{share}{images}").random() < share
            return {"reports": [{"vote_results": [{"number": 1, "vote_count": 7 if right else 8}]}]}

        return read

    for share in (0.95, 0.3):
        register_model(f"made-up-{share}", model(share))
    try:
        save_dataset(
            "pages",
            [
                {
                    "id": f"p{i}",
                    "input": {"image_paths": [f"{i}.jpg"]},
                    "expected_output": {"vote_results": [{"number": 1, "vote_count": 7}]},
                }
                for i in range(60)
            ],
            store=forms,
        )
        found = race([{"model": "made-up-0.95"}, {"model": "made-up-0.3"}], "pages", store=forms, progress=False)
    finally:
        forget_model("made-up-0.95"), forget_model("made-up-0.3")
    assert (
        found.winner == "vote-extraction-made-up-0.95-tdefault"
        and found.score == "overall_accuracy"
        and found.saved > 0.2
    )


def test_orders_and_rounds():
    assert (
        sorted(drawn_order(range(50), 1)) == list(range(50)) != drawn_order(range(50), 1) == drawn_order(range(50), 1)
    )
    assert (
        round_ends(7, 3) == [3, 6, 7]
        and round_ends(6, 3) == [3, 6]
        and round_ends(1, None) == [1]
        and len(round_ends(1000, None)) == 20
    )
