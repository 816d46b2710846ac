from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from ml_assets.ml.significance import confidence_sequence, diebold_mariano, hit_rate


def test_wilson_s_interval_by_hand() -> None:
    target = np.array([1.0] * 60 + [-1.0] * 40)
    found = hit_rate(target, np.ones(100))
    z, share = 1.959964, 0.6
    centre = (share + z**2 / 200) / (1 + z**2 / 100)
    width = z / (1 + z**2 / 100) * (share * 0.4 / 100 + z**2 / 40_000) ** 0.5
    assert (found.rate, found.rows) == (0.6, 100)
    assert found.low == pytest.approx(centre - width, abs=1e-6)
    assert found.high == pytest.approx(centre + width, abs=1e-6)


def test_rows_without_a_direction_do_not_count() -> None:
    found = hit_rate(np.array([1.0, 0.0, -1.0, np.nan]), np.array([2.0, 1.0, 0.0, 1.0]))
    assert (found.rate, found.rows) == (1.0, 1)
    nothing = hit_rate(np.zeros(3), np.ones(3))
    assert np.isnan(nothing.rate)
    assert (nothing.low, nothing.high, nothing.rows) == (0, 1, 0)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        found = hit_rate(np.where(random.random(80) < 0.53, 1.0, -1.0), np.ones(80))
        covered += found.low <= 0.53 <= found.high
    assert 0.92 < covered / 400 < 0.98


def test_without_lags_the_test_is_the_paired_t_test() -> None:
    random = np.random.default_rng(1)
    own, rival = random.random((2, 30))
    expected = stats.ttest_rel(rival, own)
    found = diebold_mariano(own, rival, lags=0)
    assert found.statistic == pytest.approx(expected.statistic)
    assert found.p_value == pytest.approx(expected.pvalue)


@pytest.mark.parametrize(("horizon", "lags"), [(1, 4), (3, 2), (5, 7)])
def test_variance_and_correction_by_the_book(horizon: int, lags: int) -> None:
    gains = np.cumsum(np.random.default_rng(2).standard_normal(40)) / 5 + 0.3
    count, mean = len(gains), gains.mean()

    def autocovariance(lag: int) -> float:
        products = [(gains[i] - mean) * (gains[i - lag] - mean) for i in range(lag, count)]
        return sum(products) / count

    variance = autocovariance(0)
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * autocovariance(lag)
    plain = mean / (variance / count) ** 0.5
    factor = ((count + 1 - 2 * horizon + horizon * (horizon - 1) / count) / count) ** 0.5
    found = diebold_mariano(np.zeros(count), gains, horizon=horizon, lags=lags)
    assert found.statistic == pytest.approx(plain * factor)
    assert found.p_value == pytest.approx(2 * stats.t(count - 1).sf(abs(plain * factor)))


def test_the_better_forecast_has_the_positive_statistic() -> None:
    random = np.random.default_rng(3)
    good, bad = random.random(200), random.random(200) + 0.5
    better, worse = diebold_mariano(good, bad), diebold_mariano(bad, good)
    assert better.statistic == -worse.statistic > 0
    assert better.p_value == worse.p_value < 1e-6


def test_equal_losses_differ_by_nothing_and_a_constant_gain_is_no_chance() -> None:
    same = diebold_mariano(np.ones(10), np.ones(10))
    assert (same.statistic, same.p_value) == (0, 1)
    always = diebold_mariano(np.zeros(10), np.ones(10))
    assert always.statistic == np.inf
    assert always.p_value == 0


def rejections(lags: int | None) -> float:
    """How often equal forecasts, whose losses depend on those before, are told apart."""
    from scipy.signal import lfilter

    random = np.random.default_rng(4)
    noise = random.standard_normal((600, 400))
    gains = lfilter([1.0], [1.0, -0.4], noise, axis=1)
    tests = [diebold_mariano(np.zeros(400), row, lags=lags).p_value for row in gains]
    return float(np.mean(np.array(tests) < 0.05))


def test_equal_forecasts_are_seldom_told_apart_although_losses_depend_on_each_other() -> None:
    assert rejections(None) < 0.10
    assert rejections(0) > 0.15


# The confidence sequence.


