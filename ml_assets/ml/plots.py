"""Pictures as PNG bytes. They never open a window and keep no global state."""

import io
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def contact_sheet(images: np.ndarray, captions: list[str], *, columns: int = 10) -> bytes:
    """A grid of images with a caption below each.

    Args:
        images: `(n, height, width, channels)` uint8, with 1 or 3 channels; n may be 0.
        captions: n short texts.
        columns: Images in a row.
    """
    rows = max(1, -(-len(images) // columns))
    figure = _figure(columns * 0.8, rows * 1.1)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.set_axis_off()
    for axis, image, caption in zip(axes, images, captions, strict=False):
        axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255)
        below = {"transform": axis.transAxes, "ha": "center", "va": "top"}
        axis.text(0.5, -0.05, caption, fontsize=7, **below)
    return _png(figure)


def learning_curves(history: dict[str, list[float]], *, step: str = "epoch") -> bytes:
    """Each metric by step, training and validation (`val_…`) in one panel."""
    names = list(dict.fromkeys(name.removeprefix("val_") for name in history))
    figure = _figure(4.5 * len(names), 3)
    for axis, name in zip(figure.subplots(1, len(names), squeeze=False).flat, names, strict=True):
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            values = history.get(key, [])
            if values:
                axis.plot(range(1, len(values) + 1), values, marker=".", label=label)
        axis.set(xlabel=step, ylabel=name)
        axis.grid(alpha=0.3)
        axis.legend()
    return _png(figure)


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, names: list[str]) -> bytes:
    """Counts of true class against predicted class.

    Args:
        labels: `(n,)` int, the true classes.
        predicted: `(n,)` int.
        names: The name of each class.
    """
    from sklearn.metrics import ConfusionMatrixDisplay
    from sklearn.metrics import confusion_matrix as count

    figure = _figure(5, 5)
    counts = count(labels, predicted, labels=range(len(names)))
    display = ConfusionMatrixDisplay(counts, display_labels=names)
    display.plot(
        ax=figure.subplots(),
        cmap="Blues",
        colorbar=False,
        text_kw={"fontsize": 7},
        xticks_rotation=45 if max(map(len, names)) > 2 else 0,
    )
    return _png(figure)


def worst_mistakes(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    names: list[str],
    *,
    most: int = 20,
) -> bytes:
    """The misclassified images about which the model was surest, surest first.

    Args:
        images: `(n, height, width, channels)` uint8.
        labels: `(n,)` int, the true classes.
        probabilities: `(n, classes)` float.
        names: The name of each class.
        most: How many to show at most.
    """
    predicted = probabilities.argmax(axis=1)
    certainty = np.where(predicted == labels, -1.0, probabilities.max(axis=1))
    mistakes = [int(row) for row in np.argsort(-certainty)[:most] if certainty[row] >= 0]
    captions = [
        f"{names[labels[row]]}\nas {names[predicted[row]]}\n{certainty[row]:.0%}"
        for row in mistakes
    ]
    return contact_sheet(images[mistakes], captions)


def forecast(
    times: np.ndarray,
    actual: np.ndarray,
    forecast_times: np.ndarray,
    predictions: np.ndarray,
    unit: str,
) -> bytes:
    """What came true, and the forecast with its interval.

    Args:
        times: `(n,)` datetime64, ascending.
        actual: `(n,)` float, NaN where unknown.
        forecast_times: `(m,)` datetime64, ascending.
        predictions: `(m, 3)` float: lower bound, forecast, upper bound, all one if there is no
            interval.
        unit: What the values are measured in.
    """
    from matplotlib.dates import ConciseDateFormatter

    figure = _figure(10, 3)
    axis = figure.subplots()
    axis.plot(times, actual, color="black", linewidth=1, label="actual")
    lower, point, upper = predictions.T
    if (lower < upper).any():
        axis.fill_between(forecast_times, lower, upper, alpha=0.3, linewidth=0, label="interval")
    axis.plot(forecast_times, point, color="tab:blue", linewidth=1.2, label="forecast")
    axis.set(ylabel=unit)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(axis.xaxis.get_major_locator()))
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False)
    return _png(figure)


