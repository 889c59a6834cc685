"""Plots: what is drawn is what the frame says; the same frame gives the same bytes; Thai has its glyphs."""

import io
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from promises import promise
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from vote_experiments.analysis.comparison import compare
from vote_experiments.analysis.mistake_plots import (
    plot_digit_confusions,
    plot_joins,
    plot_row_shifts,
    plot_seat_flips,
    plot_vote_error_by_size,
)
from vote_experiments.analysis.plots import (
    plot_comparison,
    plot_cost_accuracy,
    plot_latency,
    plot_paired_differences,
    plot_scores_by,
    plot_vote_error_histogram,
)
from vote_experiments.analysis.figures import COLORS, figure_bytes, save_figure
from vote_experiments.analysis.run_plots import plot_race, plot_repeats, plot_trend
from vote_experiments.analysis.sweep_plots import plot_sweep_heatmap, plot_sweep_metric, plot_sweep_metrics

RNG = np.random.default_rng(7)
LONG = "vote-extraction-gemini-2.5-flash-lite-thinking-high-media-resolution"
THAI = "อ่านแบบ ส.ส. ๕/๑๘ ที่น้ำปู่ บัญชีรายชื่อ"


def forms(names=("fused", "fused-names", "words"), n=12):
    hard = RNG.beta(2, 6, (n, 1))
    steps = np.linspace(0.2, 1.2, len(names)) if len(names) > 3 else [0.2, 0.21, 1.0][: len(names)]
    return pd.DataFrame((1 - hard * steps + RNG.normal(0, 0.02, (n, len(names)))).clip(0, 1), columns=list(names))


def sweep():
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        [
            (lr, rank, seed, 0.9 + lr * 100 + rng.normal(0, 0.01), rng.random())
            for lr in (1e-4, 5e-5, 1e-5)
            for rank in (4, 8)
            for seed in (1, 2, 3)
        ],
        columns=["learning_rate", "lora_rank", "seed", "accuracy", "f1_score"],
    )


def words(figure):
    return [t.get_text() for ax in figure.axes for t in ax.texts]


def drawn(figure, form="png"):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return figure_bytes(figure, form, 60)


DIGITS = pd.DataFrame(
    {
        "expected": ["1", "1", "0", ""],
        "answered": ["1", "7", "", "3"],
        "n": [90, 5, 2, 1],
        "share": [0.95, 0.05, 1.0, 1.0],
    }
)
SEATS = pd.DataFrame(
    {
        "province": ["แพร่", "น่าน"],
        "constituency": ["1", "2"],
        "form_type": ["Constituency", "PartyList"],
        "margin": [30, 900],
        "read_margin": [70, 880],
        "winner": ["1 นายก", "2 ข"],
        "read_winner": ["2 นายจ", "2 ข"],
        "winner_changes": [True, False],
    }
)
HISTORY = pd.DataFrame(
    [
        (r, 10 * r, n, s * r, n != "poor" or r < 3)
        for r in (1, 2, 3)
        for n, s in (("good", -0.2), (LONG, 0.1), ("poor", 2.0))
    ],
    columns=["round", "items", "experiment", "evidence", "still_in"],
)
RUNS = pd.DataFrame(
    {"run": ["one", LONG], "mean": [0.9, 0.6], "lower": [0.8, 0.5], "upper": [0.95, 0.7], "verdict": ["first", "worse"]}
)

EVERY = {
    "digits": lambda: plot_digit_confusions(DIGITS),
    "seats": lambda: plot_seat_flips(SEATS),
    "race": lambda: plot_race(HISTORY),
    "trend": lambda: plot_trend(RUNS),
    "repeats": lambda: plot_repeats(
        pd.DataFrame({"experiment": ["a", THAI], "within_sd": [0.1, np.nan], "between_sd": [0.2, np.nan]})
    ),
    "shifts": lambda: plot_row_shifts(pd.DataFrame({"shift": [1, -1, 1], "rows": [4, 3, 2]})),
    "sizes": lambda: plot_vote_error_by_size(
        pd.DataFrame({"votes": ["1–9"], "n": [4], "mean": [0.9], "lower": [0.7], "upper": [1.0]})
    ),
    "joins": lambda: plot_joins(
        pd.DataFrame({"experiment": ["a", "b"] * 2, "join": ["both", "neither"] * 2, "n": [9, 1, 3, 4]})
    ),
    "comparison": lambda: plot_comparison(compare(forms())),
    "differences": lambda: plot_paired_differences(compare(forms())),
    "by": lambda: plot_scores_by(
        pd.DataFrame({"difficulty": ["ตราประทับ", "fold"], "mean": [0.9, 0.8], "lower": [0.8, 0.7], "upper": [1, 0.9]})
    ),
    "cost": lambda: plot_cost_accuracy(compare(forms()).table.assign(cost_usd=[0.1, 0.2, None])),
    "latency": lambda: plot_latency(pd.DataFrame({"experiment": ["a", "a", "b"], "latency_s": [1.0, 2.0, None]})),
    "votes": lambda: plot_vote_error_histogram(pd.DataFrame({"difference": [0, 1, -20], "n": [90, 5, 5]})),
    "metric": lambda: plot_sweep_metric(sweep(), x="learning_rate", y="accuracy"),
    "metrics": lambda: plot_sweep_metrics(sweep(), x="learning_rate", y=["accuracy", "f1_score"]),
    "heatmap": lambda: plot_sweep_heatmap(sweep(), x="learning_rate", y="lora_rank", values="accuracy"),
}