def found_after_any_day(draw: Callable[[int], np.ndarray], days: int, trials: int = 800) -> float:
    """How often the mean is told from zero by somebody who looks after every day."""
    found = 0
    for _ in range(trials):
        sequence = confidence_sequence(draw(days), tuned_for=days)
        found += bool(((sequence.low > 0) | (sequence.high < 0)).any())
    return found / trials


@pytest.mark.parametrize("days", [7, 14, 60])
@pytest.mark.parametrize("kind", ["standard_normal", "laplace", "uniform"])
def test_looking_every_day_finds_nothing_where_there_is_nothing(kind: str, days: int) -> None:
    random = np.random.default_rng(0)
    draw = {
        "standard_normal": random.standard_normal,
        "laplace": lambda count: random.laplace(size=count),
        "uniform": lambda count: random.uniform(-1, 1, count),
    }[kind]
    assert found_after_any_day(draw, days) < 0.05


def preferred(draw: Callable[[], np.ndarray], trials: int = 1000) -> float:
    """How often a challenger with these gains, whose mean is zero, is preferred in 30 days."""
    sequences = (confidence_sequence(draw(), tuned_for=30) for _ in range(trials))
    return float(np.mean([(sequence.low > 0).any() for sequence in sequences]))


def test_losses_that_are_rare_and_large_are_not_known_before_they_come() -> None:
    """`docs/decisions.md` says so, with these figures."""
    random = np.random.default_rng(0)
    skewed = preferred(lambda: np.exp(0.5) - random.lognormal(0, 1, 30))
    rare = preferred(lambda: 0.05 + 0.02 * random.standard_normal(30) - (random.random(30) < 0.05))
    assert 0.13 < skewed < 0.19
    assert 0.63 < rare < 0.70


def test_a_plain_interval_looked_at_every_day_is_wrong_far_more_often() -> None:
    """Otherwise the test above would show nothing."""
    random = np.random.default_rng(0)
    values = random.standard_normal((800, 60))
    looks = [stats.ttest_1samp(values[:, :day], 0, axis=1).pvalue < 0.05 for day in range(5, 61)]
    assert np.any(looks, axis=0).mean() > 0.2


@pytest.mark.parametrize(("gain", "days", "least"), [(1.0, 30, 0.95), (0.5, 60, 0.75)])
def test_a_true_gain_is_found(gain: float, days: int, least: float) -> None:
    random = np.random.default_rng(1)
    assert found_after_any_day(lambda n: random.standard_normal(n) + gain, days, 300) > least


def test_a_confidence_sequence_by_the_book() -> None:
    """At the bounds the mixture of t-statistics of Wang and Ramdas is 1 / alpha."""
    values = np.random.default_rng(2).standard_normal(20) * 3 + 1
    sequence = confidence_sequence(values, tuned_for=20)
    log_level = -2 * np.log(0.05)
    c2 = 20 / (log_level + np.log(log_level) + 1)
    for n in (12, 20):
        for bound in (sequence.low[n - 1], sequence.high[n - 1]):
            shifted = values[:n] - bound
            total, squares = shifted.sum(), (shifted**2).sum()
            ratio = (n + c2) * squares / ((n + c2) * squares - total**2)
            assert np.sqrt(c2 / (n + c2)) * ratio ** (n / 2) == pytest.approx(20)
    assert sequence.mean == pytest.approx(np.cumsum(values) / np.arange(1, 21))


def test_a_confidence_sequence_knows_nothing_at_first_and_no_unit() -> None:
    values = np.random.default_rng(3).standard_normal(14)
    sequence = confidence_sequence(values, tuned_for=14)
    assert np.isinf(sequence.low[:4]).all()
    assert np.isinf(sequence.high[:4]).all()
    assert np.isfinite(sequence.high[-1])
    scaled = confidence_sequence(values * 1000, tuned_for=14)
    assert scaled.low == pytest.approx(sequence.low * 1000)
    assert len(confidence_sequence(np.empty(0), tuned_for=14).mean) == 0


def test_values_that_are_all_alike_have_no_width() -> None:
    none = confidence_sequence(np.zeros(1000), tuned_for=14)
    assert none.low[-1] == none.high[-1] == 0
    always = confidence_sequence(np.full(30, 0.1), tuned_for=14)
    assert always.low[-1] == pytest.approx(0.1)
    assert always.high[-1] == pytest.approx(0.1)
