"""Frames of results: what is missing stays missing, what failed is counted, and the printed table says so."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from vote_experiments.analysis.comparison import compare
from vote_experiments.analysis.wording import markdown_table
from vote_experiments.analysis.frames import (
    ITEM_COLUMNS,
    dollars,
    labelled,
    results_frame,
    score_columns,
    scores_frame,
    seconds,
    summary_frame,
    summary_markdown,
)
from vote_experiments.analysis.comparison_table import DISPLAY_COLUMNS, display_table, text_table, text_width
from vote_experiments.analysis.intervals import mean_interval
from vote_experiments.experiments.experiment import run_experiment
from vote_experiments.records import DatasetItem, Evaluation, ItemError, ItemResult
from vote_experiments.experiments.result import ExperimentResult


def item(i, repeat=0, metadata=None, **scores):
    return ItemResult(
        DatasetItem(f"f{i}", metadata=metadata),
        "out",
        [Evaluation(k, v) for k, v in scores.items()],
        position=i,
        repeat=repeat,
        latency_s=1.0 + i,
        cost_usd=0.01,
        model_version="m-1",
    )


def failure(i, repeat=0, truth=None, **scores):
    return ItemResult(
        DatasetItem(f"f{i}", expected_output=truth),
        None,
        [Evaluation(k, v) for k, v in scores.items()],
        ItemError("TimeoutError", "60 s"),
        position=i,
        repeat=repeat,
        status="failed",
    )


def result(good=(), bad=(), skipped=(), name="flash", **more):
    return ExperimentResult(
        name,
        f"{name}, run",
        f"exp_{name}",
        item_results=list(good),
        failed_items=list(bad),
        skipped_items=list(skipped),
        **more,
    )


# labels


def test_results_of_one_name_go_by_run_name_and_then_by_id():
    a, b, c = (ExperimentResult("flash", run, i) for run, i in (("Monday", "1"), ("Tuesday", "2"), ("Tuesday", "3")))
    assert list(labelled([a, b, c])) == ["Monday", "Tuesday (2)", "Tuesday (3)"]
    assert list(labelled({"mine": a})) == ["mine"] and list(labelled(a)) == ["flash"]


# one row per item


def test_every_item_has_a_row_in_the_order_of_the_data():
    frame = results_frame(
        result(
            [item(0, a=1.0), item(3, a=0.5)],
            [failure(1)],
            [ItemResult(DatasetItem("f2"), position=2, status="skipped")],
        )
    )
    assert list(frame.columns) == [*ITEM_COLUMNS, "a"]
    assert frame["item_id"].tolist() == ["f0", "f1", "f2", "f3"]
    assert frame["status"].tolist() == ["ok", "failed", "skipped", "ok"]
    assert frame["error_type"].tolist()[1] == "TimeoutError" and frame["latency_s"].dtype == float
    np.testing.assert_array_equal(frame["a"], [1.0, np.nan, np.nan, 0.5])


def test_scores_named_like_columns_are_kept_beside_them():
    frame = results_frame(result([item(0, status="legible", latency_s=0.5, score_status=1.0)]))
    row = frame.iloc[0]
    assert (row["status"], row["score_status"], row["latency_s"], row["score_latency_s"]) == ("ok", "legible", 1.0, 0.5)
    assert row["score_score_status"] == 1.0
    assert score_columns(["a", "a b"], ["a"]) == {"a": "score_a", "a b": "a b"}


def test_columns_have_the_type_of_their_values():
    frame = results_frame(result([item(0, b=True, n=1, t="good"), item(1, b=False, n=0.5, t=None), item(2, n=None)]))
    assert frame["b"].dtype == "boolean" and frame["n"].dtype == float and frame["t"].tolist()[:2] == ["good", None]
    assert results_frame(result([item(0, b=True)]))["b"].dtype == bool


def test_several_results_share_columns():
    frame = results_frame([result([item(0, a=1.0)], name="x"), result([item(0, b=0.5)], name="y")])
    assert frame[["experiment", "a", "b"]].fillna("-").to_numpy().tolist() == [["x", 1.0, "-"], ["y", "-", 0.5]]
    assert list(results_frame([]).columns) == list(ITEM_COLUMNS)
    assert frame.to_csv(index=False).count("\n") == 3


# one row per score


def test_a_failed_item_is_zero_in_accuracies_and_missing_elsewhere():
    frame = scores_frame(
        result(
            [item(0, ballot_accuracy_score=1.0, has_no_errors=True, absolute_vote_error=0.2, mine=0.5)], [failure(1)]
        )
    )
    values = frame.pivot(index="score", columns="item_id", values="value")
    assert values["f1"].fillna(-1).to_dict() == {
        "ballot_accuracy_score": 0,
        "has_no_errors": 0,
        "overall_accuracy": 0,
        "absolute_vote_error": -1,
        "mine": 0,
    }, "a share in [0, 1] of a user's own is an accuracy too"
    assert values.loc["overall_accuracy", "f0"] == 1.0
    counted = scores_frame(result([item(0, n_rows=12)], [failure(1)]), "n_rows").set_index("item_id")["value"]
    assert math.isnan(counted["f1"]), "a count is missing for a failed item, not 0"


def test_unscored_text_and_skipped():
    frame = scores_frame(
        result(
            [
                item(0, vote_results_quality=None, word="fine", ballot_accuracy_score=0.5),
                item(1, vote_results_quality=1.0),
            ],
            skipped=[ItemResult(DatasetItem("f2"), status="skipped")],
        )
    )
    assert set(frame["score"]) == {"vote_results_quality", "ballot_accuracy_score", "overall_accuracy"}
    assert set(frame["item_id"]) == {"f0", "f1"}
    assert frame[(frame["score"] == "vote_results_quality")]["value"].isna().tolist() == [True, False]


def test_an_experiment_that_failed_throughout_stays_in_the_comparison():
    good, bad = (
        result([item(i, ballot_accuracy_score=1.0) for i in range(8)], name="good"),
        result([], [failure(i) for i in range(8)], name="bad"),
    )
    out = compare(scores_frame([good, bad], "overall_accuracy"))
    assert out.best == "good" and out.distinguishable and out.table["mean"].tolist() == [1.0, 0.0]
    alone = scores_frame(result([], [failure(i, truth={"reports": []}) for i in range(8)], name="bad"))
    assert set(alone["score"]) == {"overall_accuracy"} and alone["value"].tolist() == [0.0] * 8


def test_a_failed_item_without_ground_truth_is_neither_right_nor_wrong():
    alone = scores_frame(result([], [failure(i) for i in range(8)], name="bad"))
    assert alone["value"].isna().all(), "it is unknown what these should have read"
    mixed = [failure(1), failure(2, truth={"reports": []})]
    known = scores_frame(result([], mixed, name="bad"), "overall_accuracy").set_index("item_id")["value"]
    assert known["f2"] == 0 and math.isnan(known["f1"])


def test_an_overall_accuracy_of_ones_own_is_not_replaced():
    frame = scores_frame(
        result([item(0, overall_accuracy=0.25, ballot_accuracy_score=1.0)], [failure(1)]), "overall_accuracy"
    )
    assert frame["value"].tolist() == [0.25, 0.0]


def test_weights_and_clusters():
    run = result(
        [
            item(0, ballot_accuracy_score=1.0, exact_form_match=False, metadata={"station": "น่าน 1"}),
            item(1, ballot_accuracy_score=1.0),
        ]
    )
    frame = scores_frame(
        run, ["overall_accuracy"], cluster="station", weights={"exact_form_match": 3, "ballot_accuracy_score": 1}
    )
    assert frame["cluster"].tolist() == ["น่าน 1", "f1"] and frame["value"].tolist() == [0.25, 1.0]
    assert "cluster" not in scores_frame(run)


# the summary


def test_the_summary_counts_what_is_in_each_mean():
    run = result(
        [item(0, ballot_accuracy_score=1.0), item(1, ballot_accuracy_score=None), item(2, ballot_accuracy_score=0.5)],
        [failure(3)],
    )
    row = summary_frame(run).set_index("score").loc["ballot_accuracy_score"]
    expected = mean_interval([1.0, 0.5, 0.0])
    assert (row["n"], row["mean"], row["lower"], row["upper"]) == (3, 0.5, expected.lower_bound, expected.upper_bound)
    assert (row["failed"], row["unscored"], row["denominator"]) == (1, 1, 4)
    success = summary_frame(run).set_index("score").loc["success_rate"]
    assert (success["mean"], success["n"]) == (0.75, 4)


def test_repeats_are_clusters_in_the_summary():
    run = result([item(i, repeat=r, ballot_accuracy_score=float(i % 2)) for r in range(3) for i in range(6)])
    row = summary_frame(run).set_index("score").loc["ballot_accuracy_score"]
    expected = mean_interval([0.0, 1.0] * 3)
    np.testing.assert_allclose((row["lower"], row["upper"]), (expected.lower_bound, expected.upper_bound), atol=1e-9)
    assert row["n"] == 18


def test_scores_beyond_one_get_an_interval_without_bounds():
    row = summary_frame(result([item(i, tokens=100.0 * i) for i in range(4)])).set_index("score").loc["tokens"]
    assert row["upper"] > 200 and row["lower"] < 100


@pytest.mark.parametrize("run", [result(), result([], [failure(0)]), result([item(0)])])
def test_empty_runs_have_a_summary_too(run):
    frame = summary_frame(run)
    assert list(frame.columns)[:5] == ["score", "n", "mean", "lower", "upper"]
    assert summary_markdown(run).startswith("**flash**")


def test_a_stored_run_says_the_same_as_its_items(tmp_path):
    def read(item):
        if item["input"]["n"] == 3:
            raise RuntimeError("torn page")
        return item["input"]["n"]

    def ballot_accuracy_score(input, output, expected_output):
        return None if output == 5 else output / 10

    def exact_form_match(input, output, expected_output):
        return output % 2 == 0

    run = run_experiment(
        name="read",
        data=[{"input": {"n": n}} for n in range(8)],
        task=read,
        repeats=2,
        evaluators=[ballot_accuracy_score, exact_form_match],
        store=str(tmp_path / "s.db"),
    )
    stored, counted = (
        summary_frame(run),
        summary_frame(
            ExperimentResult(
                run.name,
                run.run_name,
                run.experiment_id,
                item_results=list(run.item_results),
                failed_items=list(run.failed_items),
            )
        ),
    )
    columns = ["n", "mean", "lower", "upper", "failed", "unscored", "denominator"]
    pd.testing.assert_frame_equal(
        stored.set_index("score")[columns].sort_index(),
        counted.set_index("score")[columns].sort_index(),
        check_dtype=False,
    )
    assert stored.set_index("score").loc["ballot_accuracy_score", "n"] == 14
    assert run.summary_frame().equals(stored) and len(run.to_frame()) == 16
    assert "overall_accuracy" in run._repr_markdown_() and "2 failed" in run._repr_markdown_()


def test_markdown_is_safe_and_in_percent():
    text = summary_markdown(result([item(i, ballot_accuracy_score=1.0) for i in range(10)], name="<script>x</script>"))
    assert "<script>" not in text and "100.0 % [69.2, 100.0]" in text and "0.692" not in text


# the comparison table


def row(**more):
    return {
        "experiment_name": "flash",
        "model": "gemini-2.5-flash",
        "temperature": 0.0,
        "status": "success",
        "total_records": 10,
        "successful_records": 10,
        "summary_metrics": {"overall_accuracy": 0.951, "success_rate": 1.0, "avg_ballot_accuracy": 0.5},
        "metrics_ci": {"overall_accuracy": {"lower": 0.7, "upper": 0.99}},
        "latency": {"p50": 1.26},
        "cost_usd": None,
        **more,
    }


def test_the_table_shows_percent_and_dashes():
    cells = display_table([row()]).frame.iloc[0]
    assert cells.to_dict() == {
        "experiment": "flash",
        "model": "gemini-2.5-flash",
        "temperature": "0.0",
        "status": "success",
        "records": "10",
        "overall accuracy": "95.1 % [70.0, 99.0]",
        "success": "100.0 %",
        "ballot": "50.0 %",
        "p50 latency": "1.3 s",
        "cost": "–",
    }
    failed = display_table([{"experiment_name": "x", "status": "failed", "summary_metrics": {}}]).frame.iloc[0]
    assert failed["overall accuracy"] == "–" and failed["temperature"] == "default" and failed["records"] == "–"


@pytest.mark.parametrize(
    "interval",
    [{"lower_bound": 0.7, "upper_bound": 0.99}, (0.7, 0.99), [0.7, 0.99], mean_interval([0.951], bounds=(0, 1))],
)
def test_intervals_come_in_several_shapes(interval):
    assert "[" in display_table([row(metrics_ci={"overall_accuracy": interval})]).frame.loc[0, "overall accuracy"]


@pytest.mark.parametrize("interval", [None, {}, {"lower": None, "upper": None}, ()])
def test_no_interval_is_no_bracket(interval):
    assert display_table([row(metrics_ci={"overall_accuracy": interval})]).frame.loc[0, "overall accuracy"] == "95.1 %"


def test_every_form_of_the_table():
    table = display_table([row(), row(experiment_name="อ่าน|<b>", successful_records=8)])
    lines = str(table).splitlines()
    assert len(lines) == 4 and len({text_width(line) for line in lines}) == 1
    assert "8 of 10" in lines[3] and "\x1b" not in str(table)
    assert "อ่าน\\|&lt;b&gt;" in table.to_markdown() and "<b>" not in table.to_html()
    assert list(display_table([]).frame.columns) == list(DISPLAY_COLUMNS) and str(display_table([]))
    json.dumps(table.frame.to_dict("records"))


def test_text_tables_align_thai():
    lines = text_table(pd.DataFrame({"จังหวัด": ["น่าน", "เชียงใหม่"], "n": ["7", "12"]})).splitlines()
    assert {text_width(line) for line in lines} == {len("เชยงใหม") + 4}


@pytest.mark.parametrize(
    "value, text",
    [
        (0.0004, "0 ms"),
        (0.34, "340 ms"),
        (2.44, "2.4 s"),
        (99.94, "99.9 s"),
        (185, "3 min 5 s"),
        (None, "–"),
        (math.nan, "–"),
    ],
)
def test_seconds(value, text):
    assert seconds(value) == text


@pytest.mark.parametrize(
    "value, text",
    [(0, "$0.00"), (0.00031, "$0.00031"), (0.0213, "$0.021"), (0.5, "$0.50"), (1234.5, "$1,234.50"), (None, "–")],
)
def test_dollars(value, text):
    assert dollars(value) == text


def test_missing_cells_are_a_dash_in_every_table():
    "NaN among texts once ended a command with a TypeError"
    frame = pd.DataFrame({"mean": [0.5, math.nan], "name": ["a", None], "n": pd.array([3, None], dtype="Int64")})
    assert text_table(frame).splitlines()[-1].split() == ["–", "–", "–"]
    assert markdown_table(frame).splitlines()[-1] == "| – | – | – |"


def test_the_comparison_table_is_still_found_where_version_0_1_had_it():
    from vote_experiments.analysis import comparison_table, frames

    for name in ("display_table", "text_table", "DISPLAY_COLUMNS"):
        with pytest.warns(
            DeprecationWarning, match=f"frames.{name} is now vote_experiments.analysis.comparison_table.{name}"
        ):
            assert getattr(frames, name) is getattr(comparison_table, name)
    with pytest.raises(AttributeError, match="no attribute 'displaytable'"):
        _ = frames.displaytable