@pytest.mark.parametrize("name", EVERY)
def test_every_plot_is_a_figure_of_some_size_with_a_title(name):
    figure = EVERY[name]()
    assert isinstance(figure, Figure)
    assert any(ax.get_title(loc="left") for ax in figure.axes)
    image = Image.open(io.BytesIO(drawn(figure)))
    assert image.width > 300 and len(image.convert("RGB").getcolors(10**6)) > 10


def test_pyplot_is_never_loaded_and_another_process_draws_the_same_bytes(tmp_path):
    code = (
        "import sys, pandas as pd, vote_experiments.plots as p;"
        "f = p.plot_comparison(pd.DataFrame({'experiment': ['ก'], 'mean': [.5], 'lower': [.2], 'upper': [.8]}));"
        "[p.save_figure(f, sys.argv[1] + '.' + e, 60) for e in ('svg', 'pdf')]; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "other")], check=True)
    figure = plot_comparison(pd.DataFrame({"experiment": ["ก"], "mean": [0.5], "lower": [0.2], "upper": [0.8]}))
    for ending in ("svg", "pdf"):
        assert (tmp_path / f"other.{ending}").read_bytes() == figure_bytes(figure, ending, 60)
    assert b"<dc:date>" not in (tmp_path / "other.svg").read_bytes()


def test_threads_may_plot_at_the_same_time():
    table = compare(forms()).table
    with ThreadPoolExecutor(2) as pool:
        pictures = list(pool.map(lambda _: figure_bytes(plot_comparison(table), "svg"), range(2)))
    assert len(set(pictures)) == 1


@promise("sweeps-55")
def test_saving_by_name(tmp_path):
    path = save_figure(EVERY["metric"](), tmp_path / "a.svg")
    assert path.read_text().startswith("<?xml")
    plot_sweep_metric(sweep(), x_col="learning_rate", y_col="accuracy").savefig(tmp_path / "results.png")
    assert Image.open(tmp_path / "results.png").format == "PNG"


@pytest.mark.parametrize("names", [["one"], [THAI, LONG]])
def test_one_experiment_and_long_thai_names(names):
    found = compare(forms(names))
    table = found.table.assign(cost_usd=np.linspace(0, 1, len(names)))
    times = pd.DataFrame({"experiment": np.repeat(names, 5), "latency_s": RNG.lognormal(size=5 * len(names))})
    for figure in (
        plot_comparison(found),
        plot_paired_differences(found),
        plot_cost_accuracy(table),
        plot_latency(times),
    ):
        drawn(figure)  # a missing glyph would warn, and a warning is an error here


def test_many_long_names_get_a_figure_high_enough():
    names = [f"{LONG}-{i}" if i % 2 else f"{THAI} {i}" for i in range(12)]
    figure = plot_comparison(compare(forms(names)))
    drawn(figure)
    boxes = [t.get_window_extent() for t in figure.axes[0].get_yticklabels()]
    assert all(below.y1 <= above.y0 + 1 for above, below in zip(boxes, boxes[1:]))


# comparison


def test_the_comparison_draws_means_intervals_and_words():
    found = compare(forms())
    figure = plot_comparison(found)
    lines = figure.axes[0].lines
    for k, row in enumerate(found.table.itertuples()):
        np.testing.assert_allclose(lines[2 * k].get_xdata(), [row.lower, row.upper])
        assert lines[2 * k + 1].get_xdata()[0] == row.mean
    assert f"{100 * found.table['mean'][0]:.1f} %  best mean, no winner" in words(figure)
    assert any("not distinguishable" in w for w in words(figure)) and any(w.endswith("behind") for w in words(figure))
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == found.table["experiment"].tolist()


def test_best_is_written_only_where_it_is_supported():
    clear = compare({"a": [0.9] * 5 + [0.95] * 5, "b": [0.4] * 5 + [0.5] * 5})
    assert clear.distinguishable and any(w.endswith("  best") for w in words(plot_comparison(clear)))
    assert not any(w.endswith("  best") for w in words(plot_comparison(compare(forms()))))


def test_experiments_without_scores_and_quantities_with_a_unit():
    figure = plot_comparison(compare({"a": [1, 0, 1], "b": [None, None, None]}))
    assert "no scores" in words(figure)
    seconds = compare(
        pd.DataFrame({"lite": [1.0, 1.2, 1.4], "pro": [3.0, 2.5, 2.8]}), bounds=None, higher_is_better=False, unit="s"
    )
    assert any(" s" in w for w in words(plot_comparison(seconds)))
    assert plot_paired_differences(seconds).axes[0].get_xlabel().endswith(", s")


def test_differences_leave_out_the_best_and_name_it():
    found = compare(forms())
    figure = plot_paired_differences(found)
    assert found.best in figure.axes[0].get_title(loc="left")
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert labels == found.table["experiment"].tolist()[1:]
    assert len(plot_paired_differences(found.pairs).axes[0].get_yticklabels()) == 3
    assert "nothing to compare with" in words(plot_paired_differences(compare(forms(["one"]))))


# slices, price, time, votes


def test_slices_draw_every_experiment_in_every_slice():
    frame = pd.DataFrame(
        [(e, s, m, m - 0.1, m + 0.02, 30) for e in ("a", "b") for s, m in (("stamps", 0.7), ("fold", 0.9))],
        columns=["experiment", "difficulty", "mean", "lower", "upper", "n"],
    )
    ax = plot_scores_by(frame).axes[0]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["stamps (n = 30)", "fold (n = 30)"]
    ends = [
        segment[:, 0].tolist() for c in ax.collections if isinstance(c, LineCollection) for segment in c.get_segments()
    ]
    np.testing.assert_allclose(sorted(ends), sorted(frame[["lower", "upper"]].to_numpy().tolist()))


def test_unknown_prices_are_told_not_drawn_as_zero():
    table = compare(forms()).table.assign(cost_usd=[0.1, None, 0.2])
    figure = plot_cost_accuracy(table)
    assert f"price unknown: {table['experiment'][1]}" in figure.axes[0].get_xlabel()
    assert len(words(figure)) == 2
    assert any("no experiment has a known price" in w for w in words(plot_cost_accuracy(table.assign(cost_usd=None))))
    assert plot_cost_accuracy(table.assign(cost_usd=[0.001, 0.1, 1.0])).axes[0].get_xscale() == "log"
    drawn(plot_cost_accuracy(table.assign(cost_usd=0.0)))


def test_latency_says_its_percentiles():
    times = pd.DataFrame({"experiment": ["a"] * 100 + ["b"], "latency_s": [*np.linspace(1, 3, 100), np.nan]})
    assert words(plot_latency(times)) == ["p50 2.0 s · p95 2.9 s", "no times"]


def test_vote_errors_are_shares_of_rows_and_the_exact_ones_a_number():
    errors = pd.DataFrame(
        {"experiment": ["a"] * 4, "difference": pd.array([0, 1, -20, pd.NA], dtype="Int64"), "n": [80, 10, 6, 4]}
    )
    ax = plot_vote_error_histogram(errors).axes[0]
    assert ax.get_title(loc="left") == "a: 80.0 % exact"
    assert sorted(round(p.get_height(), 6) for p in ax.patches if p.get_height()) == [0.04, 0.06, 0.1]
    drawn(plot_vote_error_histogram(pd.DataFrame({"difference": [0], "n": [3]})))


# sweeps


@promise("sweeps-55", "sweeps-58", "sweeps-59", "sweeps-63", "guide-differences-1")
def test_sweep_metric_draws_means_and_sample_standard_deviations():
    df = sweep()
    ax = plot_sweep_metric(df=df, x_col="learning_rate", y_col="accuracy", title="Learning Rate vs Accuracy").axes[0]
    found = df.groupby("learning_rate")["accuracy"].agg(["mean", "std"])
    line = ax.lines[0]
    np.testing.assert_allclose(line.get_xdata(), found.index)
    np.testing.assert_allclose(line.get_ydata(), found["mean"])
    bars = ax.containers[0][2][0].get_segments()
    np.testing.assert_allclose([(b[1, 1] - b[0, 1]) / 2 for b in bars], found["std"])
    assert (ax.get_title(loc="left"), ax.get_xlabel(), ax.get_ylabel()) == (
        "Learning Rate vs Accuracy",
        "learning_rate",
        "accuracy",
    )


@promise("sweeps-58")
def test_no_error_bars_when_every_x_is_single_and_raw_points_on_request():
    df = sweep()
    single = plot_sweep_metric(df[(df["seed"] == 1) & (df["lora_rank"] == 4)], x="learning_rate", y="accuracy").axes[0]
    assert single.containers[0][2] == ()
    raw = plot_sweep_metric(df, x="learning_rate", y="accuracy", error_bars=False).axes[0]
    assert len(raw.lines[0].get_xdata()) == len(df) and not raw.containers


@promise("sweeps-60", "sweeps-63")
@pytest.mark.parametrize(
    "kwargs, title",
    [({}, "accuracy vs learning_rate"), ({"color": "lora_rank"}, "accuracy vs learning_rate by lora_rank")],
)
def test_default_titles_and_colours(kwargs, title):
    ax = plot_sweep_metric(sweep(), x="learning_rate", y="accuracy", **kwargs).axes[0]
    assert ax.get_title(loc="left") == title and len(ax.containers) == (2 if kwargs else 1)
    if kwargs:
        assert [t.get_text() for t in ax.get_legend().get_texts()] == ["4", "8"]


@promise("sweeps-60", "guide-differences-1")
def test_facets_make_panels_and_share_their_axes():
    figure = plot_sweep_metric(sweep(), x="learning_rate", y="accuracy", facet_col="lora_rank", facet_row="seed")
    assert len(figure.axes) == 6 and figure.axes[0].get_title(loc="left") == "seed = 1, lora_rank = 4"
    assert len({ax.get_ylim() for ax in figure.axes}) == 1
    assert figure.get_suptitle() == "accuracy vs learning_rate"


@promise("sweeps-56", "sweeps-60")
def test_several_metrics_in_one_figure():
    ax = plot_sweep_metrics(df=sweep(), x_col="learning_rate", y_cols=["accuracy", "f1_score"]).axes[0]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["accuracy", "f1_score"]
    assert ax.get_title(loc="left") == "Metrics vs learning_rate"
    both = plot_sweep_metrics(sweep(), x="learning_rate", y=["accuracy", "f1_score"], color="lora_rank").axes[0]
    assert len(both.containers) == 4


def test_words_and_bools_are_places_in_order_of_appearance():
    df = pd.DataFrame({"prompt": ["สั้น", "ยาว", "สั้น"], "score": [0.5, 0.7, 0.6], "on": [True, False, True]})
    ax = plot_sweep_metric(df, x="prompt", y="score").axes[0]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["สั้น", "ยาว"]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.55, 0.7])
    drawn(plot_sweep_metric(df, x="on", y="score"))


