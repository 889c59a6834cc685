"""Statistics, tables and pictures of results. A name is loaded when it is first used, so the room costs nothing to enter."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors see; a test compares it with the table below
    from .compare import Comparison, items_needed, power
    from .intervals import (
        CI, Interval, compute_bernoulli_ci, compute_ci, compute_ci_df, compute_probability_ci, mean_interval)
    from .plots import plot_comparison
    from .repeats import repeat_variance, variance_parts
    from .sweep_plots import plot_sweep_heatmap, plot_sweep_metric, plot_sweep_metrics
    from .sweeps import collate_sweep_evals
    from .trend import GateOutcome, Trend, gate, trend_of

_EXPORTS: dict[str, str] = {  # module: the names it gives to the room
    "compare": "Comparison items_needed power",
    "intervals": "CI Interval compute_bernoulli_ci compute_ci compute_ci_df compute_probability_ci mean_interval",
    "plots": "plot_comparison",
    "repeats": "repeat_variance variance_parts",
    "sweep_plots": "plot_sweep_heatmap plot_sweep_metric plot_sweep_metrics",
    "sweeps": "collate_sweep_evals",
    "trend": "GateOutcome Trend gate trend_of",
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names.split()}

__all__ = [  # spelled out, because type checkers of our users go by it
    "CI", "Comparison", "GateOutcome", "Interval", "Trend", "collate_sweep_evals", "compute_bernoulli_ci", "compute_ci",
    "compute_ci_df", "compute_probability_ci", "gate", "items_needed", "mean_interval", "plot_comparison", "plot_sweep_heatmap",
    "plot_sweep_metric", "plot_sweep_metrics", "power", "repeat_variance", "trend_of", "variance_parts",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
