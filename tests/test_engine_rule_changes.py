"""A run that older rules scored, compared with a new one: which scores changed, and why"""

import copy

import sqlalchemy as sa

from vote_experiments.datasets.dataset import get_dataset
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.engine.rule_changes import scores_today, scoring_remarks, scoring_version
from vote_experiments.engine.stored_comparison import compare_experiments_by_item
from vote_experiments.experiments.experiment import run_experiment
from vote_experiments.scoring import evaluators
from vote_experiments.scoring.pairs import SCORING_RULES
from vote_experiments.store.encoding import decode_json, encode_json
from vote_experiments.store.tables import experiments
from vote_experiments.store.runs import get_experiment

BALLOTS = {
    "ballots_allocated": 340,
    "ballots_used": 281,
    "good_ballots": 254,
    "bad_ballots": 27,
    "no_vote_ballots": 0,
    "ballots_remaining": 59,
}


def full(station):
    return {
        "form_info": {"form_type": "Constituency", "polling_station_number": station},
        "ballot_statistics": dict(BALLOTS),
        "vote_results": [{"number": 1, "vote_count": 254}],
    }


def partial(station):
    truth = copy.deepcopy(full(station))
    if station % 2:
        for name in ("ballots_allocated", "ballots_used", "ballots_remaining"):
            del truth["ballot_statistics"][name]
    return truth


def ballot_accuracy_score(input_data, output_data, expected_output):
    "As the first version scored: what the truth lacks counted as wrong"
    truth, read = expected_output["ballot_statistics"], output_data["ballot_statistics"]
    return sum(truth.get(k) == read.get(k) for k in BALLOTS) / 6


def run(store, name, evaluator):
    return run_experiment(
        name=name,
        data=get_dataset("stations", store=store),
        task=lambda input: full(input["n"]),
        evaluators=[evaluator],
        store=store,
        progress=False,
    ).experiment_id


def test_an_old_run_beside_a_new_one(sqlite_store, tmp_path, monkeypatch):
    monkeypatch.setenv("VOTE_EXPERIMENTS_RUNS", str(tmp_path / "runs"))
    save_dataset(
        "stations",
        [{"id": f"s{n}", "input": {"n": n}, "expected_output": partial(n)} for n in range(4)],
        store=sqlite_store,
    )
    old, new = (
        run(sqlite_store, "old", ballot_accuracy_score),
        run(sqlite_store, "new", evaluators.ballot_accuracy_score),
    )
    settings = get_experiment(sqlite_store, old)["settings"]
    assert settings.pop("scoring_version") == SCORING_RULES
    with sqlite_store.write() as c:  # as runs of the first version are stored
        c.execute(sa.update(experiments).where(experiments.c.id == old).values(settings=encode_json(settings)))
    assert decode_json(encode_json(settings)) == get_experiment(sqlite_store, old)["settings"]
    assert [scoring_version(get_experiment(sqlite_store, e)) for e in (old, new)] == [1, SCORING_RULES]

    changed = scores_today(sqlite_store, old)
    assert changed[["item_id", "score", "before", "after"]].values.tolist() == [
        ["s1", "ballot_accuracy_score", 0.5, 1.0],
        ["s3", "ballot_accuracy_score", 0.5, 1.0],
    ]
    assert not len(scores_today(sqlite_store, new))

    comparison = compare_experiments_by_item(sqlite_store, {"old": old, "new": new})
    [remark] = [s for s in comparison.sentences if "rules 1" in s]
    assert (
        "does not record is not scored" in remark
        and "ballot_accuracy_score of 2 items" in remark
        and f"rescore('{old}')" in remark
    )
    assert remark in comparison.to_dict()["sentences"]
    assert scoring_remarks(sqlite_store, {"new": new}) == ()
