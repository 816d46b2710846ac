import numpy as np
import pytest

from ml_assets.ml.scaling import StandardScaler

ROWS = np.random.default_rng(0).normal([5, -1e-5, 1e6], [2, 1e-8, 10], (500, 3))


def test_scaled_rows_have_mean_zero_and_deviation_one() -> None:
    scaled = StandardScaler.fit(ROWS).transform(ROWS)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0), 1, rtol=1e-5)


def test_it_is_scikit_learn_s_where_every_value_is_known() -> None:
    from sklearn.preprocessing import StandardScaler as Oracle

    oracle, found = Oracle().fit(ROWS), StandardScaler.fit(ROWS)
    np.testing.assert_allclose(found.mean, oracle.mean_)
    np.testing.assert_allclose(found.scale, oracle.scale_)


def test_what_is_not_finite_neither_counts_nor_passes() -> None:
    holes = ROWS.copy()
    holes[::3, 0], holes[1::3, 0] = np.nan, np.inf
    found = StandardScaler.fit(holes)
    assert found.mean[0] == pytest.approx(ROWS[2::3, 0].mean())
    assert found.scale[0] == pytest.approx(ROWS[2::3, 0].std())
    scaled = found.transform(holes)
    assert (scaled[::3, 0] == 0).all()
    assert (scaled[1::3, 0] == 0).all()


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 / 3, np.nan])
def test_a_constant_column_does_no_harm(value: float) -> None:
    rows = np.full((1_000, 1), value, np.float32)
    found = StandardScaler.fit(rows)
    assert found.scale == [1.0]
    np.testing.assert_allclose(found.transform(rows), 0, atol=1e-6 * max(1, np.nan_to_num(value)))


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64])
def test_rows_are_scaled_in_their_own_precision(kind: type) -> None:
    rows = np.array([[3], [4], [16_777_217]], kind)
    scaled = StandardScaler([2.5], [0.5]).transform(rows)
    expected = (rows.astype(np.float64) - 2.5) / 0.5
    np.testing.assert_allclose(scaled, expected, rtol=1e-6)


def test_the_inverse_gives_the_rows_back() -> None:
    scaler = StandardScaler.fit(ROWS)
    scaled = (ROWS - np.array(scaler.mean)) / np.array(scaler.scale)
    np.testing.assert_allclose(scaler.inverse(scaled), ROWS, rtol=1e-12)
    np.testing.assert_allclose(
        scaler.inverse(scaler.transform(ROWS)), ROWS, atol=1e-5 * np.abs(scaler.scale).max()
    )


def test_the_text_holds_every_digit() -> None:
    scaler = StandardScaler.fit(ROWS)
    assert StandardScaler.from_json(scaler.to_json()) == scaler
