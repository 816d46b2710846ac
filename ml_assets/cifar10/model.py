"""Training the network that names what is in an image."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from upath import UPath

from ml_assets.cifar10.data import CLASSES
from ml_assets.cifar10.networks import BUILDERS, prepare, with_views
from ml_assets.cifar10.transfer import (
    ViewChoice,
    build_head,
    build_trunk,
    joined,
    remove_all_but,
    trunk_features,
    unfreeze,
)
from ml_assets.ml.augmentation import Augmentation
from ml_assets.ml.classifiers import batches, one_hot, training_data
from ml_assets.ml.images import ImageSplits
from ml_assets.ml.training import TrainedModel, fit, one_cycle, training_fingerprint

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

TRANSFER = "resnet50_transfer"
LEAST_STEPS, SMALLEST_BATCH = 24, 8
"""An epoch has so many steps at least, while a batch has so many images."""
DENSE_RATIO, VECTOR_RATIO = 2.8, 0.22
"""Learning rates of what is no filter in `fast_resnet`, for each image of a batch."""
HEAD_EPOCHS, HEAD_RATE = 10, 1e-3
"""How the last layer of `resnet50_transfer` is trained before fine-tuning."""


@dataclass(frozen=True)
class Lesson:
    """What is trained, and on what.

    Attributes:
        build: Gives the network, compiled.
        data_of_epoch: Gives an epoch's batches `(inputs, targets)` by its number.
        validation: Batches `(inputs, targets)`.
        whole: Makes of the trained network one from pixels to class probabilities.
    """

    build: "Callable[[], keras.Model]"
    data_of_epoch: "Callable[[int], tf.data.Dataset]"
    validation: "tf.data.Dataset"
    whole: "Callable[[keras.Model], keras.Model]" = lambda network: network


def train(
    images: ImageSplits,
    augmentation: Augmentation,
    *,
    architecture: str,
    size: str,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    label_smoothing: float,
    fine_tuning: bool,
    views: str,
    precision: str,
    most_images: int,
    seed: int,
    pretrained: Callable[[], Path],
    code_version: str,
    checkpoint: UPath,
) -> TrainedModel:
    """Train a network on augmented images.

    `fast_resnet` learns by Muon at a rate that falls in a straight line; the others by AdamW at a
    one-cycle rate.

    Args:
        images: Trained on the train set, validated on the validation set after every epoch.
        augmentation: How the training images are changed; of frozen features, only the flips.
        architecture: A key of `BUILDERS`, or `resnet50_transfer`.
        size: For the record; what follows from it is given by the others.
        epochs: Passes over the training images.
        batch_size: Images in a step, fewer where an epoch would have fewer than 24 steps; images
            that fill no batch sit out the epoch.
        learning_rate: Its peak.
        weight_decay: Decoupled; of `fast_resnet`, for each image of a batch.
        label_smoothing: Share of each target that is spread over all classes.
        fine_tuning: Of `resnet50_transfer`, train all and not the last layer only.
        views: Of which views of an image a prediction is the mean; see `with_views`.
        precision: `float32` or `mixed_bfloat16`; `resnet50_transfer` is always `float32`.
        most_images: How many training images to use at most; 0 for all.
        seed: Decides initial weights, data order and augmentation.
        pretrained: Gives the weights of `resnet50_transfer`.
        code_version: For the record.
        checkpoint: Where to keep the state after every epoch.
    """
    parameters = dict(locals())  # before anything else is local
    for name in ("images", "augmentation", "pretrained", "code_version", "checkpoint"):
        del parameters[name]
    parameters |= vars(augmentation)
    if most_images:
        # Files may be sorted by class; with every seed they are the same.
        chosen = np.random.default_rng(0).permutation(len(images.train_images))[:most_images]
        chosen.sort()
        images = replace(
            images,
            train_images=images.train_images[chosen],
            train_labels=images.train_labels[chosen],
        )
    count = len(images.train_images)
    batch_size = min(batch_size, max(count // LEAST_STEPS, SMALLEST_BATCH))
    compiled = partial(
        _compiled,
        steps=epochs * (count // batch_size),
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        seed=seed,
    )
    targets = one_hot(images.train_labels, len(CLASSES))
    shuffled = partial(training_data, targets=targets, batch_size=batch_size, seed=seed)
    lesson = Lesson(
        partial(compiled, partial(_untrained, architecture, precision, images.train_images)),
        shuffled(images.train_images, augment=augmentation),
        batches((images.validation_images, one_hot(images.validation_labels, len(CLASSES)))),
    )
    if architecture == TRANSFER:
        weights = pretrained()
        parameters["pretrained_sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
        identity = {"weights": parameters["pretrained_sha256"], "images": most_images}
        cache = checkpoint.with_suffix(".features") / training_fingerprint(
            images.data_digest, code_version, identity
        )
        remove_all_but(cache)
        frozen = _on_features(images, weights, cache, augmentation, shuffled, compiled)
        lesson = _fine_tuned(frozen, lesson, compiled) if fine_tuning else frozen
    trained = fit(
        lesson.build,
        lesson.data_of_epoch,
        lesson.validation,
        parameters=parameters,
        data_digest=images.data_digest,
        code_version=code_version,
        checkpoint=checkpoint,
    )
    return replace(trained, model=with_views(lesson.whole(trained.model), views))


def _on_features(
    images: ImageSplits,
    weights: Path,
    cache: UPath,
    policy: Augmentation,
    shuffled: "Callable[..., Callable[[int], tf.data.Dataset]]",
    compiled: "Callable[..., keras.Model]",
) -> Lesson:
    """The last layer learns from what ResNet-50 makes of the images, computed once."""
    trunk = build_trunk(weights)
    features = trunk_features(trunk, images.train_images, cache / "train")
    held_out = trunk_features(trunk, images.validation_images, cache / "validation")[:, 0]
    targets = one_hot(images.validation_labels, len(CLASSES))
    return Lesson(
        partial(compiled, build_head),
        shuffled(features, augment=ViewChoice(policy)),
        batches((held_out.astype(np.float32), targets)),
        whole=partial(joined, trunk),
    )


def _fine_tuned(
    frozen: Lesson, on_pixels: Lesson, compiled: "Callable[..., keras.Model]"
) -> Lesson:
    """The last layer learns as in `frozen`; after it, the whole network as in `on_pixels`."""

    def build() -> "keras.Model":
        data = [frozen.data_of_epoch(epoch) for epoch in range(HEAD_EPOCHS)]
        head = compiled(build_head, learning_rate=HEAD_RATE, steps=sum(map(len, data)))
        for batches_of_epoch in data:
            head.fit(batches_of_epoch, shuffle=False, verbose=0)
        network = frozen.whole(head)
        unfreeze(network)
        return network

    return replace(on_pixels, build=partial(compiled, build))


def _untrained(architecture: str, precision: str, images: np.ndarray) -> "keras.Model":
    network = BUILDERS[architecture](precision)
    if architecture == "fast_resnet":
        prepare(network, images)
    return network


def _compiled(
    build: "Callable[[], keras.Model]",
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    label_smoothing: float,
    seed: int,
) -> "keras.Model":
    """A network ready for `steps` steps of training."""
    import keras

    from ml_assets.ml.muon import FilterMuon

    keras.utils.set_random_seed(seed)
    network = build()
    optimizer: keras.optimizers.Optimizer
    if network.name == "fast_resnet":
        falling = keras.optimizers.schedules.PolynomialDecay(learning_rate, steps, 0.0)
        optimizer = FilterMuon(
            falling,
            dense_ratio=DENSE_RATIO * batch_size,
            vector_ratio=VECTOR_RATIO * batch_size,
            weight_decay=weight_decay * batch_size,
        )
    else:
        optimizer = keras.optimizers.AdamW(
            one_cycle(learning_rate, steps), weight_decay=weight_decay
        )
    network.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing),
        metrics=["accuracy"],
        jit_compile=False,  # on a CPU, XLA's convolutions are slower than oneDNN's
    )
    return network
