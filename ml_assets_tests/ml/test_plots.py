import io

import numpy as np
import pytest
from PIL import Image

from ml_assets.ml import plots

NAMES = ["cat", "dog"]
IMAGES = np.zeros((3, 8, 8, 1), np.uint8)
LABELS = np.array([0, 1, 1])
ALL_RIGHT = np.array([[0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])


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
    ],
)
def test_every_picture_is_a_png_that_fits_into_the_event_log(png: bytes) -> None:
    picture = Image.open(io.BytesIO(png))
    assert picture.format == "PNG"
    assert picture.width > 100
    assert len(png) < 200_000
