"""How trials begin, gather evidence and end, on a real registry and a real lakehouse."""

import dataclasses
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from upath import UPath

from ml_assets import trials
from ml_assets.ml import archive
from ml_assets.ml.classifiers import Comparison, image_digests
from ml_assets.ml.images import ImageSplits
from ml_assets.promotion import ALREADY_CHAMPION, Decision, Policy, keep_later
from ml_assets.resources.lakehouse import Lakehouse
from ml_assets.resources.mlflow import MlflowResource
from ml_assets.resources.registry import LoggedRun, ModelRegistry, Trial
from ml_assets_tests.resources.test_mlflow import TRAINING

NAME, TABLE = "power_model", "power.shadow"
AUTO, MANUAL, SHADOW = Policy("auto"), Policy("manual"), Policy("shadow", 14)
DAY = date(2026, 1, 1)
FIRST = Decision(True, False, "the first model that passed its floor")
BETTER = Decision(True, False, "better", 0.1, 0.05, 0.15)
WORSE = Decision(False, True, "worse", -0.1, -0.15, -0.05)
SAME = Decision(False, False, "not distinguishable", 0.0, -0.1, 0.1)
LATER = keep_later({"trained_until": "2026-01-01"}, {"trained_until": "2026-01-02"})
EARLIER = keep_later({"trained_until": "2026-01-02"}, {"trained_until": "2026-01-01"})

Log = Callable[[str], LoggedRun]


@dataclasses.dataclass
class Group:
    """The registry of a group, in which a version is a letter."""

    registry: ModelRegistry
    log: Log

    def register(self, text: str, decision: Decision, policy: Policy, day: date = DAY) -> Decision:
        """Register a version, and let it challenge the champion with this outcome."""
        version = self.registry.register(self.log(text), {})

        def against(champion: bytes | None) -> Decision:
            return FIRST if champion is None else decision

        return trials.challenged(self.registry, version, against, policy, day)

    @property
    def aliases(self) -> dict[str, str]:
        found = self.registry.client.get_registered_model(NAME).aliases
        return {alias: str(version) for alias, version in found.items()}

    def open(self, policy: Policy = SHADOW) -> trials.OpenTrial:
        trial = self.registry.trial()
        assert trial is not None
        return trials.OpenTrial(self.registry, trial, policy)


@pytest.fixture
def group(mlflow_resource: MlflowResource) -> Group:
    def log(text: str) -> LoggedRun:
        def save(directory: Path) -> str:
            directory.mkdir()
            (directory / "model.txt").write_text(text)
            return "model.txt"

        return mlflow_resource.log(
            dataclasses.replace(TRAINING, training_id=text, weights_sha256=text), save
        )

    return Group(ModelRegistry(MlflowClient(mlflow_resource.tracking_uri), NAME), log)


@pytest.fixture
def on_trial(group: Group) -> Group:
    """Version 1 is champion, version 2 is on trial since DAY."""
    group.register("a", FIRST, SHADOW)
    group.register("b", SAME, SHADOW)
    return group


# Who is promoted, and who goes on trial.


def test_with_auto_the_test_rows_decide(group: Group) -> None:
    assert group.register("a", BETTER, AUTO) is FIRST
    assert group.register("b", SAME, AUTO) is SAME
    assert group.aliases == {"champion": "1", "challenger": "2"}
    assert group.register("c", BETTER, AUTO) is BETTER
    assert group.aliases["champion"] == "3"
    assert group.register("c", WORSE, AUTO) is ALREADY_CHAMPION


def test_with_manual_nothing_is_promoted_by_itself_not_even_the_first(group: Group) -> None:
    found = group.register("a", BETTER, MANUAL)
    assert not found.promote
    assert found.reason == f"promotion is manual; on the test rows: {FIRST.reason}"
    assert group.aliases == {"challenger": "1"}
    group.registry.promote()
    found = group.register("b", BETTER, MANUAL)
    assert not found.promote
    assert found.gain == BETTER.gain
    assert group.aliases == {"champion": "1", "challenger": "2"}
    assert group.register("c", WORSE, MANUAL).regressed
    assert group.register("d", LATER, MANUAL).promote is False


