from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlparse

import pytest

from ml_assets.resources import forgetting
from ml_assets.resources.mlflow import MlflowResource
from ml_assets.resources.registry import LoggedRun, ModelRegistry
from ml_assets_tests.resources.test_registry import (  # noqa: F401 - fixtures
    NO_BETTER,
    crowned,
    log,
    registry,
)


def later() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=1)


def challenged(registry: ModelRegistry, run: LoggedRun) -> str:
    version = registry.register(run, {})
    registry.challenge(version, lambda _: NO_BETTER)
    return version


def versions(registry: ModelRegistry) -> set[str]:
    found = registry.client.search_model_versions("name = 'mnist_cnn'")
    return {str(version.version) for version in found}


def files(run: LoggedRun) -> list[Path]:
    return [path for path in Path(urlparse(run.location).path).rglob("*") if path.is_file()]


def test_what_was_beaten_is_forgotten_with_its_files(
    mlflow_resource: MlflowResource,
    registry: ModelRegistry,  # noqa: F811
    log: Callable[[str], LoggedRun],  # noqa: F811
) -> None:
    runs = [log(text) for text in ("a first", "b second", "c third", "d beaten", "e challenger")]
    first, second, third = (crowned(registry, run) for run in runs[:3])
    beaten, challenger = (challenged(registry, run) for run in runs[3:])

    assert mlflow_resource.forget(datetime.now(UTC) - timedelta(days=1)) == 0
    assert mlflow_resource.forget(later()) == 2
    assert versions(registry) == {second, third, challenger} - {beaten, first}
    assert [bool(files(run)) for run in runs] == [False, True, True, False, True]
    assert registry.champion() == third
    assert registry.rollback() == (third, second)
    assert mlflow_resource.forget(later()) == 0


def test_weights_that_were_rolled_back_are_remembered(
    mlflow_resource: MlflowResource,
    registry: ModelRegistry,  # noqa: F811
    log: Callable[[str], LoggedRun],  # noqa: F811
) -> None:
    crowned(registry, log("a good"))
    bad = crowned(registry, log("b bad"))
    registry.rollback()
    crowned(registry, log("c better"))
    assert mlflow_resource.forget(later()) == 0
    assert bad in versions(registry)


def test_a_training_that_was_never_registered_is_forgotten_and_may_be_logged_again(
    mlflow_resource: MlflowResource,
    log: Callable[[str], LoggedRun],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forgetting, "_PAGE", 2)
    runs = [log(f"{number}") for number in range(5)]
    assert mlflow_resource.forget(later()) == 5
    assert log("0").run_id != runs[0].run_id