@promise("sweeps-57", "sweeps-61")
@pytest.mark.parametrize("aggregation", ["mean", "std", "min", "max"])
def test_the_heatmap_is_the_pivot_table(aggregation):
    df = sweep().query("not (learning_rate == 1e-5 and lora_rank == 8)")
    figure = plot_sweep_heatmap(
        df=df, x_col="learning_rate", y_col="lora_rank", value_col="accuracy", aggregation=aggregation
    )
    expected = df.pivot_table(values="accuracy", index="lora_rank", columns="learning_rate", aggfunc=aggregation)
    shown = np.ma.filled(np.ma.masked_invalid(figure.axes[0].images[0].get_array()), np.nan)
    np.testing.assert_allclose(shown, expected.to_numpy())
    assert np.isnan(shown).sum() == 1 and figure.axes[0].get_title(loc="left") == f"accuracy ({aggregation}) Heatmap"
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("learning_rate", "lora_rank")
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["1e-05", "5e-05", "0.0001"]


@promise("guide-differences-2")
def test_dotted_names_and_an_ax_of_ones_own():
    figure = Figure()
    ax = figure.subplots()
    assert plot_sweep_metric(sweep(), x="submit.hyperparameters.learning_rate", y="accuracy", ax=ax) is figure
    assert (
        ax.get_xlabel() == "learning_rate"
        and plot_sweep_heatmap(sweep(), "learning_rate", "lora_rank", "accuracy", ax=figure.add_subplot()) is figure
    )


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda df: plot_sweep_metric(df, x_col="lr", y_col="accuracy"), "learning_rate"),
        (lambda df: plot_sweep_metric(df[:0], x_col="learning_rate", y_col="accuracy"), "no rows"),
        (lambda df: plot_sweep_metric(df, x_col="learning_rate"), "y_col is needed"),
        (lambda df: plot_sweep_metric(df, x_col="seed", x="learning_rate", y="accuracy"), "same argument"),
        (lambda df: plot_sweep_metric(df.assign(accuracy="high"), x="seed", y="accuracy"), "not numeric"),
        (
            lambda df: plot_sweep_metric(df, x="seed", y="accuracy", ax=Figure().subplots(), facet_col="lora_rank"),
            "one panel",
        ),
        (lambda df: plot_sweep_metrics(df, x="seed", y=[]), "y_cols is empty"),
        (lambda df: plot_sweep_heatmap(df, x="seed", y="lora_rank", values="accuracy", aggregation="median"), "median"),
        (lambda df: plot_sweep_heatmap(df, x="seed", y="lora_rank", values="loss"), "loss"),
        (lambda df: plot_comparison(df), "experiment"),
        (lambda df: plot_latency(df), "experiment"),
        (lambda df: plot_scores_by(pd.DataFrame({"mean": [1]}), by="level"), "level"),
    ],
)
@promise("sweeps-62")
def test_what_cannot_be_drawn_is_said(call, words):
    with pytest.raises(ValueError, match=words):
        call(sweep())


