import numpy as np
import pytest
from scipy import stats

from ml_assets.ml.significance import diebold_mariano, hit_rate


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
