"""What must hold of the images and of the model that names what is in them."""

from ml_assets.cifar10.config import GROUP
from ml_assets.cifar10.data import CLASSES, IMAGE_SHAPE, SAMPLE_SHA256, SHA256
from ml_assets.image_checks import image_checks
from ml_assets.ml.evaluation import Quality

QUALITY = Quality(metric="accuracy", limit=0.35, baseline="nearest_centroid")
"""Short of it nothing is registered; a minute on the bundled sample is enough for it."""

CHECKS = image_checks(
    GROUP,
    digests=(SHA256, SAMPLE_SHA256),
    shape=IMAGE_SHAPE,
    classes=CLASSES,
    quality=QUALITY,
)
