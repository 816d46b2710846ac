"""The work of the group `mnist` as one bare script, without Dagster: what it is measured against.

`python -m benchmarks.bare_mnist DIRECTORY FILE PARAMETERS`: reads FILE, trains with PARAMETERS (as
JSON), evaluates, draws the same pictures, logs to an MLflow of its own below DIRECTORY, and
registers the model. It imports no Dagster.
"""

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from upath import UPath

from ml_assets.ml import plots
from ml_assets.ml.classifiers import evaluate
from ml_assets.ml.images import load
from ml_assets.mnist import data, features
from ml_assets.mnist.model import train

MODEL_NAME = "mnist_cnn"


def main(directory: Path, path: Path, parameters: dict[str, Any]) -> None:
    """Do everything once."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    import mlflow.keras

    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    raw = load(path, source=str(path), sha256=sha256)
    plots.contact_sheet(raw.train_images[:50], [str(label) for label in raw.train_labels[:50]])
    images = features.prepare(raw)
    trained = train(
        images,
        **parameters,
        code_version="bare",
        checkpoint=UPath(directory / "checkpoint.zip"),
    )
    evaluation = evaluate(images, trained)
    truth, predicted = images.test_labels, evaluation.predictions.argmax(axis=1)
    pictures = {
        "learning_curves": plots.learning_curves(trained.history),
        "confusion_matrix": plots.confusion_matrix(truth, predicted, data.CLASSES),
        "worst_mistakes": plots.worst_mistakes(
            images.test_images, truth, evaluation.predictions, data.CLASSES
        ),
    }

    mlflow.set_tracking_uri(f"sqlite:///{directory}/mlflow.db")
    mlflow.create_experiment("mnist", str(directory / "artifacts"))
    mlflow.set_experiment("mnist")
    with mlflow.start_run(), tempfile.TemporaryDirectory() as temporary:
        mlflow.log_params(trained.parameters)
        for epoch in range(trained.epoch):
            values = {name: values[epoch] for name, values in trained.history.items()}
            mlflow.log_metrics(values, step=epoch + 1)
        mlflow.log_metrics(evaluation.metrics)
        for name, png in pictures.items():
            (Path(temporary) / f"{name}.png").write_bytes(png)
        mlflow.log_artifacts(temporary)
        signature = mlflow.models.infer_signature(
            images.test_images[:2], evaluation.predictions[:2]
        )
        mlflow.keras.log_model(
            trained.model,
            name="model",
            signature=signature,
            pip_requirements=["keras", "tensorflow", "numpy"],
            registered_model_name=MODEL_NAME,
        )
    mlflow.MlflowClient().set_registered_model_alias(MODEL_NAME, "champion", "1")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
