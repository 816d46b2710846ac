import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Barrier
from urllib.parse import urlparse

import pytest
from mlflow import MlflowClient

from ml_assets.ml.errors import DataError
from ml_assets.promotion import Decision
from ml_assets.resources import forgetting
from ml_assets.resources.mlflow import MlflowResource
from ml_assets.resources.registered_model import Launch
from ml_assets.resources.registry import LoggedRun, ModelRegistry, Trial
from ml_assets_tests.resources.test_mlflow import TRAINING

BETTER = Decision(True, False, "better")
NO_BETTER = Decision(False, False, "no better")

Log = Callable[[str], LoggedRun]


@pytest.fixture
def log(mlflow_resource: MlflowResource) -> Log:
    """Log a training whose model file holds the given text."""

    def log_text(text: str) -> LoggedRun:
        def save(directory: Path) -> str:
            directory.mkdir()
            (directory / "model.txt").write_text(text)
            return "model.txt"

        training = dataclasses.replace(
            TRAINING, training_id=text, weights_sha256=f"weights of {text[0]}"
        )
        return mlflow_resource.log(training, save)

    return log_text


@pytest.fixture
def registry(mlflow_resource: MlflowResource) -> ModelRegistry:
    return ModelRegistry(MlflowClient(mlflow_resource.tracking_uri), "mnist_cnn")


def stages(registry: ModelRegistry) -> dict[str, str]:
    found = registry.client.search_model_versions("name = 'mnist_cnn'")
    return {str(version.version): version.tags["stage"] for version in found}


def aliases(registry: ModelRegistry) -> dict[str, str]:
    found = registry.client.get_registered_model("mnist_cnn").aliases
    return {alias: str(version) for alias, version in found.items()}


def crowned(registry: ModelRegistry, run: LoggedRun) -> str:
    version = registry.register(run, {})
    registry.challenge(version, lambda _: BETTER)
    return version


def test_a_registered_model_is_the_challenger(registry: ModelRegistry, log: Log) -> None:
    version = registry.register(log("a"), {"test_accuracy": "0.9"})
    assert aliases(registry) == {"challenger": version}
    assert stages(registry) == {version: "Staging"}
    tags = registry.client.get_model_version("mnist_cnn", version).tags
    assert tags["test_accuracy"] == "0.9"


def test_the_same_run_is_registered_once(registry: ModelRegistry, log: Log) -> None:
    run = log("a")
    assert registry.register(run, {}) == registry.register(run, {})
    assert len(stages(registry)) == 1


def test_the_first_model_meets_no_champion(registry: ModelRegistry, log: Log) -> None:
    met = []

    def decide(champion: bytes | None) -> Decision:
        met.append(champion)
        return BETTER

    version = registry.register(log("a"), {})
    assert registry.challenge(version, decide) == BETTER
    assert met == [None]
    assert aliases(registry) == {"champion": version}
    assert stages(registry) == {version: "Production"}


def test_the_challenger_meets_the_champions_own_file(registry: ModelRegistry, log: Log) -> None:
    crowned(registry, log("a"))
    met = []

    def decide(champion: bytes | None) -> Decision:
        met.append(champion)
        return NO_BETTER

    registry.challenge(registry.register(log("b"), {}), decide)
    assert met == [b"a"]


def test_a_better_model_replaces_the_champion(registry: ModelRegistry, log: Log) -> None:
    old, new = crowned(registry, log("a")), crowned(registry, log("b"))
    assert aliases(registry) == {"champion": new}
    assert stages(registry) == {old: "Archived", new: "Production"}
    tags = registry.client.get_model_version("mnist_cnn", new).tags
    assert tags["replaced"] == old
    assert tags["decision_reason"] == "better"


def test_a_model_that_is_no_better_stays_challenger(registry: ModelRegistry, log: Log) -> None:
    champion = crowned(registry, log("a"))
    second = registry.register(log("b"), {})
    registry.challenge(second, lambda _: NO_BETTER)
    third = registry.register(log("c"), {})
    assert aliases(registry) == {"champion": champion, "challenger": third}
    assert stages(registry) == {champion: "Production", second: "None", third: "Staging"}


def test_registering_the_champion_again_changes_nothing(registry: ModelRegistry, log: Log) -> None:
    run = log("a")
    version = crowned(registry, run)
    assert registry.register(run, {}) == version
    assert registry.challenge(version, lambda _: NO_BETTER) is None
    assert aliases(registry) == {"champion": version}


