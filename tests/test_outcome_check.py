"""An outcome check as people use it: started, read by several, killed, resumed; and what it does with forms that are not as they should be"""

import json
import signal
import subprocess
import sys
import tracemalloc
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vote_experiments import OutcomeCheck, start_outcome_check
from vote_experiments.outcome.check_store import list_checks
from vote_experiments.outcome.frame import OutcomeCheckError
from vote_experiments.outcome.sampling import draws_with_replacement
from vote_experiments.outcome.simulation import ballots_used, simulated_election
from vote_experiments.records import VoteExperimentsError

SEED = "31415926535897932384"
READS = str(Path(__file__).with_name("record_outcome.py"))


def election(seed=0, margin=0.1, stations=60, choices="กขคง"):
    "Truth by station, and the table of a machine that read everything right"
    votes = simulated_election(np.random.default_rng(seed), margin, stations, len(choices))
    names = [f"หน่วย {i:03}" for i in range(stations)]
    truth = {s: dict(zip(choices, map(int, row))) for s, row in zip(names, votes)}
    bounds = dict(zip(names, ballots_used(votes).astype(int)))
    rows = [(s, c, v, bounds[s]) for s, row in truth.items() for c, v in row.items()]
    return truth, pd.DataFrame(rows, columns=["station", "choice", "votes", "ballots"])


def read_until_decided(check, truth, most=1000):
    while (stations := check.next(4)) and most:
        for station in stations:
            check.record(station, truth[station])
            most -= 1
    return check.status()


# ── the interface ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", [None, "betting", "kaplan-markov"])
def test_from_a_table_to_a_confirmed_outcome(store, method):
    truth, table = election()
    check = start_outcome_check(table, contest="constituency", risk_limit=0.05, method=method, seed=SEED, store=store)
    assert check.risk == 1 and check.status().state == "continue"
    coming = check.next(5)
    assert len(set(coming)) == 5 and all(isinstance(s, str) and s in truth and s.pages == [] for s in coming)
    assert check.next(5) == coming, "no one has read them yet"
    status = read_until_decided(check, truth)
    assert status.state == "confirmed" and status.to_read == 0 and check.risk <= 0.05
    assert status.forms_read < 50 and check.next(3) == []


def test_pages_come_with_the_station(store):
    truth, table = election(stations=10)
    table["pages"] = table["station"].map(lambda s: [f"{s}-1.png", f"{s}-2.png"])
    station = start_outcome_check(table, seed=SEED, store=store).next()[0]
    assert station.pages == [f"{station}-1.png", f"{station}-2.png"]


def test_kaplan_markov_through_the_interface_is_the_formula_by_hand(store):
    truth, table = election(margin=0.05)
    check = start_outcome_check(table, method="kaplan-markov", seed=SEED, store=store)
    votes = np.array([list(truth[s].values()) for s in sorted(truth)], dtype=float)
    totals, bound = votes.sum(axis=0), table.groupby("station")["ballots"].first().sort_index().to_numpy()
    margins = totals[0] - totals[1:]
    u = ((votes[:, :1] - votes[:, 1:] + bound[:, None]) / margins).max(axis=1)
    by_hand, read = 1.0, {}
    for draw in islice(draws_with_replacement(u, SEED), 12):
        station = sorted(truth)[draw]
        wrong = dict(truth[station])
        if len(read) % 3 == 1:  # some forms hold fewer votes for the winner than the machine read
            wrong["ก"] -= 9
        read.setdefault(station, wrong)
        error = (votes[draw, 0] - read[station]["ก"]) / margins.min()
        by_hand *= (1 - 1 / u.sum()) / (1 - error / u[draw])
    for station, seen in read.items():
        check.record(station, seen)
    path = check.draws()
    assert path["risk"].iloc[11] == pytest.approx(by_hand)
    assert len(path) >= 12 and path["station"].tolist()[: len(set(path["station"][:1]))] == [next(iter(read))]


def test_repeated_draws_count_by_themselves(store):
    truth, table = election(stations=8, margin=0.2)
    check = start_outcome_check(table, method="kaplan-markov", seed=SEED, risk_limit=0.001, store=store)
    read_until_decided(check, truth, most=6)
    assert check.status().draws > check.status().forms_read - 1
    drawn = check.draws()["station"]
    assert drawn.duplicated().any()


def test_several_contests_and_which(store):
    truth, table = election()
    both = pd.concat([table.assign(contest="เขต 1"), election(1)[1].assign(contest="เขต 2")])
    with pytest.raises(OutcomeCheckError, match="holds 2 contests; give which="):
        start_outcome_check(both, seed=SEED, store=store)
    check = start_outcome_check(both, seed=SEED, which="เขต 1", store=store)
    assert check.frame.name == "เขต 1" and read_until_decided(check, truth).state == "confirmed"


