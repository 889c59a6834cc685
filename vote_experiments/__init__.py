"""Find out which model reads Thai polling-station reports best, at what cost, and how sure that is

What most users need is here: `from vote_experiments import run_model_experiments, get_dataset`. The rest has a namespace:
`evaluators`, `judges`, `analysis`, `plots`, `traces`, `truth`, `widgets`, `compat`. A name is loaded when it is first used, so that
importing the package costs next to nothing; `__init__.pyi` lists the names.
"""

import sys
from typing import Any

import lazy_loader

__version__ = "0.1.0"

_load, _names, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return _load(name)
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vote_experiments.moved import moved

    return moved(name, __all__)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _card(name: str) -> Any:
    def html(value: Any) -> str:
        from vote_experiments.reports import cards

        return getattr(cards, name)(value)

    return html


def _register_displays(html: Any) -> None:  # an IPython formatter of HTML
    "Items and datasets display as cards, although the records themselves do not depend on reports"
    html.for_type_by_name("vote_experiments.records", "DatasetItem", _card("item_card"))
    html.for_type_by_name("vote_experiments.datasets.dataset", "Dataset", _card("dataset_card"))
    html.for_type_by_name("vote_experiments.records", "Listing", _card("listing_card"))


def _notebook() -> Any:  # the running IPython shell, or None
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None


if (_shell := _notebook()) is not None and _shell.display_formatter is not None:
    _register_displays(_shell.display_formatter.formatters["text/html"])
    from vote_experiments.html.notebook_errors import use_short_errors

    use_short_errors(_shell)