def test_with_shadow_the_first_model_is_champion_and_the_next_goes_on_trial(group: Group) -> None:
    assert group.register("a", BETTER, SHADOW) is FIRST
    assert group.aliases == {"champion": "1"}
    found = group.register("b", BETTER, SHADOW)
    assert not found.promote
    assert "on trial from 2026-01-01 on, 14 days at most" in found.reason
    assert group.aliases == {"champion": "1", "challenger": "2", "shadow": "2"}
    assert group.registry.trial() == Trial("1", "2", DAY)


def test_a_new_version_every_day_does_not_disturb_a_trial(on_trial: Group) -> None:
    for number, text in enumerate("cde", start=1):
        for decision in (BETTER, LATER):
            found = on_trial.register(text, decision, SHADOW, DAY + timedelta(days=number))
            assert not found.promote
            assert "version 2 is on trial since 2026-01-01" in found.reason
    assert on_trial.aliases == {"champion": "1", "challenger": "5", "shadow": "2"}
    assert on_trial.registry.trial() == Trial("1", "2", DAY)


def test_the_same_version_again_goes_on_with_its_trial_and_has_no_second(on_trial: Group) -> None:
    on_trial.register("b", SAME, SHADOW, DAY + timedelta(days=2))
    assert on_trial.registry.trial() == Trial("1", "2", DAY)
    on_trial.registry.end_trial(on_trial.open().trial, SAME)
    assert "its trial is over" in on_trial.register("b", BETTER, SHADOW).reason
    assert on_trial.registry.trial() is None
    on_trial.register("c", SAME, SHADOW)
    assert on_trial.registry.trial() == Trial("1", "3", DAY)


def test_who_is_worse_on_the_test_rows_is_not_tried(group: Group) -> None:
    group.register("a", FIRST, SHADOW)
    assert group.register("b", WORSE, SHADOW) is WORSE
    assert group.registry.trial() is None


def test_who_cannot_be_compared_needs_no_trial(group: Group) -> None:
    group.register("a", FIRST, SHADOW)
    assert group.register("b", EARLIER, SHADOW) is EARLIER
    assert group.registry.trial() is None
    assert group.register("c", LATER, SHADOW) is LATER
    assert group.aliases["champion"] == "3"


def test_a_trial_that_nobody_looked_at_until_it_was_over_makes_room(on_trial: Group) -> None:
    last, after = (DAY + timedelta(days=days) for days in (14, 15))
    assert "version 2 is on trial" in on_trial.register("c", SAME, SHADOW, last).reason
    assert "on trial from 2026-01-16 on" in on_trial.register("d", SAME, SHADOW, after).reason
    assert on_trial.registry.trial() == Trial("1", "4", after)
    assert "the days are over" in on_trial.registry.tags("2")["decision_reason"]


def test_without_trials_mlflow_is_not_asked(mlflow_resource: MlflowResource) -> None:
    down = MlflowResource(**mlflow_resource.model_dump() | {"tracking_uri": "http://127.0.0.1:9"})
    for policy in (AUTO, MANUAL):
        with trials.opened(policy, down, NAME) as found:
            assert found is None
    with trials.opened(SHADOW, mlflow_resource, NAME) as found:
        assert found is None
    assert trials.no_trial(AUTO) == {"trial": "none", "policy": "auto"}


# The evidence of days.


@pytest.fixture
def lakehouse(tmp_path: Path) -> Lakehouse:
    return Lakehouse(
        catalog_uri=f"sqlite:///{tmp_path}/lakehouse.db", warehouse=str(tmp_path / "warehouse")
    )