def test_a_referendum_by_its_declared_rule(store):
    truth, table = election(choices=["yes", "no", "no opinion"], margin=0.3)
    check = start_outcome_check(table, "referendum", rule="yes > no + no opinion", seed=SEED, store=store)
    assert check.outcome.startswith(("passes", "fails")) and read_until_decided(check, truth).state == "confirmed"
    with pytest.raises(ValueError, match="names 'nay'"):
        start_outcome_check(table, "referendum", rule="yes > nay", seed=SEED, store=store)


def test_a_party_list_reports_by_assertion(store):
    truth, table = election(choices="กขคงจ", stations=80)
    check = start_outcome_check(table, "party list", seats=5, seed=SEED, store=store)
    assert read_until_decided(check, truth).state == "confirmed"
    rows = check.assertions()
    assert (
        {"winner", "loser", "margin", "U", "risk"} <= set(rows)
        and (rows["margin"] > 0).all()
        and rows["risk"].max() <= 0.05
    )


def test_a_wrong_outcome_is_only_called_wrong_when_it_is_certain(store):
    truth, table = election(margin=0.02, stations=30)
    real = {s: {**v, "ก": v["ข"], "ข": v["ก"]} for s, v in truth.items()}
    check = start_outcome_check(table, seed=SEED, store=store)
    states = []
    while stations := check.next():
        check.record(stations[0], real[stations[0]])
        states.append(check.status().state)
    assert states[-1] == "wrong outcome" and set(states[:-1]) == {"continue"} and len(states) > 15
    assert check.risk == 1


def test_errors_of_ours_have_one_base(store):
    with pytest.raises(VoteExperimentsError):
        start_outcome_check(pd.DataFrame({"station": []}), store=store)
    with pytest.raises(ValueError, match="method='kaplan' is not one of betting, kaplan-markov"):
        start_outcome_check(election()[1], method="kaplan", store=store)
    with pytest.raises(ValueError, match="risk_limit=5"):
        start_outcome_check(election()[1], risk_limit=5, store=store)


# ── forms that are not as they should be ────────────────────────────────────────────────────────────────────────────


def test_a_station_without_a_scan_counts_at_its_worst(store):
    truth, table = election()
    lost = sorted(truth)[7]
    expected = table.groupby("station")["ballots"].first()
    check = start_outcome_check(table[table["station"] != lost], seed=SEED, expected=expected.to_dict(), store=store)
    whole = start_outcome_check(table, seed=SEED, store=store)
    gap = whole.assertions()["margin"].min() - check.assertions()["margin"].min()
    assert gap == pytest.approx(expected[lost] + truth[lost]["ก"] - truth[lost]["ข"])
    assert check.status().missing == (lost,) and lost not in check.next(100)
    assert read_until_decided(check, truth).state == "confirmed"


def test_a_duplicate_and_an_unread_form_are_read_or_count_at_their_worst(store):
    truth, table = election(margin=0.05)
    double, blank = sorted(truth)[3], sorted(truth)[4]
    table.loc[table["station"] == blank, "votes"] = None
    table = pd.concat([table, table[table["station"] == double]])
    check = start_outcome_check(table, seed=SEED, store=store)
    assert check.frame.reasons == {double: "2 forms for one station", blank: "nothing was read"}
    margin = check.assertions()["margin"].min()
    draws_before = check.next(100)
    for station in (double, blank):
        check.record(station, truth[station])
    assert check.status().missing == () and check.draws().empty and check.assertions()["margin"].min() >= margin
    if check.seed and double not in draws_before:
        assert [s for s in check.next(100) if s in draws_before][:5] == [
            s for s in draws_before if s not in (double, blank)
        ][:5]
    assert read_until_decided(check, truth).state == "confirmed"


def test_a_station_in_two_spellings_is_refused_before_anything_is_frozen(store):
    truth, table = election()
    name = table["station"].iloc[0]
    thai = name.translate(str.maketrans("0123456789", "๐๑๒๓๔๕๖๗๘๙"))
    assert thai != name
    twice = pd.concat([table, table[table["station"] == name].assign(station=thai)])
    with pytest.raises(OutcomeCheckError, match="differ only in spelling"):
        start_outcome_check(twice, seed=SEED, store=store)
    with pytest.raises(OutcomeCheckError, match="differ only in spelling"):
        start_outcome_check(
            table.replace({name: thai}), seed=SEED, store=store, expected=list(table["station"].unique())
        )
    assert list_checks(store) == []


def test_unread_forms_that_eat_up_the_margin_are_read_before_any_draw(store):
    truth, table = election(margin=0.02)
    unread = sorted(truth)[:12]
    table.loc[table["station"].isin(unread), "votes"] = None
    check = start_outcome_check(table, seed=SEED, store=store)
    assert check.status().phase == "first" and set(check.next(100)) == set(unread)
    assert read_until_decided(check, truth).state == "confirmed"