def test_a_champion_that_changes_meanwhile_is_met_again(registry: ModelRegistry, log: Log) -> None:
    crowned(registry, log("a"))
    rival, challenger = registry.register(log("b"), {}), registry.register(log("c"), {})
    met = []

    def decide(champion: bytes | None) -> Decision:
        met.append(champion)
        if len(met) == 1:
            registry.challenge(rival, lambda _: BETTER)
        return BETTER

    registry.challenge(challenger, decide)
    assert met == [b"a", b"b"]
    assert aliases(registry) == {"champion": challenger}


def test_two_promotions_at_once_leave_one_champion(registry: ModelRegistry, log: Log) -> None:
    crowned(registry, log("a"))
    versions = [registry.register(log(text), {}) for text in ("b", "c", "d")]
    together = Barrier(len(versions))

    def promote(version: str) -> None:
        own = ModelRegistry(MlflowClient(registry.client.tracking_uri), "mnist_cnn")
        met = []

        def decide(champion: bytes | None) -> Decision:
            if not met:
                together.wait()
            met.append(champion)
            return BETTER

        own.challenge(version, decide)

    with ThreadPoolExecutor(len(versions)) as pool:
        list(pool.map(promote, versions))
    champion = aliases(registry)["champion"]
    assert [version for version, stage in stages(registry).items() if stage == "Production"] == [
        champion
    ]