def window(day: date) -> tuple[datetime, datetime]:
    begins = datetime.combine(day, datetime.min.time(), UTC)
    return begins, begins + timedelta(days=1)


def record(
    lakehouse: Lakehouse, group: Group, number: int, losses: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    day = DAY + timedelta(days=number)
    return trials.recorded(lakehouse, TABLE, group.open(), window(day), day, losses)


def losses(champion: float, challenger: float) -> np.ndarray:
    return np.array([[champion - 0.1, challenger], [champion + 0.1, challenger]])


def rows(lakehouse: Lakehouse) -> list[dict[str, object]]:
    return lakehouse.read(TABLE, window(DAY)[0], window(DAY + timedelta(days=60))[0]).to_pylist()


def test_a_day_is_one_observation_and_is_there_once(on_trial: Group, lakehouse: Lakehouse) -> None:
    record(lakehouse, on_trial, 1, losses(1.0, 0.8))
    days, means = record(lakehouse, on_trial, 2, losses(1.2, 0.9))
    assert [str(day) for day in days] == ["2026-01-02", "2026-01-03"]
    assert means == pytest.approx(np.array([[1.0, 0.8], [1.2, 0.9]]))
    before = rows(lakehouse)
    again, _ = record(lakehouse, on_trial, 1, losses(1.0, 0.8))
    assert list(again) == list(days)
    assert rows(lakehouse) == before
    assert before[0] == {
        "partition_time_utc": window(date(2026, 1, 2))[0],
        "day": "2026-01-02",
        "model": NAME,
        "champion": "1",
        "challenger": "2",
        "rows": 2,
        "champion_loss": pytest.approx(1.0),
        "challenger_loss": pytest.approx(0.8),
    }


def test_a_day_that_cannot_be_judged_by_is_left_as_it_is(
    on_trial: Group, lakehouse: Lakehouse
) -> None:
    days, means = record(lakehouse, on_trial, 0, None)
    assert (len(days), means.shape) == (0, (0, 2))
    record(lakehouse, on_trial, 1, losses(1.0, 0.8))
    days, _ = record(lakehouse, on_trial, 1, None)
    assert len(days) == len(rows(lakehouse)) == 1
    # A day without rows has no observation; neither has one whose rows were taken back.
    days, _ = record(lakehouse, on_trial, 2, np.empty((0, 2)))
    assert len(days) == 1
    days, _ = record(lakehouse, on_trial, 1, np.empty((0, 2)))
    assert len(days) == len(rows(lakehouse)) == 0


def test_the_evidence_is_of_the_two_models_alone(on_trial: Group, lakehouse: Lakehouse) -> None:
    record(lakehouse, on_trial, 1, losses(1.0, 0.8))
    on_trial.registry.promote(on_trial.registry.register(on_trial.log("c"), {}))
    days, _ = record(lakehouse, on_trial, 2, losses(1.0, 0.8))
    assert [str(day) for day in days] == ["2026-01-03"]
    assert len(rows(lakehouse)) == 2

    # Another model of the group keeps its row of the day.
    other = ModelRegistry(on_trial.registry.client, "power_other")
    found = trials.OpenTrial(other, Trial("1", "2", DAY), SHADOW)
    day = DAY + timedelta(days=1)
    trials.recorded(lakehouse, TABLE, found, window(day), day, losses(1.0, 0.8))
    assert sorted(str(row["model"]) for row in rows(lakehouse)) == [NAME, NAME, "power_other"]


def evidence(gain: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """So many days on which the challenger is better by about as much."""
    days = np.datetime64(DAY) + 1 + np.arange(count)
    champion = 1 + 0.1 * np.random.default_rng(0).standard_normal(count)
    noise = 0.02 * np.random.default_rng(1).standard_normal(count)
    return days, np.column_stack([champion, champion - gain + noise])


def judged(group: Group, gain: float, count: int) -> dict[str, object]:
    return group.open().judged(
        DAY + timedelta(days=count), *evidence(gain, count), tuned_for=14, unit="kW"
    )


def test_a_trial_that_is_on_tells_how_it_stands(on_trial: Group) -> None:
    found = judged(on_trial, 0.1, 3)
    assert (found["trial"], found["observations"]) == ("on", 3)
    assert "not enough yet, 11 days are left" in str(found["reason"])
    assert (found["model"], found["champion"], found["challenger"]) == (NAME, "1", "2")
    assert (found["since"], found["policy"]) == ("2026-01-01", "shadow(14)")
    assert found["gain"] == pytest.approx(0.1, abs=0.03)
    assert found["gain_low"] is found["gain_high"] is None
    assert found["running_gain"].value.startswith("![](data:image/png;base64,")  # type: ignore[attr-defined]
    assert on_trial.registry.trial() is not None


def test_evidence_for_the_challenger_promotes_it(on_trial: Group) -> None:
    found = judged(on_trial, 0.1, 10)
    assert found["trial"] == "promoted"
    assert 0 < found["gain_low"] < found["gain"]  # type: ignore[operator]
    assert on_trial.aliases == {"champion": "2"}
    assert on_trial.registry.tags("2")["decision_reason"] == found["reason"]


@pytest.mark.parametrize(("gain", "count"), [(-0.1, 10), (0.0, 14), (0.1, 0)])
def test_without_evidence_for_it_the_champion_stays(
    on_trial: Group, gain: float, count: int
) -> None:
    day = DAY + timedelta(days=count or 14)
    found = on_trial.open().judged(day, *evidence(gain, count), tuned_for=14, unit="kW")
    assert found["trial"] == "ended"
    assert on_trial.aliases == {"champion": "1", "challenger": "2"}
    assert on_trial.registry.tags("2")["decision_reason"] == found["reason"]


# The evidence of images.


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each model was asked for; champion `a` misses all, challenger none."""
    asked: list[int] = []

    def losses_of(model: bytes, images: ImageSplits) -> np.ndarray:
        asked.append(len(images.test_images))
        return np.full(len(images.test_images), float(model == b"a"))

    monkeypatch.setattr(trials, "losses_of", losses_of)
    return asked


def test_each_image_counts_once(on_trial: Group, digits: ImageSplits, scored: list[int]) -> None:
    half = dataclasses.replace(
        digits, test_images=digits.test_images[:50], test_labels=digits.test_labels[:50]
    )
    first = trials.compared(Comparison.empty(), on_trial.open(), half, DAY)
    assert (first.champion, first.challenger) == (f"{NAME} 1", f"{NAME} 2")
    assert list(first.images) == list(image_digests(half.test_images))
    assert (first.losses == [1.0, 0.0]).all()
    assert trials.compared(first, on_trial.open(), half, DAY + timedelta(days=7)) is first
    both = trials.compared(first, on_trial.open(), digits, DAY + timedelta(days=7))
    assert scored == [50, 50, 50, 50]
    assert np.array_equal(both.images, image_digests(digits.test_images))
    assert [str(day) for day in np.unique(both.days)] == ["2026-01-01", "2026-01-08"]

    # Against another champion it begins anew.
    on_trial.registry.promote(on_trial.registry.register(on_trial.log("c"), {}))
    anew = trials.compared(both, on_trial.open(), half, DAY)
    assert anew.champion == f"{NAME} 3"
    assert len(anew.images) == 50


def test_a_comparison_that_cannot_be_read_begins_anew(tmp_path: Path) -> None:
    path = UPath(tmp_path / "shadow.zip")
    assert len(trials.stored(path).images) == 0
    images = np.arange(3, dtype=np.uint64)
    whole = Comparison.empty().extended(images, np.datetime64(DAY), np.zeros((3, 2)))
    archive.save(whole, path)
    assert list(trials.stored(path).images) == [0, 1, 2]
    path.write_bytes(path.read_bytes()[:100])
    assert len(trials.stored(path).images) == 0