def test_a_tie_needs_every_form(store):
    rows = [(f"s{i}", c, v, 200) for i in range(6) for c, v in (("a", 50 + i % 2), ("b", 50 + (i + 1) % 2))]
    table = pd.DataFrame(rows, columns=["station", "choice", "votes", "ballots"])
    truth = {s: dict(zip(g["choice"], g["votes"])) for s, g in table.groupby("station")}
    check = start_outcome_check(table, seed=SEED, store=store)
    assert check.outcome == "a and b are tied" and check.status().to_read == 6
    status = read_until_decided(check, truth)
    assert (status.state, status.forms_read) == ("confirmed", 6)
    other = start_outcome_check(table, seed=SEED, store=store)
    assert read_until_decided(other, truth | {"s3": {"a": 51, "b": 49}}).state == "wrong outcome"


def test_a_reading_above_the_bound_is_an_error_to_resolve(store):
    truth, table = election()
    over = sorted(truth)[5]
    table.loc[(table["station"] == over) & (table["choice"] == "ก"), "votes"] = 5000
    with pytest.raises(OutcomeCheckError, match="more votes than ballots"):
        start_outcome_check(table, seed=SEED, store=store)
    check = start_outcome_check(table, first=[over], seed=SEED, store=store)
    assert check.next(3) == [over]
    with pytest.raises(OutcomeCheckError, match="more than the"):
        check.record(over, {**truth[over], "ก": 5000})
    assert check.readings().empty
    check.record(over, truth[over])
    assert len(check.next(3)) == 3 and read_until_decided(check, truth).state == "confirmed"


def test_a_blank_form_that_a_person_cannot_read_counts_at_its_worst(store):
    truth, table = election()
    check = start_outcome_check(table, seed=SEED, store=store)
    station = check.next()[0]
    check.record(station, None)
    assert check.risk == 1 and check.draws()["p"].iloc[-1] > 50, (
        "a risk is a probability; the p-value keeps the evidence"
    )
    other = start_outcome_check(table, method="kaplan-markov", seed=SEED, store=store)
    station = other.next()[0]
    other.record(station, None)
    assert other.risk == other.assertions()["risk"].max() == 1 and other.draws()["p"].iloc[-1] > 1
    for shown in (check.status(), other.status()):
        assert "Risk 1.0000" in str(shown)


def test_a_certificate_is_conditional_where_bounds_are_assumed(store):
    truth, table = election()
    table.loc[table["station"] == sorted(truth)[0], "ballots"] = None
    check = start_outcome_check(table, seed=SEED, store=store)
    assert check.frame.assumed == [sorted(truth)[0]]
    with pytest.raises(OutcomeCheckError, match="no station has a number of ballots"):
        start_outcome_check(table.drop(columns="ballots"), seed=SEED, store=store)


# ── people ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_readings_out_of_turn_wait(store):
    truth, table = election()
    check = start_outcome_check(table, seed=SEED, store=store)
    first, second, third = check.next(3)
    check.record(third, truth[third])
    check.record(second, truth[second])
    assert check.risk == 1 and check.status().draws == 0
    check.record(first, truth[first])
    assert check.status().draws == 3 and check.risk < 1


def test_two_people_get_different_forms(store):
    truth, table = election()
    check = start_outcome_check(table, seed=SEED, store=store)
    mine, yours = check.next(3, reader="Anong"), OutcomeCheck.resume(check.id, store).next(3, reader="Boon")
    assert not set(mine) & set(yours) and len(yours) == 3
    assert check.next(3, reader="Anong") == mine


def test_the_first_forms_are_fixed_and_unfinished_ones_stay_in_the_frame(store):
    truth, table = election()
    early = sorted(truth)[:4]
    check = start_outcome_check(table, first=early, store=store)
    assert check.next(10) == early
    check.record(early[0], truth[early[0]])
    with pytest.raises(OutcomeCheckError, match="no seed"):
        check.begin_draws()
    check.enter_seed(SEED)
    assert check.next(10) == early[1:]
    order = check.next(100, skip_first=True)
    assert early[0] not in order and set(early[1:]) <= set(order)
    again = OutcomeCheck.resume(check.id, store)
    assert again.next(100) == order, "the draws have begun for everybody"


