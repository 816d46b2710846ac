import io

import numpy as np
import pytest
from PIL import Image

from ml_assets.ml import plots

NAMES = ["cat", "dog"]
IMAGES = np.full((3, 8, 8, 1), 7, np.uint8)
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