def test_nan_values_are_left_out():
    df = sweep()
    df.loc[0, "accuracy"] = np.nan
    ax = plot_sweep_metric(df, x="learning_rate", y="accuracy").axes[0]
    assert not np.isnan(ax.lines[0].get_ydata()).any()
    drawn(plot_sweep_heatmap(df.assign(accuracy=np.nan), x="learning_rate", y="lora_rank", values="accuracy"))


def test_colours_can_be_told_apart_with_any_colour_vision():
    "Luminance differs or hue does, after removing the red-green axis (deuteranopia, Viénot 1999)"
    rgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in COLORS]) ** 2.2
    seen = rgb @ np.array([[0.29275, 0.70725, -0.02234], [0.29275, 0.70725, 0.02234], [-0.02234, 0.02234, 1.0]]).T
    gaps = [np.abs(a - b).max() for i, a in enumerate(seen) for b in seen[:i]]
    assert min(gaps) > 0.05


# mistakes and runs


def test_digit_confusions_draw_counts_and_refuse_to_mix_experiments():
    figure = plot_digit_confusions(DIGITS)
    assert {"5", "2", "1", "90"} <= set(words(figure)) and figure.axes[0].get_title(
        loc="left"
    ) == "Digits: 8 of 98 wrong"
    with pytest.raises(ValueError, match="2 experiments; choose one: a, b"):
        plot_digit_confusions(pd.concat([DIGITS.assign(experiment=e) for e in "ab"]))


