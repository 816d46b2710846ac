"""Pictures in the metadata: what they need in Dagster's storage, and that they are still there."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from ml_assets.ml import plots
from ml_assets.reporting import picture
from ml_assets.resources.datasets import SAMPLES

NUMBERS = np.random.default_rng(0)
TIMES = np.datetime64("2026-01-01") + np.arange(240)
VALUES = NUMBERS.normal(size=(240, 3)).cumsum(axis=0)


def shown(png: bytes) -> tuple[Image.Image, int]:
    text = picture(png).value or ""
    assert text.startswith("![](data:image/png;base64,")
    decoded = base64.b64decode(text.split(",")[1].rstrip(")"))
    return Image.open(io.BytesIO(decoded)), len(decoded)


@pytest.mark.parametrize(
    "png",
    [
        plots.learning_curves({"loss": [2, 1], "val_loss": [3, 2], "accuracy": [0.1, 0.2]}),
        plots.confusion_matrix(np.arange(10), np.arange(10), [str(n) for n in range(10)]),
        plots.forecast(TIMES, VALUES[:, 0], TIMES, np.sort(VALUES), "kW"),
        plots.importance([f"feature_{n}" for n in range(30)], np.arange(30.0)),
        plots.search_history(VALUES[:30, 0], "kW"),
    ],
    ids=["learning curves", "confusion matrix", "forecast", "importance", "search history"],
)
def test_a_chart_takes_two_fifths_at_most_and_looks_the_same(png: bytes) -> None:
    image, size = shown(png)
    original = Image.open(io.BytesIO(png)).convert("RGB")
    assert size < 0.4 * len(png)
    assert image.size == original.size
    assert np.abs(np.asarray(image.convert("RGB"), int) - np.asarray(original, int)).mean() < 2


def test_photographs_keep_their_colours() -> None:
    with np.load(SAMPLES / "cifar10.npz") as samples:
        images = samples["x_train"][:20]
    png = plots.contact_sheet(images, ["a caption"] * 20)
    image, size = shown(png)
    original = Image.open(io.BytesIO(png)).convert("RGB")
    assert size < 0.4 * len(png)
    assert np.abs(np.asarray(image.convert("RGB"), int) - np.asarray(original, int)).mean() < 4
