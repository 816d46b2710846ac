"""From raw images to train, validation and test sets. Scaling is a layer of the model."""

from ml_assets.ml.images import ImageSplits, RawImages, split

VALIDATION_FRACTION = 1 / 50
SPLIT_SEED = 0


def prepare(raw: RawImages) -> ImageSplits:
    """Hold out 1,000 of the 50,000 training images (one in fifty), stratified by class.

    They only show how a training goes: nothing is chosen by them. The split has its own seed, so
    that trainings of different seeds are validated alike.
    """
    return split(raw, validation_fraction=VALIDATION_FRACTION, seed=SPLIT_SEED)
