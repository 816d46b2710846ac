import numpy as np
import pytest

from ml_assets.ml.series import autoregressive, random_walk, with_shuffled_targets


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    known = np.isfinite(first) & np.isfinite(second)
    return float(np.corrcoef(first[known], second[known])[0, 1])


def test_a_random_walk_s_returns_do_not_depend_on_its_features() -> None:
    series = random_walk(20_000, seed=0)
    for column in series.features.T:
        assert abs(correlation(column[:-1], series.log_return[1:])) < 0.03


def test_the_planted_signal_is_as_strong_as_it_says() -> None:
    returns = autoregressive(50_000, share=0.25, seed=0).log_return
    assert correlation(returns[:-1], returns[1:]) == pytest.approx(-0.5, abs=0.02)


def test_features_know_nothing_of_later_bars() -> None:
    series = random_walk(3_000, seed=1)
    returns = series.log_return.copy()
    first = np.isnan(returns)
    returns[first] = series.features[first, 0]
    for row in (25, 1_000, 2_999):
        assert series.features[row, 2] == pytest.approx(returns[row - 4 : row + 1].mean(), rel=1e-5)


def test_price_and_returns_say_the_same() -> None:
    for series in (random_walk(3_000, seed=2), autoregressive(3_000, share=0.5, seed=2)):
        steps = np.diff(np.log(series.price))
        known = np.isfinite(series.log_return[1:])
        np.testing.assert_allclose(series.log_return[1:][known], steps[known], atol=1e-12)
        assert (~known).sum() == 7


def test_shuffling_cuts_the_link_and_keeps_the_values() -> None:
    series = autoregressive(20_000, share=0.5, seed=3)
    found = with_shuffled_targets(series, seed=0)
    np.testing.assert_array_equal(found.features, series.features)
    np.testing.assert_array_equal(np.sort(found.log_return), np.sort(series.log_return))
    np.testing.assert_array_equal(np.isnan(found.log_return), np.isnan(series.log_return))
    assert abs(correlation(found.features[:-1, 0], found.log_return[1:])) < 0.03
    assert found.data_digest != series.data_digest
