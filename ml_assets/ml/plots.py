"""Pictures as PNG bytes. They never open a window and keep no global state."""

import io
from typing import TYPE_CHECKING

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


def learning_curves(history: dict[str, list[float]]) -> bytes:
    """Each metric by epoch, training and validation in one panel."""
    names = [name for name in history if not name.startswith("val_")]
    figure = _figure(4.5 * len(names), 3)
    for axis, name in zip(figure.subplots(1, len(names), squeeze=False).flat, names, strict=True):
        epochs = range(1, len(history[name]) + 1)
        axis.plot(epochs, history[name], marker=".", label="training")
        if f"val_{name}" in history:
            axis.plot(epochs, history[f"val_{name}"], marker=".", label="validation")
        axis.set(xlabel="epoch", ylabel=name)
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
    display.plot(ax=figure.subplots(), cmap="Blues", colorbar=False, text_kw={"fontsize": 7})
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
        f"{names[labels[row]]} as {names[predicted[row]]}\n{certainty[row]:.0%}" for row in mistakes
    ]
    return contact_sheet(images[mistakes], captions)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()
