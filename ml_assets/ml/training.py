"""Training Keras models epoch by epoch, so that a killed training goes on where it was.

What is trained on which data is the groups' business: they hand in a compiled model and the
data of each epoch. Data order and augmentation of epoch *k* must depend on the seed and *k*
alone; then a resumed training ends with the weights of an undisturbed one.
"""

import dataclasses
import hashlib
import json
import logging
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from upath import UPath

from ml_assets.ml import archive
from ml_assets.ml.errors import DataError
from ml_assets.ml.stopping import stopping_between

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

WARM_UP = 0.2
REPORT_SECONDS = 30.0
"""How often an epoch that lasts longer is reported on."""

logger = logging.getLogger(__name__)


class TrainingRecord:
    """What follows from the record of any training."""

    parameters: dict[str, Any]
    data_digest: str
    code_version: str
    wall_seconds: float
    cpu_seconds: float
    peak_memory_mb: float

    @property
    def fingerprint(self) -> str:
        """What was trained, in one digest: the same again gives the same model."""
        return training_fingerprint(self.data_digest, self.code_version, self.parameters)

    @property
    def costs(self) -> dict[str, float]:
        """What the training cost, by name with unit."""
        return {
            "train_wall_seconds": self.wall_seconds,
            "train_cpu_seconds": self.cpu_seconds,
            "peak_memory_mb": self.peak_memory_mb,
        }


@dataclass(frozen=True)
class TrainedModel(TrainingRecord):
    """A model after some epochs, and the record of how it came to be. Also the checkpoint.

    Attributes:
        model: The Keras model, its optimizer's state included.
        training_id: Identity of the training, kept when it is interrupted and taken up again.
        parameters: The configuration, `architecture`, `epochs` and `seed` among it.
        data_digest: SHA-256 of the data it is trained on.
        code_version: Version of the code that trains it.
        history: Value of every metric after every finished epoch.
        resumed_after: The numbers of epochs after which the training was taken up again.
        wall_seconds: Time that the finished epochs took.
        cpu_seconds: Processor time of the finished epochs, over all threads.
        peak_memory_mb: Largest resident memory of the process until now, in MiB.
    """

    model: "keras.Model"
    training_id: str
    parameters: dict[str, Any]
    data_digest: str
    code_version: str
    history: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    resumed_after: list[int] = dataclasses.field(default_factory=list)
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_mb: float = 0.0

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(next(iter(self.history.values()), []))


def training_fingerprint(data_digest: str, code_version: str, parameters: dict[str, Any]) -> str:
    """Digest of the three things that decide a training."""
    state = json.dumps([data_digest, code_version, parameters], sort_keys=True)
    return hashlib.sha256(state.encode()).hexdigest()


def fit(
    build: Callable[[], "keras.Model"],
    data_of_epoch: Callable[[int], "tf.data.Dataset"],
    validation: "tf.data.Dataset",
    *,
    parameters: dict[str, Any],
    data_digest: str,
    code_version: str,
    checkpoint: UPath,
) -> TrainedModel:
    """Train for `parameters["epochs"]` epochs from `parameters["seed"]`, each with a checkpoint.

    A checkpoint of the same parameters, data and code is taken up where it stands; any other
    is ignored and overwritten. Whoever stores the result removes it: until then, nothing is lost.
    A process that is asked to stop (SIGTERM) does so when the epoch is over.

    Args:
        build: Gives the compiled, untrained model.
        data_of_epoch: Gives the batches `(inputs, targets)` of an epoch, counted from 0.
        validation: The batches to validate on after each epoch.
        parameters: The configuration, for the record and for the comparison.
        data_digest: SHA-256 of the data, likewise.
        code_version: Version of the training's code, likewise.
        checkpoint: Where to keep the checkpoint.
    """
    fingerprint = training_fingerprint(data_digest, code_version, parameters)
    state = _resume(checkpoint, fingerprint)
    if state is None:
        state = TrainedModel(build(), uuid4().hex, parameters, data_digest, code_version)
    with stopping_between("epoch") as stop_if_asked:
        for epoch in range(state.epoch, parameters["epochs"]):
            wall, cpu = time.perf_counter(), time.process_time()
            _seed_layers(state.model, parameters["seed"], epoch)
            data = data_of_epoch(epoch)
            result = state.model.fit(
                data,
                callbacks=[_progress(state, len(data))],
                validation_data=validation,
                initial_epoch=epoch,
                epochs=epoch + 1,
                shuffle=False,
                verbose=0,
            )
            state = dataclasses.replace(
                state,
                history={
                    name: [*state.history.get(name, []), float(values[-1])]
                    for name, values in result.history.items()
                },
                wall_seconds=state.wall_seconds + time.perf_counter() - wall,
                cpu_seconds=state.cpu_seconds + time.process_time() - cpu,
                peak_memory_mb=max(state.peak_memory_mb, peak_memory_mb()),
            )
            archive.save(state, checkpoint)
            _report(state)
            stop_if_asked()
    return state


