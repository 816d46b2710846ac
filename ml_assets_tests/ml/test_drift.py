import math

import numpy as np
import pytest

from ml_assets.ml.drift import population_stability_index as psi

RANDOM = np.random.default_rng(0)
NORMAL = RANDOM.normal(size=5_000)


def test_the_index_by_hand() -> None:
    reference, current = np.array([0.0, 0, 1, 1]), np.array([0.0, 1, 1, 1])
    expected = (0.5 - 0.25) * math.log(0.5 / 0.25) + (0.5 - 0.75) * math.log(0.5 / 0.75)
    assert psi(reference, current, bins=2) == pytest.approx(expected)


def test_an_empty_bin_counts_as_nearly_empty() -> None:
    expected = 2 * (1 - 1e-4) * math.log(1 / 1e-4)
    assert psi(np.zeros(100), np.ones(50)) == pytest.approx(expected)


def test_values_of_one_kind_are_alike() -> None:
    assert psi(NORMAL, NORMAL) == 0
    assert psi(NORMAL, RANDOM.permutation(NORMAL)) == 0
    assert psi(NORMAL, RANDOM.normal(size=5_000)) < 0.02


@pytest.mark.parametrize(
    "current", [NORMAL + 1, NORMAL * 3, NORMAL / 3, np.zeros(10), NORMAL + 1e9]
)
def test_values_of_another_kind_are_not(current: np.ndarray) -> None:
    assert 0.25 < psi(NORMAL, current) < 100


def test_the_farther_the_greater() -> None:
    found = [psi(NORMAL, NORMAL + shift) for shift in (0, 0.2, 0.5, 1, 2)]
    assert found == sorted(found)


def test_neither_scale_nor_offset_counts() -> None:
    other = RANDOM.normal(0.5, size=5_000)
    assert psi(8 * NORMAL + 4, 8 * other + 4) == pytest.approx(psi(NORMAL, other))


def test_values_that_are_no_numbers_are_left_out() -> None:
    holes = np.array([np.nan, np.inf, -np.inf])
    assert psi(np.append(NORMAL, holes), np.append(NORMAL + 1, holes)) == psi(NORMAL, NORMAL + 1)


@pytest.mark.parametrize("nothing", [np.array([]), np.array([np.nan])])
def test_without_values_there_is_no_index(nothing: np.ndarray) -> None:
    assert math.isnan(psi(nothing, NORMAL))
    assert math.isnan(psi(NORMAL, nothing))


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_reference_that_never_changes_is_told_from_what_does(shift: int) -> None:
    zeros = np.zeros(100)
    assert psi(zeros, zeros) == 0
    assert psi(zeros, zeros + shift) > 0.25


def test_a_value_that_most_rows_share_hides_nothing() -> None:
    """Most minutes of a kitchen need no power at all."""
    mostly = np.where(RANDOM.random(5_000) < 0.95, 0, 1)
    never, half = np.zeros(5_000), np.where(RANDOM.random(5_000) < 0.5, 0, 1)
    assert psi(mostly, never) > 0.25
    assert psi(mostly, half) > 0.25
