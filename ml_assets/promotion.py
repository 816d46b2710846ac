"""Challenger against champion: the decision, pure.

Both models are compared on the same rows by their loss on each row. What a row and its loss
are, and how the decision is carried out in the registry, is not decided here.
"""

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
        gain: Mean loss of the champion minus mean loss of the challenger (positive is better).
        gain_low: Lower bound of the paired bootstrap interval of `gain`.
        gain_high: Upper bound of it.
    """

    promote: bool
    regressed: bool
    reason: str
    gain: float = 0.0
    gain_low: float = 0.0
    gain_high: float = 0.0


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
        Promotion for the first model, for one whose 95 % paired bootstrap interval of the gain
        lies above zero, and for one that replaces a champion without finite losses.

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


def _compare(gains: np.ndarray, seed: int) -> Decision:
    """Decide on the paired gains `(n,)` by a percentile bootstrap of their mean."""
    from scipy.stats import bootstrap

    gain = float(gains.mean())
    if np.ptp(gains) == 0:
        low = high = gain
    else:
        interval = bootstrap(
            (gains,),
            np.mean,
            n_resamples=RESAMPLES,
            batch=100,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        low, high = float(interval.low), float(interval.high)
    measured = f"gain {gain:+.5f}, {CONFIDENCE:.0%} interval [{low:+.5f}, {high:+.5f}]"
    if low > 0:
        reason = f"better than the champion beyond the noise: {measured}"
    elif high < 0:
        reason = f"worse than the champion beyond the noise: {measured}"
    else:
        reason = f"not distinguishable from the champion: {measured}"
    return Decision(low > 0, high < 0, reason, gain, low, high)
