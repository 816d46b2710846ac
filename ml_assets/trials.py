"""Trials of a challenger beside the champion: what of them is the same in all groups.

How two models are scored on the same rows is each group's business, and when the evidence is enough
is decided in `promotion.py`. Here a trial begins, gathers its evidence, and ends.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from upath import UPath

from ml_assets.ml import archive, plots
from ml_assets.ml.classifiers import Comparison, image_digests, losses_of
from ml_assets.ml.days import day_of
from ml_assets.ml.errors import DataError
from ml_assets.ml.evaluation import Evaluation, Quality
from ml_assets.ml.images import ImageSplits
from ml_assets.ml.significance import confidence_sequence
from ml_assets.promotion import (
    ALREADY_CHAMPION,
    Decision,
    Policy,
    Registration,
    held_back,
    judge,
)
from ml_assets.reporting import picture
from ml_assets.resources.lakehouse import Lakehouse
from ml_assets.resources.mlflow import MlflowResource
from ml_assets.resources.registry import LoggedRun, ModelRegistry, Trial
from ml_assets.settings import timezone

if TYPE_CHECKING:
    import polars as pl


def today(group: str) -> date:
    """The day that it is in the group's time zone, for groups without partitions."""
    return day_of(datetime.now(UTC), timezone(group))


def registered(
    registry: ModelRegistry,
    logged: LoggedRun,
    evaluation: Evaluation,
    *,
    quality: Quality,
    tags: dict[str, str],
    against: Callable[[bytes | None], Decision],
    policy: Policy,
    day: date,
) -> Registration:
    """Register a training that is good enough, and let it challenge the champion.

    If it is not, the champion stays, and what follows goes on with it.

    Args:
        registry: The registered model.
        logged: The training in MLflow.
        evaluation: What it is worth.
        quality: What it must be worth.
        tags: Of the version.
        against: As of `challenged`.
        policy: Of the group.
        day: The day of the version.

    Raises:
        DataError: The training is not good enough, and there is no champion.
    """
    registry.finish_pending()
    try:
        evaluation.require(quality)
    except DataError as error:
        if not registry.champion():
            raise
        reason = f"not registered, and the champion stays: {error}"
        return Registration(False, False, reason, name=registry.name, version="")
    version = registry.register(logged, tags)
    decision = challenged(registry, version, against, policy, day)
    return Registration(**asdict(decision), name=registry.name, version=version)


def challenged(
    registry: ModelRegistry,
    version: str,
    against: Callable[[bytes | None], Decision],
    policy: Policy,
    day: date,
) -> Decision:
    """Let a version challenge the champion, as far as the policy of its group goes.

    With the policy `shadow` the first champion is made at once, and so is one that cannot be
    compared with the present one: a trial could not compare them either. Any other version goes on
    trial, unless it is worse on the test rows beyond the noise; one at a time, and each once.

    Args:
        registry: The registered model.
        version: The challenger.
        against: Given the champion's model file (None when there is no champion), decides by the
            test rows.
        policy: Of the group.
        day: The day of the version: a trial that should have ended before it ends now.
    """
    why = _why_no_trial(registry, version, policy, day) if policy.kind == "shadow" else ""

    def decide(champion: bytes | None) -> Decision:
        decision = against(champion)
        if policy.kind == "auto":
            return decision
        if policy.kind == "manual":
            return held_back(decision, "promotion is manual")
        if champion is None or (not why and not _may_be_tried(decision)):
            return decision
        return held_back(decision, why or f"on trial from {day} on, {policy.days} days at most")

    def on_trial(decision: Decision) -> date | None:
        return day if policy.kind == "shadow" and not why and _may_be_tried(decision) else None

    return registry.challenge(version, decide, on_trial) or ALREADY_CHAMPION


def _may_be_tried(decision: Decision) -> bool:
    return decision.gain is not None and not decision.regressed


def _why_no_trial(registry: ModelRegistry, version: str, policy: Policy, day: date) -> str:
    """Why a version cannot go on trial, if so; a trial that is long over is ended."""
    registry.finish_pending()
    trial = registry.trial()
    if trial and (day - trial.since).days > policy.days:
        none = np.empty(0)
        registry.end_trial(trial, judge(none, none, days_left=0, tuned_for=1))
        trial = None
    if trial:
        return f"version {trial.challenger} is on trial since {trial.since}"
    return "its trial is over" if registry.was_on_trial(version) else ""