def price_and_volume(
    times: np.ndarray, low: np.ndarray, high: np.ndarray, close: np.ndarray, volume: np.ndarray
) -> bytes:
    """The range and the close of bars, and below them how much was traded.

    Args:
        times: `(n,)` datetime64, ascending; n may be 0.
        low: `(n,)` float.
        high: `(n,)` float.
        close: `(n,)` float.
        volume: `(n,)` float.
    """
    from matplotlib.dates import ConciseDateFormatter

    # A backfill draws one a day: to look for the best layout would take as long as the rest.
    figure = _figure(10, 4, layout=None)
    figure.subplots_adjust(left=0.08, right=0.99, bottom=0.07, top=0.92, hspace=0.08)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.vlines(times, low, high, color="tab:blue", linewidth=1, label="low to high")
    above.plot(times, close, color="black", linewidth=0.8, label="close")
    above.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    above.set(ylabel="price")
    below.vlines(times, 0, volume, linewidth=0.8)
    below.set(ylabel="volume")
    below.xaxis.set_major_formatter(ConciseDateFormatter(below.xaxis.get_major_locator()))
    for axis in (above, below):
        axis.grid(alpha=0.3)
    return _png(figure)


def residuals(groups: np.ndarray, errors: np.ndarray, group: str, unit: str) -> bytes:
    """The distribution of forecast minus actual, in all and by group.

    Args:
        groups: `(n,)` int, such as the hour of the day.
        errors: `(n,)` float.
        group: What a group is called.
        unit: What the errors are measured in.
    """
    figure = _figure(10, 3)
    left, right = figure.subplots(1, 2)
    left.hist(errors, bins=40)
    left.set(xlabel=f"forecast - actual, {unit}", ylabel="rows")
    names = np.unique(groups)
    right.boxplot([errors[groups == name] for name in names], tick_labels=names, sym="")
    right.axhline(0, color="black", linewidth=0.8)
    right.set(xlabel=group, ylabel=unit)
    right.tick_params(labelsize=7)
    return _png(figure)


def importance(names: list[str], values: np.ndarray, *, most: int = 20) -> bytes:
    """The features that a model gains most from.

    Args:
        names: The features.
        values: `(len(names),)` float, the gain from each.
        most: How many to show at most.
    """
    order = np.argsort(values)[-most:]
    figure = _figure(8, 0.5 + 0.22 * len(order))
    axis = figure.subplots()
    axis.barh([names[row] for row in order], values[order] / max(values.sum(), 1e-12))
    axis.set(xlabel="share of the gain")
    axis.tick_params(axis="y", labelsize=7)
    return _png(figure)


def search_history(losses: np.ndarray, unit: str) -> bytes:
    """The loss of each trial of a search, and the best one so far.

    Args:
        losses: `(trials,)` float, NaN for the trials that were pruned.
        unit: What the losses are measured in.
    """
    from matplotlib.ticker import MaxNLocator

    figure = _figure(6, 3)
    axis = figure.subplots()
    trials = np.arange(1, len(losses) + 1)
    axis.plot(trials, losses, marker=".", linestyle="none", label="trial")
    axis.step(trials, np.fmin.accumulate(losses), where="post", label="best")
    for trial in trials[np.isnan(losses)]:
        axis.axvline(trial, color="grey", linewidth=0.5, alpha=0.5)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set(xlabel="trial (grey: pruned)", ylabel=f"validation loss, {unit}")
    axis.grid(alpha=0.3)
    axis.legend()
    return _png(figure)


def running_gain(days: np.ndarray, gain: np.ndarray, half: np.ndarray, unit: str) -> bytes:
    """The mean gain over the days so far, with its confidence sequence, beside no gain at all.

    Args:
        days: `(n,)` datetime64[D], ascending; n may be 0.
        gain: `(n,)` float, the mean until the end of the day.
        half: `(n,)` float, half the width of its interval; inf while nothing can be said.
        unit: What the gain is measured in.
    """
    from matplotlib.dates import ConciseDateFormatter

    figure = _figure(8, 3)
    axis = figure.subplots()
    half = np.where(np.isfinite(half), half, np.nan)
    axis.errorbar(days, gain, yerr=half, marker="o", capsize=3, label="95 % confidence sequence")
    axis.axhline(0, color="black", linewidth=0.8)
    if len(gain) and np.isfinite(half[-1]):
        # The first intervals are so wide that they would hide all others.
        reach = 1.1 * max(np.abs(gain).max(), 3 * half[-1], 1e-12)
        axis.set_ylim(-reach, reach)
    axis.set(ylabel=f"mean gain, {unit}")
    if len(days):
        axis.set_xlim(days[0] - np.timedelta64(1, "D"), days[-1] + np.timedelta64(1, "D"))
        axis.xaxis.set_major_formatter(ConciseDateFormatter(axis.xaxis.get_major_locator()))
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    return _png(figure)


def _figure(
    width: float, height: float, layout: Literal["constrained"] | None = "constrained"
) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()
