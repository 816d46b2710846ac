import io

import numpy as np
import pytest
from PIL import Image

from ml_assets.ml import plots

NAMES = ["cat", "dog"]
IMAGES = np.full((3, 8, 8, 1), 7, np.uint8)
LABELS = np.array([0, 1, 1])
ALL_RIGHT = np.array([[0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])
HOURS = np.datetime64("2008-03-29T12") + np.arange(72)
ACTUAL = 2 + np.sin(np.arange(72) / 4)
PREDICTIONS = np.column_stack([ACTUAL - 0.5, ACTUAL + 0.2, ACTUAL + 0.9])
DAYS = np.datetime64("2026-01-01") + np.arange(14)
GAINS = np.linspace(0.02, 0.01, 14)
HALVES = np.concatenate([np.full(5, np.inf), np.geomspace(1, 0.005, 9)])
ERRORS = np.random.default_rng(0).normal(size=240)


@pytest.mark.parametrize(
    "png",
    [
        plots.contact_sheet(IMAGES, ["a", "b", "c"]),
        plots.contact_sheet(np.zeros((12, 8, 8, 3), np.uint8), ["x"] * 12),
        plots.contact_sheet(IMAGES[:0], []),
        plots.learning_curves({"loss": [2, 1], "val_loss": [3, 2], "accuracy": [0.1, 0.2]}),
        plots.learning_curves({"loss": [1.0]}),
        plots.confusion_matrix(LABELS, LABELS, NAMES),
        plots.worst_mistakes(IMAGES, LABELS, ALL_RIGHT[::-1], NAMES),
        plots.worst_mistakes(IMAGES, LABELS, ALL_RIGHT, NAMES),
        plots.forecast(HOURS, ACTUAL, HOURS, PREDICTIONS, "kW"),
        plots.forecast(HOURS[:0], ACTUAL[:0], HOURS, PREDICTIONS, "kW"),
        plots.forecast(HOURS, ACTUAL * np.nan, HOURS[-24:], PREDICTIONS[-24:], "kW"),
        plots.residuals(np.arange(240) % 24, ERRORS, "hour of the day", "kW"),
        plots.residuals(np.zeros(1, int), np.ones(1), "hour of the day", "kW"),
        plots.importance([f"a_rather_long_name_{n}" for n in range(150)], np.arange(150.0)),
        plots.importance(["only"], np.zeros(1)),
        plots.search_history(np.array([0.5, np.nan, 0.4, 0.45]), "kW"),
        plots.search_history(np.array([0.5]), "kW"),
        plots.search_history(np.array([np.nan, 0.4]), "kW"),
        plots.running_gain(DAYS, GAINS, HALVES, "kW"),
        plots.running_gain(DAYS[:1], GAINS[:1], HALVES[:1], "accuracy"),
        plots.running_gain(DAYS[:1], np.zeros(1), np.zeros(1), "accuracy"),
        plots.running_gain(DAYS[:0], GAINS[:0], HALVES[:0], "bp²"),
    ],
)
def test_every_picture_is_a_png_that_fits_into_the_event_log(png: bytes) -> None:
    picture = Image.open(io.BytesIO(png))
    assert picture.format == "PNG"
    assert picture.width > 100
    assert len(png) < 200_000


def dark_share(png: bytes) -> float:
    """Share of the pixels that are nearly black."""
    return float((np.asarray(Image.open(io.BytesIO(png)).convert("L")) < 30).mean())


def test_a_contact_sheet_shows_its_images() -> None:
    none, three = (plots.contact_sheet(IMAGES[:n], [""] * n, columns=3) for n in (0, 3))
    assert dark_share(none) == 0
    assert dark_share(three) > 0.5


def test_mistakes_are_shown_surest_first_and_right_answers_never() -> None:
    assert dark_share(plots.worst_mistakes(IMAGES, LABELS, ALL_RIGHT, NAMES)) == 0
    one_wrong = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9]])
    assert dark_share(plots.worst_mistakes(IMAGES, LABELS, one_wrong, NAMES)) > 0.03


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def blue_share(png: bytes) -> float:
    """Share of the pixels that are bluish: what is drawn of a model, or first of all."""
    red, _, blue = np.moveaxis(pixels(png), -1, 0)
    return float((blue - red > 20).mean())