@dataclass(frozen=True)
class OpenTrial:
    """A trial that is on, and what it takes to end it.

    Attributes:
        registry: The registered model.
        trial: The two versions, and the day on which the trial began.
        policy: Of the group.
    """

    registry: ModelRegistry
    trial: Trial
    policy: Policy

    @property
    def versions(self) -> tuple[str, str]:
        """The champion and the version on trial."""
        return self.trial.champion, self.trial.challenger

    @property
    def since(self) -> date:
        """The day on which it began."""
        return self.trial.since

    def judged(
        self, day: date, days: np.ndarray, losses: np.ndarray, *, tuned_for: int, unit: str
    ) -> dict[str, Any]:
        """Judge the evidence, end the trial if that is what it says, and tell about it.

        Args:
            day: The day until which the trial has come.
            days: `(n,)` datetime64[D], ascending: the day of each observation.
            losses: `(n, 2)` float: the losses of the champion and of the version on trial.
            tuned_for: After how many observations the test is to be sharpest.
            unit: What the losses are measured in.

        Returns:
            What the asset shows.
        """
        days_left = self.policy.days - (day - self.since).days
        champion, challenger = losses.T
        found = judge(challenger, champion, days_left=days_left, tuned_for=tuned_for)
        if found.over:
            self.registry.end_trial(self.trial, found)
        state = "promoted" if found.promote else "ended" if found.over else "on"
        means = losses.mean(axis=0) if len(losses) else [None, None]
        told = {
            "gain": found.gain,
            "gain_low": found.gain_low,
            "gain_high": found.gain_high,
            "champion_loss": means[0],
            "challenger_loss": means[1],
        }
        return {
            "running_gain": picture(_running_gain(days, champion - challenger, tuned_for, unit)),
            "trial": state,
            "reason": found.reason,
            **{name: _shown(value) for name, value in told.items()},
            "observations": len(losses),
            "model": self.registry.name,
            "champion": self.trial.champion,
            "challenger": self.trial.challenger,
            "since": str(self.since),
            "policy": str(self.policy),
        }


@contextmanager
def opened(policy: Policy, mlflow: MlflowResource, model: str) -> Iterator[OpenTrial | None]:
    """The trial of a registered model that is on, if there is one.

    Where the policy knows no trials, MLflow is not asked.
    """
    if policy.kind != "shadow":
        yield None
        return
    with mlflow.registry(model) as registry:
        registry.finish_pending()
        trial = registry.trial()
        yield OpenTrial(registry, trial, policy) if trial else None


def no_trial(policy: Policy) -> dict[str, Any]:
    """What the asset shows when no version is on trial."""
    return {"trial": "none", "policy": str(policy)}


