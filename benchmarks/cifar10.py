"""CIFAR-10: `fast_resnet` against ResNet-20, accuracy and wall time, and what the hardware gives.

`fast_resnet` is trained in full, seed by seed, and once more by its short recipe (`standard`).
ResNet-20's 200 epochs would take hours: some are measured, their time is projected, and its
accuracy is the published one (91.25 %). Wall time is that of the training, with validation and
checkpoints, from the untrained model on; accuracy is that on the test set. GFLOP/s counts the
products and sums of convolutions and dense layers, forward and backward, over the wall time of
the epochs, beside a large matrix product in the same process.
"""

import logging
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from upath import UPath

from benchmarks.common import parser, report, write_json
from ml_assets.cifar10 import features
from ml_assets.cifar10.config import RECIPES, AugmentationConfig, TrainingConfig
from ml_assets.cifar10.data import IMAGE_SHAPE, load
from ml_assets.cifar10.definitions import cifar10_source
from ml_assets.cifar10.model import train
from ml_assets.cifar10.networks import BUILDERS
from ml_assets.ml.classifiers import predict
from ml_assets.ml.images import ImageSplits
from ml_assets.ml.metrics import classification_metrics

if TYPE_CHECKING:
    import keras

RESNET20_ACCURACY = 0.9125
"""K. He and others, "Deep residual learning for image recognition" (2015), table 6."""


@dataclass(frozen=True)
class Result:
    """A training.

    Attributes:
        accuracy: On the test set.
        seconds: From the untrained model on.
        seconds_an_epoch: Mean over the epochs.
        gflops: Achieved over the epochs.
    """

    accuracy: float
    seconds: float
    seconds_an_epoch: float
    gflops: float


def trained(images: ImageSplits, **chosen: Any) -> Result:
    """Train by a configuration, and test."""
    config = TrainingConfig(**chosen)
    resolved = config.resolved()
    with tempfile.TemporaryDirectory() as directory:
        started = time.perf_counter()
        model = train(
            images,
            AugmentationConfig().policy(),
            **resolved,
            pretrained=Path,
            code_version="benchmark",
            checkpoint=UPath(directory) / "model.checkpoint",
        )
        seconds = time.perf_counter() - started
    probabilities = predict(model.model, images.test_images)
    accuracy = classification_metrics(images.test_labels, probabilities)["accuracy"]
    network, epochs = BUILDERS[config.architecture]("float32"), resolved["epochs"]
    work = flop(network) * epochs * len(images.train_images)
    print(f"{config.architecture}, seed {config.seed}: {accuracy:.4f}, {seconds:.0f} s",
          file=sys.stderr)  # fmt: skip
    return Result(accuracy, seconds, model.wall_seconds / epochs, work / model.wall_seconds / 1e9)


def flop(network: "keras.Model") -> int:
    """Floating-point operations of a training step on one image, in convolutions and dense layers.

    A layer's forward pass, the gradient of its weights, and that of its input count alike; the
    last two only where something is to be learned from them.
    """
    import keras
    from keras import layers

    found = [layer for layer in network.layers if isinstance(layer, (layers.Conv2D, layers.Dense))]
    shown = keras.Model(network.inputs, [layer.output for layer in found])
    outputs = shown(np.zeros((1, *IMAGE_SHAPE), np.float32))
    total, learned_before = 0, False
    for layer, output in zip(found, outputs, strict=True):
        places = int(np.prod(output.shape[1:-1]))
        passes = 1 + layer.kernel.trainable + learned_before
        total += passes * 2 * places * int(np.prod(layer.kernel.shape))
        learned_before |= layer.trainable
    return total


def matmul_gflops(precision: str, size: int = 4096) -> float:
    """What a product of two square matrices reaches in that precision, median of five."""
    import tensorflow as tf

    dtype = precision.removeprefix("mixed_")
    matrix = tf.cast(tf.random.normal((size, size)), dtype)
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        np.asarray(tf.cast(tf.matmul(matrix, matrix)[0, 0], tf.float32))
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(seconds[1:]) / 1e9


def main() -> int:
    """Run the contest and print its table."""
    options = parser(__doc__)
    whole = "the whole data set: `cifar-10-binary.tar.gz`, or `cifar10.npz` in Keras's layout"
    options.add_argument("--data", type=Path, metavar="FILE", help=whole)
    options.add_argument("--seeds", type=int, default=3, help="full trainings")
    options.add_argument("--epochs", type=int, default=2, help="measured epochs of ResNet-20")
    arguments = options.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    path = arguments.data or cifar10_source.fetch()
    images = features.prepare(load(path, source=str(path), sha256=""))
    quick: dict[str, Any] = {"size": "quick", "epochs": 2} if arguments.quick else {}
    seeds = range(1 if arguments.quick else arguments.seeds)
    precision = TrainingConfig().resolved()["precision"]
    matmul = [matmul_gflops(precision)]
    full = [trained(images, **{"size": "full", "seed": seed} | quick) for seed in seeds]
    short = trained(images, **{"size": "standard"} | quick)
    slow = trained(images, **{"architecture": "resnet20", "epochs": arguments.epochs} | quick)
    matmul.append(matmul_gflops(precision))

    accuracies = [result.accuracy for result in full]
    epochs = RECIPES["resnet20"].epochs["full"]
    figures: dict[str, Any] = {
        "fast_resnet": {
            "accuracy_mean": statistics.mean(accuracies),
            "accuracy_sd": statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
            "wall_s": statistics.median(result.seconds for result in full),
            "seeds": len(full),
            "gflops": statistics.median(result.gflops for result in full),
        },
        "fast_resnet_standard": {
            "accuracy_mean": short.accuracy,
            "wall_s": short.seconds,
            "seeds": 1,
            "gflops": short.gflops,
        },
        "resnet20": {
            "accuracy_published": RESNET20_ACCURACY,
            "wall_s": slow.seconds_an_epoch * epochs,
            "measured_epochs": arguments.epochs,
            "accuracy_measured": slow.accuracy,
            "gflops": slow.gflops,
        },
        "matmul_gflops": statistics.median(matmul),
        "precision": precision,
    }
    write_json(arguments.json, figures)
    fast, projected = figures["fast_resnet"], figures["resnet20"]["wall_s"]
    report(
        f"CIFAR-10, {len(images.train_images)} training and {len(images.test_images)} test images; "
        f"in {precision}, a matrix product reaches {figures['matmul_gflops']:.0f} GFLOP/s",
        ["model", "test accuracy", "wall", "of ResNet-20's time", "GFLOP/s"],
        [
            [
                f"fast_resnet, {len(full)} seeds",
                f"{fast['accuracy_mean']:.2%} ± {fast['accuracy_sd']:.2%}",
                f"{fast['wall_s']:.0f} s",
                f"1/{projected / fast['wall_s']:.1f}",
                f"{fast['gflops']:.0f}",
            ],
            [
                "fast_resnet, standard",
                f"{short.accuracy:.2%}",
                f"{short.seconds:.0f} s",
                f"1/{projected / short.seconds:.1f}",
                f"{short.gflops:.0f}",
            ],
            [
                f"resnet20, {epochs} epochs, projected from {arguments.epochs}",
                f"{RESNET20_ACCURACY:.2%} (published)",
                f"{projected:.0f} s",
                "1",
                f"{slow.gflops:.0f}",
            ],
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
