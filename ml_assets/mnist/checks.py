"""What must hold of the digits and of the model that reads them."""

from ml_assets.image_checks import image_checks
from ml_assets.ml.evaluation import Quality
from ml_assets.mnist.config import GROUP
from ml_assets.mnist.data import CLASSES, IMAGE_SHAPE, SAMPLE_SHA256, SHA256

QUALITY = Quality(metric="accuracy", limit=0.95, baseline="nearest_centroid")
"""Short of it nothing is registered; a plain network reaches it on the bundled sample."""

CHECKS = image_checks(
    GROUP,
    digests=(SHA256, SAMPLE_SHA256),
    shape=IMAGE_SHAPE,
    classes=CLASSES,
    quality=QUALITY,
)
