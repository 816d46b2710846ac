"""What part of a model's success may be luck: intervals and tests.

The paired bootstrap by which models are promoted is not here, but in `ml_assets.promotion`.
"""

from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class HitRate:
    """How often a forecast had the right sign.

    Attributes:
        rate: Share of the rows; NaN if there are none.
        low: Lower bound of its 95 % interval.
        high: Upper bound of it.
        rows: Rows that have a sign, in truth and in the forecast.
    """

    rate: float
    low: float
    high: float
    rows: int


@dataclass(frozen=True)
class DieboldMariano:
    """Whether a forecast and a rival differ in expected loss.

    Attributes:
        statistic: Above 0 if the forecast has the smaller loss.
        p_value: Of the two-sided test.
    """

    statistic: float
    p_value: float


@dataclass(frozen=True)
class ConfidenceSequence:
    """The mean of the first 1, 2, … n values, each with an interval; all hold at once.

    Attributes:
        mean: `(n,)` float64.
        low: `(n,)` float64, -inf while nothing can be said.
        high: `(n,)` float64, inf while nothing can be said.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def hit_rate(target: np.ndarray, forecast: np.ndarray) -> HitRate:
    """The hit rate with its score interval.

    Rows where either is zero have no direction and do not count.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 22 (1927).

    Args:
        target: `(n,)` float, what came true.
        forecast: `(n,)` float.

    >>> found = hit_rate(np.array([1.0, -1.0, 2.0, 0.0]), np.array([0.1, -0.3, -0.1, 0.2]))
    >>> round(found.rate, 3), round(found.low, 3), round(found.high, 3), found.rows
    (0.667, 0.208, 0.939, 3)
    """
    from scipy.stats import binomtest

    product = np.sign(target) * np.sign(forecast)
    rows = int((np.abs(product) == 1).sum())
    if not rows:
        return HitRate(float("nan"), 0.0, 1.0, 0)
    test = binomtest(int((product == 1).sum()), rows)
    interval = test.proportion_ci(CONFIDENCE, method="wilson")
    return HitRate(float(test.statistic), float(interval.low), float(interval.high), rows)


def diebold_mariano(
    losses: np.ndarray, rival_losses: np.ndarray, *, horizon: int = 1, lags: int | None = None
) -> DieboldMariano:
    """Test whether two forecasts of the same rows have the same expected loss.

    Sources: F. X. Diebold and R. S. Mariano, "Comparing predictive accuracy", JBES 13 (1995);
    the small-sample correction and Student's t with n - 1 degrees of freedom from D. Harvey,
    S. Leybourne and P. Newbold, "Testing the equality of prediction mean squared errors",
    IJF 13 (1997); Bartlett's weights, with which the variance is never negative, and the rule for
    the lags from W. K. Newey and K. D. West, Econometrica 55 (1987) and RES 61 (1994).

    Args:
        losses: `(n,)` float, the forecast's loss on each row, in the order of time.
        rival_losses: `(n,)` float, the rival's.
        horizon: Rows from a forecast to its target.
        lags: Autocovariances in the variance; by default `horizon - 1` or 4 (n / 100)^(2/9),
            whichever is more: markets have quiet and wild hours, so losses are not independent.

    Returns:
        Statistic 0 and p-value 1 if the two losses are the same on every row.

    >>> found = diebold_mariano(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 5.0]), lags=0)
    >>> round(found.statistic, 4), round(found.p_value, 4)
    (1.7321, 0.2254)
    """
    from scipy.stats import t

    gains = np.asarray(rival_losses, float) - np.asarray(losses, float)
    count = len(gains)
    if not gains.any():
        return DieboldMariano(0.0, 1.0)
    if lags is None:
        lags = max(horizon - 1, int(4 * (count / 100) ** (2 / 9)))
    centred = gains - gains.mean()
    variance = centred @ centred / count
    for lag in range(1, min(lags, count - 1) + 1):
        variance += 2 * (1 - lag / (lags + 1)) * (centred[lag:] @ centred[:-lag]) / count
    correction = (count + 1 - 2 * horizon + horizon * (horizon - 1) / count) / count
    with np.errstate(divide="ignore"):  # a constant gain has no variance, and is no chance
        statistic = float(gains.mean() * np.sqrt(correction / (variance / count)))
    return DieboldMariano(statistic, float(2 * t.sf(abs(statistic), count - 1)))


def confidence_sequence(values: np.ndarray, *, tuned_for: int) -> ConfidenceSequence:
    """The running mean with intervals that may be looked at after every value.

    With 95 % confidence the true mean is within all intervals at once, so that whoever stops as
    soon as one of them excludes zero errs in at most 5 % of the cases. That is exact for
    independent normal values of unknown variance, also when they are few, and holds for many
    independent values of any distribution with a variance.

    Sources: T. L. Lai, "On confidence sequences", Annals of Statistics 4 (1976); the normal mixture
    of t-statistics from H. Wang and A. Ramdas, "Anytime-valid t-tests and confidence sequences for
    Gaussian means with unknown variance", arXiv:2310.03722; the choice of its width from
    I. Waudby-Smith et al., "Time-uniform central limit theory and asymptotic confidence
    sequences", Annals of Statistics 52 (2024).

    Args:
        values: `(n,)` float, in the order in which they came; n may be 0.
        tuned_for: After how many values the interval is to be narrowest; chosen before the values
            are looked at.

    >>> found = confidence_sequence(np.array([1.0, 2.0] * 6), tuned_for=12)
    >>> found.mean[-1].item(), round(found.low[-1].item(), 3), found.low[0].item()
    (1.5, 0.942, -inf)
    """
    alpha = 1 - CONFIDENCE
    count = np.arange(1, len(values) + 1)
    log_level = -2 * np.log(alpha)
    width = 1 + count * (log_level + np.log(log_level) + 1) / tuned_for
    # From the first of them on, so that values which are all alike have no variance at all.
    values = np.asarray(values, float)
    first = values[:1].sum()
    centred = values - first
    total = np.cumsum(centred)
    squares = np.maximum(np.cumsum(centred**2) - total**2 / count, 0.0)
    level = (np.sqrt(width) / alpha) ** (2 / count)
    half = np.full(len(count), np.inf)
    told = level < width
    bound = (level - 1) * width / np.where(told, width - level, 1.0)
    half[told] = np.sqrt(bound * squares / count)[told]
    mean = first + total / count
    return ConfidenceSequence(mean, mean - half, mean + half)
