import dataclasses

import numpy as np
import pytest

from ml_assets.ml.errors import DataError
from ml_assets.ml.scaling import StandardScaler
from ml_assets.ml.series import random_walk
from ml_assets.ml.windows import ahead, ending, split, starts, views, walk_forward, whole, windowed

SESSIONS = np.repeat([0, 1, 2], [50, 7, 43])


def known_rows(windows: np.ndarray, span: int) -> set[int]:
    """All rows that some window knows, its target's row among them."""
    return {int(row) for start in windows for row in range(start, start + span)}


def test_windows_are_views_and_hold_the_rows_in_order() -> None:
    rows = np.arange(60, dtype=np.float32).reshape(20, 3)
    found = views(rows, 4)
    assert found.shape == (17, 4, 3)
    assert np.shares_memory(found, rows)
    assert not found.flags.writeable
    for start, window in enumerate(found):
        np.testing.assert_array_equal(window, rows[start : start + 4])


@pytest.mark.parametrize("span", [2, 7, 8, 20])
def test_no_window_crosses_a_boundary_and_none_is_missing(span: int) -> None:
    expected = [
        start
        for start in range(len(SESSIONS) - span + 1)
        if len(set(SESSIONS[start : start + span])) == 1
    ]
    assert starts(SESSIONS, span).tolist() == expected


def test_a_window_longer_than_the_rows_does_not_exist() -> None:
    assert starts(np.zeros(3, int), 4).tolist() == []


def test_the_target_is_the_later_value_of_the_same_session() -> None:
    values = np.arange(100.0)
    for horizon in (1, 3):
        found = ahead(values, SESSIONS, horizon)
        for row in range(100):
            inside = row + horizon < 100 and SESSIONS[row] == SESSIONS[row + horizon]
            assert found[row] == row + horizon if inside else np.isnan(found[row])


@pytest.mark.parametrize("span", [2, 5, 11])
@pytest.mark.parametrize("windows", [np.arange(200), np.flatnonzero(np.arange(400) % 7 > 2)])
def test_no_row_is_known_to_windows_of_two_parts(span: int, windows: np.ndarray) -> None:
    parts = split(windows, span=span, validation=40, test=50)
    train, validation, test = (
        known_rows(part, span) for part in (parts.train, parts.validation, parts.test)
    )
    assert max(train) < min(validation)
    assert max(validation) < min(test)
    assert set(parts.test) == set(windows[-50:])


def test_the_gap_is_no_wider_than_it_must_be() -> None:
    parts = split(np.arange(200), span=11, validation=40, test=40)
    assert max(known_rows(parts.train, 11)) + 1 == parts.validation[0]
    assert max(known_rows(parts.validation, 11)) + 1 == parts.test[0]


def test_too_few_windows_are_refused_with_a_remedy() -> None:
    with pytest.raises(DataError, match=r"windows of 11 rows .* remedy: supply more days"):
        split(np.arange(20), span=11, validation=4, test=4)
    with pytest.raises(DataError):
        split(np.arange(0), span=2, validation=1, test=1)


def test_every_origin_is_scored_on_later_rows_than_it_knew() -> None:
    windows, span = np.arange(100), 9
    folds = list(walk_forward(windows, span=span, folds=4, size=15))
    assert np.concatenate([scored for _, scored in folds]).tolist() == list(range(40, 100))
    for train, scored in folds:
        assert max(known_rows(train, span)) + 1 == scored[0]
        assert train[0] == 0


def test_too_few_windows_for_the_folds_are_refused() -> None:
    with pytest.raises(DataError, match="at least 69 windows for 4 blocks of 15"):
        list(walk_forward(np.arange(68), span=9, folds=4, size=15))


def test_the_windows_of_a_series_know_all_and_share_its_rows() -> None:
    series = random_walk(3_000, seed=0)
    found = windowed(series, steps=10, validation_fraction=0.1, test_fraction=0.2)
    assert found.features is series.features
    assert found.matrix.dtype == np.float32
    for start in np.concatenate([found.train, found.validation, found.test]):
        assert np.isfinite(series.features[start : start + 10]).all()
        assert np.isfinite(series.log_return[[start + 9, start + 10]]).all()
        assert len(set(series.sessions[start : start + 11])) == 1
    np.testing.assert_array_equal(views(found.matrix, 10)[5], found.matrix[5:15])
    assert found.specification["windows"]["test"] == len(found.test)


def test_a_window_whose_last_value_or_target_is_unknown_is_left_out() -> None:
    series = random_walk(1_000, seed=0)
    holes = dataclasses.replace(series, log_return=series.log_return.copy())
    holes.log_return[500] = np.nan
    missing = set(whole(series, 10)) - set(whole(holes, 10))
    assert missing == {500 - 9, 500 - 10}


def test_the_scaler_is_that_of_the_rows_of_the_training_windows() -> None:
    series = random_walk(3_000, seed=0)
    found = windowed(series, steps=10, validation_fraction=0.1, test_fraction=0.2)
    seen = sorted({row for start in found.train for row in range(start, start + 10)})
    assert found.scaler == StandardScaler.fit(series.features[seen])


def test_the_digest_tells_rows_steps_and_parts() -> None:
    digests = {
        windowed(random_walk(1_950, seed=seed), steps=steps, validation_fraction=0.1,
                 test_fraction=test).data_digest
        for seed in (0, 1) for steps in (5, 6) for test in (0.2, 0.4)
    }  # fmt: skip
    assert len(digests) == 8


def test_parts_are_whole_days_of_the_target() -> None:
    series = random_walk(390 * 10, seed=0)
    found = windowed(series, steps=10, validation_fraction=0.1, test_fraction=0.2)
    days = {
        name: sorted(set(series.days[getattr(found, name) + 10].astype(int).tolist()))
        for name in ("train", "validation", "test")
    }
    assert days == {"train": [0, 1, 2, 3, 4, 5, 6], "validation": [7], "test": [8, 9]}
    least = windowed(series, steps=10, validation_fraction=0.01, test_fraction=0.01)
    assert set(series.days[least.test + 10].astype(int)) == {9}


def test_the_windows_that_end_on_a_day_need_no_target() -> None:
    series = random_walk(390 * 3, seed=0)
    found = ending(series, 10, np.datetime64(2, "D"))
    assert found.tolist() == list(range(780, 1161))
    assert ending(series, 10, np.datetime64(9, "D")).tolist() == []
