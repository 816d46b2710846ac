"""The jobs by which a person moves the champion, launched again after they failed."""

import dagster as dg
import pytest

from ml_assets.mnist import definitions
from ml_assets.resources.mlflow import MlflowResource
from ml_assets.resources.registry import ModelRegistry
from ml_assets_tests.resources.test_registry import (  # noqa: F401 - fixtures
    Log,
    crowned,
    log,
    registry,
)


def test_a_rollback_that_is_launched_again_because_its_run_failed_goes_back_once(
    mlflow_resource: MlflowResource,
    registry: ModelRegistry,  # noqa: F811
    log: Log,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second, third = (crowned(registry, log(text)) for text in "abc")
    with dg.instance_for_test() as instance:

        def launch() -> bool:
            job = definitions.defs.resolve_job_def("mnist_rollback")
            return job.execute_in_process(
                instance=instance,
                resources={"mnist_mlflow": mlflow_resource},
                raise_on_error=False,
            ).success

        with monkeypatch.context() as patch:
            whole = ModelRegistry.rollback

            def break_off(*arguments: object) -> None:
                whole(*arguments)
                raise ConnectionError("killed after all was done")

            patch.setattr(ModelRegistry, "rollback", break_off)
            job = definitions.rollback_job("mnist", "mnist_cnn")
            assert not job.execute_in_process(
                instance=instance,
                resources={"mnist_mlflow": mlflow_resource},
                raise_on_error=False,
            ).success
        assert registry.champion() == second
        assert launch()
        assert registry.champion() == second
        assert launch()
        assert registry.champion() == first
        # Of nothing to go back to there is one clear error.
        assert not launch()
    assert third in {str(found.version) for found in registry.versions()}
