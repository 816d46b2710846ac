"""The digits: `fast` and `simple` against the Keras example, accuracy and wall time.

The three are trained in turn, seed by seed, in one process. The Keras example is "Simple MNIST
convnet" (keras.io/examples/vision/mnist_convnet): 15 epochs of batch 128, 10 % held out. Wall
time is that of the training, with validation and checkpoints, from the untrained model on;
accuracy is that on the test set.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from upath import UPath

from benchmarks.common import parser, report, write_json
from ml_assets.ml.classifiers import predict
from ml_assets.ml.images import ImageSplits, load
from ml_assets.ml.metrics import classification_metrics
from ml_assets.mnist import features
from ml_assets.mnist.config import TrainingConfig
from ml_assets.mnist.definitions import mnist_source
from ml_assets.mnist.model import train


def ours(architecture: str) -> Callable[[ImageSplits, int, bool], tuple[float, float]]:
    """Train one of our architectures with its default configuration."""

    def run(images: ImageSplits, seed: int, quick: bool) -> tuple[float, float]:
        config = TrainingConfig().model_dump() | {"architecture": architecture, "seed": seed}
        if quick:
            config["epochs"] = 2
        with tempfile.TemporaryDirectory() as directory:
            checkpoint = UPath(directory) / "checkpoint.zip"
            started = time.perf_counter()
            trained = train(images, **config, code_version="benchmark", checkpoint=checkpoint)
            seconds = time.perf_counter() - started
        probabilities = predict(trained.model, images.test_images)
        return classification_metrics(images.test_labels, probabilities)["accuracy"], seconds

    return run


def keras_example(images: ImageSplits, seed: int, quick: bool) -> tuple[float, float]:
    """The published example, as it stands, on train and validation images together."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    inputs = np.concatenate([images.train_images, images.validation_images]) / np.float32(255)
    labels = np.concatenate([images.train_labels, images.validation_labels])
    order = np.random.default_rng(seed).permutation(len(labels))
    started = time.perf_counter()
    model = keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    model.fit(
        inputs[order],
        keras.utils.to_categorical(labels[order], 10),
        batch_size=128,
        epochs=2 if quick else 15,
        validation_split=0.1,
        verbose=0,
    )
    seconds = time.perf_counter() - started
    probabilities = model.predict(images.test_images / np.float32(255), verbose=0)
    return classification_metrics(images.test_labels, probabilities)["accuracy"], seconds


CONTESTANTS = {"fast": ours("fast"), "simple": ours("simple"), "keras_example": keras_example}


def main() -> int:
    """Run the contest and print its table."""
    options = parser(__doc__)
    options.add_argument("--data", type=Path, metavar="FILE", help="the full `mnist.npz`")
    options.add_argument("--seeds", type=int, default=5, help="trainings of each")
    arguments = options.parse_args()
    path = arguments.data or mnist_source.fetch()
    images = features.prepare(load(path, source=str(path), sha256=""))
    seeds = range(1 if arguments.quick else arguments.seeds)
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTESTANTS}
    for seed in seeds:
        for name, run in CONTESTANTS.items():
            accuracy, seconds = run(images, seed, arguments.quick)
            results[name].append((accuracy, seconds))
            print(f"seed {seed}: {name} {accuracy:.4f} in {seconds:.1f} s", file=sys.stderr)
    figures = {name: _summary(found) for name, found in results.items()}
    write_json(arguments.json, figures)
    example = figures["keras_example"]["wall_s"]
    report(
        f"MNIST, {len(images.train_images)} training and {len(images.test_images)} test images, "
        f"{len(seeds)} seeds",
        ["model", "test accuracy, mean ± sd", "wall, median", "of the example's time"],
        [
            [
                name,
                f"{found['accuracy_mean']:.2%} ± {found['accuracy_sd']:.2%}",
                f"{found['wall_s']:.1f} s",
                f"{found['wall_s'] / example:.2f}",
            ]
            for name, found in figures.items()
        ],
    )
    return 0


def _summary(results: list[tuple[float, float]]) -> dict[str, float]:
    accuracies, seconds = zip(*results, strict=True)
    return {
        "accuracy_mean": statistics.mean(accuracies),
        "accuracy_sd": statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
        "wall_s": statistics.median(seconds),
        "seeds": len(results),
    }


if __name__ == "__main__":
    sys.exit(main())