def test_the_seed_comes_after_the_commitment_and_never_changes(store):
    truth, table = election()
    check = start_outcome_check(table, store=store)
    commitment = check.commitment
    check.enter_seed(SEED)
    with pytest.raises(OutcomeCheckError, match="cannot be changed"):
        check.enter_seed("2" * 20)
    assert OutcomeCheck.resume(check.id, store).commitment == commitment
    shuffled = start_outcome_check(table.sample(frac=1, random_state=1), store=store)
    assert (shuffled.commitment == commitment) == (shuffled.frame.choices == check.frame.choices)
    table.loc[0, "votes"] += 1
    assert start_outcome_check(table, store=store).commitment != commitment


def test_a_second_start_is_attempt_two(store):
    truth, table = election()
    first = start_outcome_check(table, seed=SEED, store=store)
    second = start_outcome_check(table, seed="2" * 20, store=store)
    other = start_outcome_check(table.assign(station=table["station"] + " อื่น"), seed=SEED, store=store)
    assert (first.attempt, second.attempt, other.attempt) == (1, 2, 1)


# ── nothing is lost ─────────────────────────────────────────────────────────────────────────────────────────────────


def reading_process(store, check, reader, *more):
    command = [sys.executable, READS, store.url, check.id, reader, *more]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_killed_between_any_two_readings_nothing_is_lost_and_no_draw_changes(store):
    truth, table = election(margin=0.03)
    check = start_outcome_check(table, seed=SEED, store=store)
    order = check.next(60)
    printed = []
    for kill_after in (1, 2, 3, 5):
        process = reading_process(store, check, "Anong")
        printed += [json.loads(line) for line in islice(process.stdout, kill_after)]
        process.send_signal(signal.SIGKILL)
        process.communicate()
        stored = OutcomeCheck.resume(check.id, store)
        read = stored.readings()["station"].tolist()
        assert read == order[: len(read)] and {s for s, _ in printed} <= set(read)
        assert stored.next(60) == order[len(read) :]
    drawn = OutcomeCheck.resume(check.id, store).draws()
    for station, risk in printed:
        assert drawn.loc[drawn["station"] == station, "risk"].item() == pytest.approx(risk)


def test_two_processes_at_once_reach_one_result(store):
    truth, table = election(margin=0.05)
    check = start_outcome_check(table, seed=SEED, store=store)
    workers = [reading_process(store, check, name, "paced") for name in ("Anong", "Boon")]
    while check.status().state == "continue":
        for worker in workers:  # both at the same moment, and the next two when both are done
            worker.stdin.write("\n")
            worker.stdin.flush()
        for worker in workers:
            while json.loads(worker.stdout.readline()) is not None:
                pass
    for worker in workers:
        worker.communicate(timeout=120)
        assert worker.returncode == 0
    readings = OutcomeCheck.resume(check.id, store).readings()
    assert not readings["station"].duplicated().any() and set(readings["reader"]) == {"Anong", "Boon"}
    assert check.status().state == "confirmed"
    alone = start_outcome_check(table, seed=SEED, store=store)
    read_until_decided(alone, truth)
    n = min(len(alone.draws()), len(check.draws()))
    assert alone.draws()["risk"][:n].tolist() == pytest.approx(check.draws()["risk"][:n].tolist())


def test_what_is_left_of_a_large_party_list_needs_little_memory(store):
    "5,000 stations and 20 parties took 800 MB for one status, a whole country 16 GB"
    rng = np.random.default_rng(3)
    shares = 0.85 ** np.arange(20)
    votes = rng.multinomial(np.full(5000, 400), shares / shares.sum())
    names = [f"s{i}" for i in range(5000)]
    table = pd.DataFrame(votes, columns=[f"p{j}" for j in range(20)]).assign(station=names, ballots=440)
    tidy = table.melt(["station", "ballots"], var_name="choice", value_name="votes")
    check = start_outcome_check(tidy, "party list", seed=SEED, store=store)
    _ = check.risk  # the margins and bounds
    tracemalloc.start()
    status = check.status()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0 < status.to_read_low <= status.to_read <= status.to_read_high <= 5000
    assert peak < 300e6, f"{peak / 1e6:.0f} MB"


def test_a_check_that_began_before_there_was_a_lot_keeps_its_rule(store):
    from vote_experiments.outcome.check_store import store_check

    truth, table = election()
    new = start_outcome_check(table, seed=SEED, store=store)
    settings = {"method": "betting", "risk_limit": 0.05, "first": []}  # as it was stored
    old = OutcomeCheck(store_check(store, new.frame, settings, "ab" * 32), store)
    old.enter_seed(SEED)
    assert old.lot is None and 0 < new.lot < 1 and old.next(60) == new.next(60)
    read_until_decided(old, truth)
    read_until_decided(new, truth)
    assert (old.draws()["lot"] == "").all() and set(new.draws()["lot"]) & {"enough", "another form"}
    n = int(new.draws().index[new.draws()["lot"] != ""][0])
    assert old.draws()["p"][:n].tolist() == new.draws()["p"][:n].tolist()