def test_a_flipped_seat_is_drawn_left_of_the_line_and_named():
    figure = plot_seat_flips(SEATS)
    assert "1 นายก → 2 นายจ" in words(figure)
    assert [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "o"][:2] == [30, -70]
    many = pd.concat([SEATS[1:].assign(margin=m) for m in range(1, 30)], ignore_index=True)
    assert "9 larger margins not shown" in plot_seat_flips(many).axes[0].get_xlabel()


def test_a_race_says_when_a_config_was_dropped():
    figure = plot_race(HISTORY, 0.05)
    assert "poor, dropped at 30" in words(figure) and sum("dropped at" in w for w in words(figure)) == 1


def test_a_trend_says_which_steps_are_changes():
    assert [w for w in words(plot_trend(RUNS)) if w] == ["worse"]


def test_joins_add_up_to_one():
    figure = plot_joins(
        pd.DataFrame({"experiment": ["a", "a", "b"], "join": ["both", "only by name", "neither"], "n": [9, 1, 3]})
    )
    ends = {}
    for bar in figure.axes[0].patches:
        ends[round(bar.get_y(), 3)] = max(ends.get(round(bar.get_y(), 3), 0), bar.get_x() + bar.get_width())
    assert list(ends.values()) == pytest.approx([1, 1])


@pytest.mark.parametrize(
    "plot",
    [plot_digit_confusions, plot_seat_flips, plot_race, plot_trend, plot_repeats, plot_joins, plot_vote_error_by_size],
)
def test_frames_without_rows_or_columns_are_refused(plot):
    with pytest.raises(ValueError, match="not found|no rows"):
        plot(pd.DataFrame())
