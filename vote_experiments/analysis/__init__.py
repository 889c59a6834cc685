"""Statistics, tables and pictures of results. A name is loaded when it is first used, so the room costs nothing to enter."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors see; a test compares it with the table below
    from .comparison import Comparison, items_needed, power
    from .fields import field_accuracy, slice_accuracy, vote_errors
    from .intervals import (
        CI, Interval, compute_bernoulli_ci, compute_ci, compute_ci_df, compute_probability_ci, mean_interval)
    from .mistake_plots import (
        plot_digit_confusions, plot_joins, plot_row_shifts, plot_seat_flips, plot_vote_error_by_size)
    from .mistakes import digit_confusions, join_agreement, row_shifts, vote_error_by_size
    from .plots import (
        plot_comparison, plot_cost_accuracy, plot_latency, plot_paired_differences, plot_scores_by,
        plot_vote_error_histogram, save_figure)
    from .racing import Race, difference_bounds
    from .repeats import repeat_variance, variance_parts
    from .run_plots import plot_race, plot_repeats, plot_trend
    from .stakes import seat_flips, stakes_sentence
    from .sweep_plots import plot_sweep_heatmap, plot_sweep_metric, plot_sweep_metrics
    from .sweeps import collate_sweep_evals
    from .trend import GateOutcome, Trend, gate, trend_of

_EXPORTS: dict[str, str] = {  # module: the names it gives to the room
    "comparison": "Comparison items_needed power",
    "fields": "field_accuracy slice_accuracy vote_errors",
    "intervals": "CI Interval compute_bernoulli_ci compute_ci compute_ci_df compute_probability_ci mean_interval",
    "mistake_plots": "plot_digit_confusions plot_joins plot_row_shifts plot_seat_flips plot_vote_error_by_size",
    "mistakes": "digit_confusions join_agreement row_shifts vote_error_by_size",
    "plots": "plot_comparison plot_cost_accuracy plot_latency plot_paired_differences plot_scores_by "
             "plot_vote_error_histogram save_figure",
    "racing": "Race difference_bounds",
    "repeats": "repeat_variance variance_parts",
    "run_plots": "plot_race plot_repeats plot_trend",
    "stakes": "seat_flips stakes_sentence",
    "sweep_plots": "plot_sweep_heatmap plot_sweep_metric plot_sweep_metrics",
    "sweeps": "collate_sweep_evals",
    "trend": "GateOutcome Trend gate trend_of",
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names.split()}

__all__ = [  # spelled out, because type checkers of our users go by it
    "CI", "Comparison", "GateOutcome", "Interval", "Race", "Trend", "collate_sweep_evals", "compute_bernoulli_ci",
    "compute_ci", "compute_ci_df", "compute_probability_ci", "difference_bounds", "digit_confusions",
    "field_accuracy", "gate", "items_needed", "join_agreement", "mean_interval", "plot_comparison",
    "plot_cost_accuracy", "plot_digit_confusions", "plot_joins", "plot_latency", "plot_paired_differences",
    "plot_race", "plot_repeats", "plot_row_shifts", "plot_scores_by", "plot_seat_flips", "plot_sweep_heatmap",
    "plot_sweep_metric", "plot_sweep_metrics", "plot_trend", "plot_vote_error_by_size", "plot_vote_error_histogram",
    "power", "repeat_variance", "row_shifts", "save_figure", "seat_flips", "slice_accuracy", "stakes_sentence",
    "trend_of", "variance_parts", "vote_error_by_size", "vote_errors",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