def without_autotune(dataset: "tf.data.Dataset") -> "tf.data.Dataset":
    """The same data set, not tuned while it runs.

    When a data set ends, its tuner finishes its nap first, and its naps grow with the epoch. A
    pipeline that is quicker than the network has nothing to tune.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def one_cycle(peak: float, steps: int) -> "keras.optimizers.schedules.LearningRateSchedule":
    """A learning rate that rises to its peak in a fifth of the steps and falls along a cosine.

    It is a function of the optimizer's step, which is saved with the model and survives a kill.
    """
    import keras

    warm_up = int(WARM_UP * steps)
    return keras.optimizers.schedules.CosineDecay(
        peak / 20, decay_steps=steps - warm_up, warmup_target=peak, warmup_steps=warm_up
    )


def weights_digest(model: "keras.Model") -> str:
    """SHA-256 over the shapes and values of the model's weights, in their order."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(f"{weight.shape}{weight.dtype}".encode())
        digest.update(weight.tobytes())
    return digest.hexdigest()


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _seed_layers(model: "keras.Model", seed: int, epoch: int) -> None:
    """Let the epoch's dropout and the like depend on seed and epoch: Keras does not save it."""
    states = [variable for variable in model.variables if variable.name == "seed_generator_state"]
    random = np.random.default_rng((seed, epoch))
    for state in states:
        state.assign(random.integers(2**32, size=state.shape, dtype=np.uint32))


def _resume(path: UPath, fingerprint: str) -> TrainedModel | None:
    try:
        found = archive.load(TrainedModel, path)
    except FileNotFoundError:
        return None
    except DataError as error:
        logger.warning("starting over, the checkpoint is unusable: %s", error)
        return None
    if found.fingerprint != fingerprint:
        logger.info("starting over, the checkpoint belongs to another training")
        return None
    logger.info("continuing after epoch %d", found.epoch)
    return dataclasses.replace(found, resumed_after=[*found.resumed_after, found.epoch])


def _progress(state: TrainedModel, steps: int) -> "keras.callbacks.Callback":
    """Log where the epoch after `state` stands, every half a minute."""
    import keras

    began = said = time.perf_counter()

    def after_step(batch: int, logs: dict[str, float]) -> None:
        nonlocal said
        now = time.perf_counter()
        if now - said < REPORT_SECONDS or batch + 1 == steps:
            return
        said, done = now, (batch + 1) / steps
        logger.info(
            "epoch %d/%d, step %d/%d: %s; %.0f s left",
            *(state.epoch + 1, state.parameters["epochs"], batch + 1, steps),
            ", ".join(f"{name} {value:.4f}" for name, value in logs.items()),
            _seconds_left(state, now - began, done),
        )

    return keras.callbacks.LambdaCallback(on_train_batch_end=after_step)


def _report(state: TrainedModel) -> None:
    """Log the epoch's metrics and the time left."""
    logger.info(
        "epoch %d/%d: %s; %.0f s left",
        *(state.epoch, state.parameters["epochs"]),
        ", ".join(f"{name} {values[-1]:.4f}" for name, values in state.history.items()),
        _seconds_left(state),
    )


def _seconds_left(state: TrainedModel, seconds: float = 0.0, share: float = 0.0) -> float:
    """Time that the training still needs, `seconds` and a share of an epoch after `state`."""
    done = state.epoch + share
    return (state.wall_seconds + seconds) / done * (state.parameters["epochs"] - done)
