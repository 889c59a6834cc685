"""Rates from simulations, compared with the rate that was promised."""

from scipy.stats import binomtest


def assert_not_exceeded(events: int, replications: int, promised: float) -> None:
    "The rate is not significantly above the promised one (one-sided p > .01)"
    p = binomtest(int(events), int(replications), promised, alternative="greater").pvalue
    assert p > 0.01, (
        f"{events} of {replications} ({events / replications:.2%}) exceed the promised {promised:.2%} (one-sided p = {p:.2g})"
    )


def report(what: str, rates: dict[str, float], replications: int) -> None:
    "Print what a slow simulation measured: `pytest -m slow -s`"
    print(
        f"\n{what}: "
        + ", ".join(f"{name} {100 * rate:.1f} %" for name, rate in rates.items())
        + f" ({replications:,} replications)"
    )