def test_a_winner_that_is_overtaken_challenges_again(
    registry: ModelRegistry, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowned(registry, log("a"))
    rival, challenger = registry.register(log("b"), {}), registry.register(log("c"), {})
    settle = ModelRegistry.settle

    def overtaken(self: ModelRegistry) -> None:
        monkeypatch.setattr(ModelRegistry, "settle", settle)
        self.promote(rival)

    monkeypatch.setattr(ModelRegistry, "settle", overtaken)
    met = []

    def decide(champion: bytes | None) -> Decision:
        met.append(champion)
        return BETTER if champion == b"a" else NO_BETTER

    assert registry.challenge(challenger, decide) == NO_BETTER
    assert met == [b"a", b"b"]
    assert aliases(registry)["champion"] == rival
    assert stages(registry)[rival] == "Production"


def test_what_was_rolled_back_is_not_promoted_again(registry: ModelRegistry, log: Log) -> None:
    first, second = crowned(registry, log("a")), crowned(registry, log("b"))
    registry.rollback()
    again = registry.register(log("b trained again"), {})
    for version in (second, again):
        with pytest.raises(DataError, match="that was not rolled back"):
            registry.challenge(version, lambda _: BETTER)
    assert aliases(registry)["champion"] == first
    assert registry.rollback(second) == (first, second)
    crowned(registry, log("c"))


def test_rollback_returns_to_the_model_that_was_replaced(registry: ModelRegistry, log: Log) -> None:
    first, second, third = (crowned(registry, log(text)) for text in "abc")
    assert registry.rollback() == (third, second)
    assert registry.rollback() == (second, first)
    assert aliases(registry) == {"champion": first}
    assert stages(registry) == {first: "Production", second: "Archived", third: "Archived"}
    with pytest.raises(DataError, match="other than the champion, 1"):
        registry.rollback()
    with pytest.raises(DataError, match="found version 1"):
        registry.rollback("1")


def test_rollback_to_a_named_version(registry: ModelRegistry, log: Log) -> None:
    first, _, third = (crowned(registry, log(text)) for text in "abc")
    assert registry.rollback(first) == (third, first)
    with pytest.raises(DataError, match="version 9 of"):
        registry.rollback("9")


def test_rollback_needs_a_champion(registry: ModelRegistry, log: Log) -> None:
    registry.register(log("a"), {})
    with pytest.raises(DataError, match="a champion of mnist_cnn; found none"):
        registry.rollback()


def test_a_changed_model_file_is_refused(registry: ModelRegistry, log: Log) -> None:
    run = log("a")
    version = crowned(registry, run)
    (Path(run.location) / run.model_file).write_text("evil")
    with pytest.raises(DataError, match=r"changed or damaged.* roll mnist_cnn back"):
        registry.model_file(version)


def test_a_version_of_unknown_origin_is_refused(registry: ModelRegistry, log: Log) -> None:
    version = crowned(registry, log("a"))
    registry.client.delete_model_version_tag("mnist_cnn", version, "sha256")
    with pytest.raises(DataError, match="expected the tags sha256 and model_file"):
        registry.model_file(version)


def test_a_version_tells_the_tags_it_was_registered_with(registry: ModelRegistry, log: Log) -> None:
    version = registry.register(log("a"), {"trained_until": "2026-01-31"})
    assert (
        registry.tags(version).items()
        >= {"trained_until": "2026-01-31", "stage": "Staging"}.items()
    )


# Promotion by hand.


def test_a_person_promotes_the_latest_challenger_or_a_named_version(
    registry: ModelRegistry, log: Log
) -> None:
    first, second, third = (registry.register(log(text), {}) for text in "abc")
    assert registry.promote() == (None, third)
    assert aliases(registry) == {"champion": third}
    assert registry.promote(first) == (third, first)
    assert aliases(registry) == {"champion": first}
    assert stages(registry) == {first: "Production", second: "None", third: "Archived"}
    assert registry.tags(first)["decision_reason"] == "promoted by hand"
    assert registry.rollback() == (first, third)


def test_what_cannot_be_promoted_by_hand_is_refused(registry: ModelRegistry, log: Log) -> None:
    with pytest.raises(DataError, match=r"found version None of \[\]; remedy: name one"):
        registry.promote()
    first, second = crowned(registry, log("a")), crowned(registry, log("b"))
    for version in (None, second, "9"):
        with pytest.raises(DataError, match=f"other than the champion, {second}, to promote"):
            registry.promote(version)
    registry.rollback()
    with pytest.raises(DataError, match="by the rollback job"):
        registry.promote(second)
    assert aliases(registry) == {"champion": first}


# Trials.

BEGAN = date(2026, 1, 31)


def test_new_challengers_do_not_disturb_a_trial(registry: ModelRegistry, log: Log) -> None:
    champion, second = crowned(registry, log("a")), registry.register(log("b"), {})
    assert registry.trial() is None
    registry.begin_trial(second, BEGAN)
    third = registry.register(log("c"), {})
    assert aliases(registry) == {"champion": champion, "challenger": third, "shadow": second}
    assert stages(registry) == {champion: "Production", second: "Staging", third: "Staging"}
    assert registry.trial() == Trial(champion, second, BEGAN)
    assert registry.was_on_trial(second)
    assert not registry.was_on_trial(third)


def test_a_trial_that_breaks_off_while_it_begins_is_begun_by_whoever_comes_next(
    registry: ModelRegistry, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion, second = crowned(registry, log("a")), registry.register(log("b"), {})

    def gone(*_: object) -> None:
        raise ConnectionError("MLflow")

    with monkeypatch.context() as patch:
        patch.setattr(registry.client, "set_registered_model_alias", gone)
        with pytest.raises(ConnectionError):
            registry.begin_trial(second, BEGAN)
    assert registry.trial() is None
    registry.register(log("c"), {})
    assert registry.trial() == Trial(champion, second, BEGAN)


def test_who_wins_its_trial_is_the_champion(registry: ModelRegistry, log: Log) -> None:
    champion, second = crowned(registry, log("a")), registry.register(log("b"), {})
    registry.begin_trial(second, BEGAN)
    third = registry.register(log("c"), {})
    registry.end_trial(Trial(champion, second, BEGAN), BETTER)
    assert aliases(registry) == {"champion": second, "challenger": third}
    assert stages(registry)[champion] == "Archived"
    assert registry.tags(second)["decision_reason"] == "better"
    assert registry.trial() is None
    assert registry.rollback() == (second, champion)


def test_who_does_not_win_its_trial_leaves_the_champion(registry: ModelRegistry, log: Log) -> None:
    champion, second = crowned(registry, log("a")), registry.register(log("b"), {})
    registry.begin_trial(second, BEGAN)
    third = registry.register(log("c"), {})
    registry.end_trial(Trial(champion, second, BEGAN), NO_BETTER)
    assert aliases(registry) == {"champion": champion, "challenger": third}
    assert stages(registry) == {champion: "Production", second: "None", third: "Staging"}
    assert registry.tags(second)["decision_reason"] == "no better"
    assert registry.trial() is None


def test_a_trial_against_another_champion_than_now_decides_nothing(
    registry: ModelRegistry, log: Log
) -> None:
    champion, second = crowned(registry, log("a")), registry.register(log("b"), {})
    registry.begin_trial(second, BEGAN)
    third = crowned(registry, log("c"))
    with pytest.raises(RuntimeError, match="has changed: compare with the new one"):
        registry.end_trial(Trial(champion, second, BEGAN), BETTER)
    assert registry.trial() == Trial(third, second, BEGAN)


def test_a_version_that_a_person_promoted_is_no_longer_on_trial(
    registry: ModelRegistry, log: Log
) -> None:
    champion, second = crowned(registry, log("a")), registry.register(log("b"), {})
    registry.begin_trial(second, BEGAN)
    assert registry.promote(second) == (champion, second)
    assert aliases(registry) == {"champion": second}
    assert registry.trial() is None


def test_a_version_that_somebody_put_on_trial_without_a_day_is_refused(
    registry: ModelRegistry, log: Log
) -> None:
    crowned(registry, log("a"))
    second = registry.register(log("b"), {})
    registry.client.set_registered_model_alias("mnist_cnn", "shadow", second)
    with pytest.raises(DataError, match="delete the alias shadow"):
        registry.trial()


# What is old and not needed is forgotten.


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
    registry: ModelRegistry,
    log: Callable[[str], LoggedRun],
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
    registry: ModelRegistry,
    log: Callable[[str], LoggedRun],
) -> None:
    crowned(registry, log("a good"))
    bad = crowned(registry, log("b bad"))
    registry.rollback()
    crowned(registry, log("c better"))
    assert mlflow_resource.forget(later()) == 0
    assert bad in versions(registry)


def test_a_training_that_was_never_registered_is_forgotten_and_may_be_logged_again(
    mlflow_resource: MlflowResource,
    log: Callable[[str], LoggedRun],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forgetting, "_PAGE", 2)
    runs = [log(f"{number}") for number in range(5)]
    assert mlflow_resource.forget(later()) == 5
    assert log("0").run_id != runs[0].run_id


def test_what_people_try_by_hand_in_the_experiment_is_not_forgotten(
    mlflow_resource: MlflowResource, log: Log
) -> None:
    client = MlflowClient(mlflow_resource.tracking_uri)
    by_hand = client.create_run(log("a").experiment_id)
    assert mlflow_resource.forget(later()) == 1
    assert client.get_run(by_hand.info.run_id).info.lifecycle_stage == "active"


def test_a_training_whose_model_somebody_deleted_is_forgotten_or_logged_again(
    mlflow_resource: MlflowResource, log: Log
) -> None:
    client = MlflowClient(mlflow_resource.tracking_uri)
    runs = [log("a"), log("b")]
    for run in runs:
        client.delete_logged_model(run.model_id)
    again = log("a")
    assert again.run_id != runs[0].run_id
    assert files(again)
    assert mlflow_resource.forget(later()) == 2


def test_who_registers_what_retention_is_deleting_is_told_so(
    mlflow_resource: MlflowResource, registry: ModelRegistry, log: Log
) -> None:
    run = log("a")
    registry.client.set_tag(run.run_id, "deleting", "true")
    with pytest.raises(DataError, match="materialize mlflow_run again"):
        registry.register(run, {})
    assert versions(registry) == set()
    assert log("a").run_id != run.run_id


def test_retention_spares_what_is_registered_while_it_looks(
    mlflow_resource: MlflowResource,
    registry: ModelRegistry,
    log: Log,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = log("a")
    set_tag = MlflowClient.set_tag

    def registered_first(client: MlflowClient, *arguments: str) -> None:
        crowned(registry, run)
        set_tag(client, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_tag", registered_first)
        assert mlflow_resource.forget(later()) == 0
    assert registry.champion_file() == ("1", b"a")
    assert registry.register(run, {}) == "1"


def test_an_attempt_that_somebody_may_be_at_is_left_until_retention_finds_it_a_day_old(
    mlflow_resource: MlflowResource, log: Log
) -> None:
    client = MlflowClient(mlflow_resource.tracking_uri)
    first = log("a")
    tags = {"training_id": "b"}
    attempts = [
        client.create_run(first.experiment_id, tags=tags, start_time=int(time.timestamp() * 1000))
        for time in (later() - timedelta(days=2), later() - timedelta(hours=2))
    ]
    log("b")
    assert mlflow_resource.forget(later() - timedelta(days=90)) == 1
    stages = [client.get_run(run.info.run_id).info.lifecycle_stage for run in attempts]
    assert stages == ["deleted", "active"]


def test_a_transition_that_the_champion_overtook_is_void(
    registry: ModelRegistry, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in "abc":
        crowned(registry, log(text))

    def gone(*_: object) -> None:
        raise ConnectionError("MLflow")

    with monkeypatch.context() as patch:
        patch.setattr(registry, "_apply", gone)
        with pytest.raises(ConnectionError):
            registry.rollback(launch=Launch("run"))
    registry.client.set_registered_model_alias("mnist_cnn", "champion", "1")  # by hand
    with pytest.raises(RuntimeError, match="changed meanwhile to version 1: look at it"):
        registry.rollback(launch=Launch("run"))
    assert aliases(registry) == {"champion": "1"}
    assert "rolled_back" not in registry.tags("3")
    assert stages(registry) == {"1": "Production", "2": "Archived", "3": "Archived"}