def test_a_forecast_shows_what_came_true_the_forecast_and_the_interval() -> None:
    none = plots.forecast(HOURS, ACTUAL * np.nan, HOURS, PREDICTIONS * np.nan, "kW")
    actual = plots.forecast(HOURS, ACTUAL, HOURS, PREDICTIONS * np.nan, "kW")
    both = plots.forecast(HOURS, ACTUAL, HOURS, PREDICTIONS, "kW")
    wide = plots.forecast(HOURS, ACTUAL, HOURS, PREDICTIONS * [-1, 1, 2], "kW")
    assert dark_share(actual) > dark_share(none) + 0.001
    assert blue_share(actual) < blue_share(both) - 0.05
    assert blue_share(both) < blue_share(wide)


def test_residuals_show_their_distribution_in_all_and_by_group() -> None:
    png = plots.residuals(np.arange(240) % 24, ERRORS, "hour of the day", "kW")
    left, right = np.array_split(pixels(png), 2, axis=1)
    assert ((left[..., 2] - left[..., 0]) > 20).mean() > 0.05
    assert (right.sum(axis=-1) < 90).mean() > 0.01
    one = plots.residuals(np.zeros(240, int), ERRORS, "hour of the day", "kW")
    assert dark_share(one) < dark_share(png)


def test_importance_shows_the_most_important_features() -> None:
    names = [f"feature_{number}" for number in range(30)]
    few, many = (plots.importance(names, np.arange(30.0), most=most) for most in (2, 20))
    assert blue_share(few) > 0.05
    assert len(pixels(few)) < len(pixels(many))
    assert blue_share(plots.importance(names, np.zeros(30))) == 0


def test_a_search_shows_its_trials_the_best_and_what_was_pruned() -> None:
    losses = np.array([0.5, 0.4, 0.45, 0.3, 0.35])
    png = plots.search_history(losses, "kW")
    assert blue_share(png) > 0.0005
    pruned = plots.search_history(np.where(losses == 0.45, np.nan, losses), "kW")
    assert (pixels(pruned) != pixels(png)).any(axis=-1).sum() > 100


def test_price_and_volume_show_ranges_and_trade() -> None:
    close = 100 + np.sin(np.arange(48) / 4)
    png = plots.price_and_volume(HOURS[:48], close - 0.2, close + 0.2, close, np.arange(48.0))
    upper, lower = np.array_split(pixels(png), [250])
    for half in (upper, lower):
        assert ((half[..., 2].astype(int) - half[..., 0]) > 20).mean() > 0.001
    assert dark_share(png) > 0.001


def test_a_day_without_trade_has_an_empty_picture() -> None:
    nothing = np.empty(0)
    times = np.empty(0, "datetime64[us]")
    assert len(pixels(plots.price_and_volume(times, *[nothing] * 4))) > 0
    assert len(pixels(plots.forecast(times, nothing, times, np.empty((0, 3)), "bp"))) > 0


def test_a_forecast_without_an_interval_shows_none() -> None:
    point = np.repeat(PREDICTIONS[:, 1:2], 3, axis=1)
    png = plots.forecast(HOURS, ACTUAL, HOURS, point, "kW")
    assert blue_share(png) < blue_share(plots.forecast(HOURS, ACTUAL, HOURS, PREDICTIONS, "kW"))


def test_a_running_gain_shows_itself_its_intervals_and_no_gain_at_all() -> None:
    nothing = plots.running_gain(DAYS, GAINS, HALVES * np.inf, "kW")
    intervals = plots.running_gain(DAYS, GAINS, HALVES, "kW")
    assert blue_share(nothing) > 0.001
    assert blue_share(intervals) > blue_share(nothing)
    line = (pixels(intervals).sum(axis=-1) < 90).mean(axis=1)
    assert line.max() > 0.5
