"""Challenger against champion: the decision, pure.

Both models are compared on the same rows by their loss on each row. What a row and its loss
are, and how the decision is carried out in the registry, is not decided here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2_000


@dataclass(frozen=True)
class Decision:
    """Whether the challenger becomes the champion, and why.

    Attributes:
        promote: The challenger becomes the champion.
        regressed: The challenger is worse than the champion beyond the noise.
        reason: One sentence for people.
        gain: Mean loss of the champion minus mean loss of the challenger (positive is better);
            None where the two were not compared.
        gain_low: Lower bound of the paired bootstrap interval of `gain`.
        gain_high: Upper bound of it.
    """

    promote: bool
    regressed: bool
    reason: str
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Registration(Decision):
    """A registered model version and the decision about it.

    Attributes:
        name: The registered model.
        version: The version.
    """

    name: str
    version: str

    @property
    def role(self) -> str:
        """`champion` or `challenger`."""
        return "champion" if self.promote else "challenger"


ALREADY_CHAMPION = Decision(True, False, "this version is the champion already")


def decide(
    challenger_losses: np.ndarray, champion_losses: np.ndarray | None, *, seed: int = 0
) -> Decision:
    """Decide whether the challenger is better than the champion by more than the noise.

    Args:
        challenger_losses: `(n,)` float, the challenger's loss on each row; lower is better.
        champion_losses: `(n,)` float on the same rows; None when there is no champion yet.
        seed: Seed of the bootstrap.

    Returns:
        Promotion for the first model, for one whose gain is positive beyond the noise, and for
        one that replaces a champion without finite losses. Beyond the noise means that the 95 %
        paired bootstrap interval does not hold zero, and that flipping the signs of the gains at
        random gives as large a gain in at most 2.5 % of the cases: with few rows on which the two
        differ, the bootstrap alone is too sure.

    Raises:
        ValueError: The two models were not scored on the same rows, or on none.
    """
    if len(challenger_losses) == 0:
        raise ValueError("no rows to compare on: evaluate the challenger on at least one row")
    if not np.isfinite(challenger_losses).all():
        return Decision(False, True, "the challenger's losses are not finite")
    if champion_losses is None:
        return Decision(True, False, "the first model that passed its floor")
    if len(champion_losses) != len(challenger_losses):
        raise ValueError(
            f"the champion was scored on {len(champion_losses)} rows and the challenger on "
            f"{len(challenger_losses)}: score both on the same rows"
        )
    if not np.isfinite(champion_losses).all():
        return Decision(True, False, "the champion's losses are not finite")
    return _compare(champion_losses - challenger_losses, seed)


def keep_later(champion: Mapping[str, str], challenger: Mapping[str, str]) -> Decision:
    """The decision where the two cannot be compared: the one that was trained until later.

    Args:
        champion: `trained_until` of the champion, a day.
        challenger: The same of the challenger.
    """
    until = [trained["trained_until"] for trained in (champion, challenger)]
    return Decision(
        promote=until[1] > until[0],
        regressed=False,
        reason=f"the champion, trained until {until[0]}, knows the test days or reads other data, "
        f"so the two cannot be compared; the challenger was trained until {until[1]}, and the "
        "later one is kept",
    )


def _compare(gains: np.ndarray, seed: int) -> Decision:
    """Decide on the paired gains `(n,)`."""
    gain = float(gains.mean())
    low, high = _interval(gains, seed)
    measured = f"gain {gain:+.5f}, {CONFIDENCE:.0%} interval [{low:+.5f}, {high:+.5f}]"
    promote = low > 0 and _by_chance(gains, seed) <= (1 - CONFIDENCE) / 2
    regressed = high < 0 and _by_chance(-gains, seed) <= (1 - CONFIDENCE) / 2
    if promote:
        reason = f"better than the champion beyond the noise: {measured}"
    elif regressed:
        reason = f"worse than the champion beyond the noise: {measured}"
    else:
        reason = f"not distinguishable from the champion: {measured}"
    return Decision(promote, regressed, reason, gain, low, high)


def _interval(gains: np.ndarray, seed: int) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean gain."""
    from scipy.stats import bootstrap

    if np.ptp(gains) == 0:
        return float(gains[0]), float(gains[0])
    interval = bootstrap(
        (gains,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=100,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _by_chance(gains: np.ndarray, seed: int) -> float:
    """How often gains of random sign have as large a mean: exact where the rows are few."""
    from scipy.stats import permutation_test

    differing = gains[gains != 0]
    return float(
        permutation_test(
            (differing,),
            lambda sample, axis: sample.mean(axis=axis),
            permutation_type="samples",
            alternative="greater",
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=100,
            rng=np.random.default_rng(seed),
        ).pvalue
    )