def recorded(
    lakehouse: Lakehouse,
    table: str,
    found: OpenTrial,
    window: tuple[datetime, datetime],
    day: date,
    losses: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Put the losses of a day in the table, and read the evidence of all days of the trial.

    The rows of a day err together, so that a day is one observation: their mean.

    Args:
        lakehouse: Of the group.
        table: `group.shadow`; one row a day and registered model.
        found: The trial.
        window: When the day begins and ends.
        day: The day.
        losses: `(m, 2)` float, the losses of champion and challenger on the rows of the day;
            None leaves the day as it is, because it is none that both can be judged by.

    Returns:
        The days `(n,)` datetime64[D], ascending, and the mean losses `(n, 2)`.
    """
    import polars as pl

    first = datetime.combine(found.since, datetime.min.time(), UTC) - timedelta(days=1)
    last = first + timedelta(days=found.policy.days + 3)
    rows = pl.DataFrame(schema=_columns())
    if table in lakehouse.tables(table.partition(".")[0]):
        rows = pl.DataFrame(lakehouse.read(table, first, last))
    name = found.registry.name
    if losses is not None:
        of_day = (pl.col("day") == str(day)) & (pl.col("model") == name)
        made = _row(found, window[0], day, losses)
        rows = pl.concat([rows.filter(~of_day).select(made.columns), made])
        written = rows.filter(pl.col("day") == str(day)).to_arrow()
        lakehouse.replace(table, written, "partition_time_utc", *window)
    champion, challenger = found.versions
    rows = rows.filter(
        pl.col("day") > str(found.since),
        model=name,
        champion=champion,
        challenger=challenger,
    ).sort("day")
    return (
        rows["day"].to_numpy().astype("datetime64[D]"),
        rows.select("champion_loss", "challenger_loss").to_numpy(),
    )


def _columns() -> dict[str, Any]:
    import polars as pl

    return {
        "partition_time_utc": pl.Datetime("us", "UTC"),
        "day": pl.String,
        "model": pl.String,
        "champion": pl.String,
        "challenger": pl.String,
        "rows": pl.Int64,
        "champion_loss": pl.Float64,
        "challenger_loss": pl.Float64,
    }


def _row(found: OpenTrial, begins: datetime, day: date, losses: np.ndarray) -> "pl.DataFrame":
    """The row of a day; none if nothing happened on it."""
    import polars as pl

    means = losses.mean(axis=0).tolist() if len(losses) else []
    values = [begins.astimezone(UTC), str(day), found.registry.name, *found.versions, len(losses)]
    return pl.DataFrame([[*values, *means]] if means else [], schema=_columns(), orient="row")


def stored(path: UPath) -> Comparison:
    """The comparison that an asset left behind; an empty one if it left none that can be read."""
    try:
        return archive.load(Comparison, path)
    except (FileNotFoundError, DataError):
        # Nothing is lost: the images are scored again.
        return Comparison.empty()


def compared(before: Comparison, found: OpenTrial, images: ImageSplits, day: date) -> Comparison:
    """The same comparison, and the test images that are not in it yet.

    The same image again is no new evidence. When the two are others than before, it begins anew.

    Args:
        before: What was compared so far.
        found: The trial.
        images: The images.
        day: The day that it is.
    """
    models = [f"{found.registry.name} {version}" for version in found.versions]
    if [before.champion, before.challenger] != models:
        before = replace(Comparison.empty(), champion=models[0], challenger=models[1])
    digests, rows = np.unique(image_digests(images.test_images), return_index=True)
    rows = np.sort(rows[~np.isin(digests, before.images)])
    if not len(rows):
        return before
    unseen = replace(
        images, test_images=images.test_images[rows], test_labels=images.test_labels[rows]
    )
    losses = [losses_of(found.registry.model_file(version), unseen) for version in found.versions]
    return before.extended(
        image_digests(unseen.test_images), np.datetime64(day), np.column_stack(losses)
    )


def tried(
    policy: Policy,
    mlflow: MlflowResource,
    model: str,
    images: ImageSplits,
    before: Comparison,
    day: date,
) -> tuple[Comparison, dict[str, Any]]:
    """Carry on the trial of a classifier of images that is on, if there is one.

    Args:
        policy: Of the group.
        mlflow: Of the group.
        model: The registered model.
        images: The images; what counts are the test images.
        before: What was compared so far.
        day: The day that it is.

    Returns:
        What is compared by now, and what the asset shows.
    """
    with opened(policy, mlflow, model) as trial:
        if trial is None:
            return before, no_trial(policy)
        found = compared(before, trial, images, day)
        of_first_day = int((found.days == found.days[0]).sum())
        return found, trial.judged(
            day, found.days, found.losses, tuned_for=of_first_day, unit="accuracy"
        )


def _running_gain(days: np.ndarray, gains: np.ndarray, tuned_for: int, unit: str) -> bytes:
    """The mean gain until the end of each day, as PNG."""
    found = confidence_sequence(gains, tuned_for=tuned_for)
    last = np.flatnonzero(np.append(days[1:] != days[:-1], True)[: len(days)])
    return plots.running_gain(days[last], found.mean[last], (found.high - found.mean)[last], unit)


def _shown(value: float | None) -> float | None:
    """A number as Dagster's UI can show it: infinity is none."""
    return float(value) if value is not None and np.isfinite(value) else None
