"""Challenger against champion: the decision, pure.

Both models are compared on the same rows by their loss on each row. What a row and its loss
are, and how the decision is carried out in the registry, is not decided here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ml_assets.ml.significance import CONFIDENCE, confidence_sequence

RESAMPLES = 2_000


@dataclass(frozen=True)
class Policy:
    """How a challenger becomes the champion of a group.

    Attributes:
        kind: `auto`: by the test rows alone; `manual`: by a person; `shadow`: by a trial beside
            the champion, which the first champion does not need.
        days: How long a trial lasts at most; 0 unless there are trials.
    """

    kind: Literal["auto", "manual", "shadow"]
    days: int = 0

    def __str__(self) -> str:
        """As it is written in the environment."""
        return f"{self.kind}({self.days})" if self.days else self.kind


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
        version: The version; empty if the training was not good enough to be registered.
    """

    name: str
    version: str

    @property
    def role(self) -> str:
        """`champion`, `challenger`, or `refused` where there is no version."""
        if not self.version:
            return "refused"
        return "champion" if self.promote else "challenger"


@dataclass(frozen=True, kw_only=True)
class TrialDecision(Decision):
    """What the evidence of a trial says so far.

    Attributes:
        over: The trial ends.
    """

    over: bool


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


def held_back(decision: Decision, why: str) -> Decision:
    """The same decision without a promotion, and why."""
    return replace(decision, promote=False, reason=f"{why}; on the test rows: {decision.reason}")


def judge(
    challenger_losses: np.ndarray, champion_losses: np.ndarray, *, days_left: int, tuned_for: int
) -> TrialDecision:
    """Decide on the evidence of a trial, which may be looked at as often as one likes.

    Args:
        challenger_losses: `(n,)` float, of independent observations in the order in which they
            came, such as the mean losses of days; n may be 0.
        champion_losses: `(n,)` float, the champion's on the same.
        days_left: How many days the trial may go on; 0 or less ends it.
        tuned_for: After how many observations the test is to be sharpest.

    Returns:
        Promotion as soon as the confidence sequence of the mean gain lies above zero; the end of
        the trial also where it lies below zero, where one of the two has no finite loss, and where
        the days are over.
    """
    if not np.isfinite(challenger_losses).all():
        return TrialDecision(False, True, "the challenger's losses are not finite", over=True)
    if not np.isfinite(champion_losses).all():
        return TrialDecision(True, False, "the champion's losses are not finite", over=True)
    if not len(challenger_losses):
        reason = _without_evidence("there is nothing to compare on", days_left)
        return TrialDecision(False, False, reason, over=days_left <= 0)
    found = confidence_sequence(champion_losses - challenger_losses, tuned_for=tuned_for)
    gain, low, high = (float(values[-1]) for values in (found.mean, found.low, found.high))
    measured = f"gain {gain:+.5f}, {CONFIDENCE:.0%} confidence sequence [{low:+.5f}, {high:+.5f}]"
    if low > 0:
        reason = f"the evidence is enough: the challenger is better; {measured}"
    elif high < 0:
        reason = f"the evidence is enough: the challenger is worse; {measured}"
    else:
        reason = _without_evidence(measured, days_left)
    over = low > 0 or high < 0 or days_left <= 0
    return TrialDecision(low > 0, high < 0, reason, gain, low, high, over=over)


def _without_evidence(measured: str, days_left: int) -> str:
    if days_left > 0:
        return f"the evidence is not enough yet, {days_left} days are left: {measured}"
    return f"the days are over without enough evidence, and the champion stays: {measured}"


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
