"""The model registry: versions, the aliases `challenger`, `shadow` and `champion`, and rollback.

The alias is the truth: a registered model has at most one champion, because an alias points to
one version, and at most one version on trial beside it (`shadow`). The tag `stage` follows the
aliases, for those who think in stages. Whether a challenger deserves promotion is decided in
`promotion.py`, not here.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from ml_assets.ml.archive import check_sha256
from ml_assets.ml.errors import DataError
from ml_assets.ml.untrusted import read_regular
from ml_assets.resources.deadlines import within

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
CHALLENGER = "challenger"
SHADOW = "shadow"
_ATTEMPTS = 10
_MAX_MODEL_BYTES = 1 << 33
_DOWNLOAD_SECONDS = 3600
_SINCE = "shadow_since"
_BEGAN = "shadow_began"
_NO_CHAMPION = (
    "materialize registered_model first; where promotion is manual, the group's promote job then "
    "makes a version champion"
)


@dataclass(frozen=True)
class LoggedRun:
    """A finished MLflow run and the model it holds.

    Attributes:
        run_id: The MLflow run.
        experiment_id: Its experiment.
        model_id: The logged model.
        location: Where the logged model's files are.
        model_file: Path of the model's file below `location`.
        model_sha256: Digest of that file.
        weights_sha256: Digest of the weights, the same however the model is saved.
        training_id: The training that was logged.
    """

    run_id: str
    experiment_id: str
    model_id: str
    location: str
    model_file: str
    model_sha256: str
    weights_sha256: str
    training_id: str


@dataclass(frozen=True)
class Trial:
    """A version on trial beside the champion.

    Attributes:
        champion: The champion's version.
        challenger: The version on trial.
        since: The day on which the trial began.
    """

    champion: str
    challenger: str
    since: date


class Verdict(Protocol):
    """The outcome of a comparison with the champion."""

    @property
    def promote(self) -> bool:
        """The challenger becomes the champion."""

    @property
    def reason(self) -> str:
        """Why, in one sentence."""


V = TypeVar("V", bound=Verdict)


class ModelRegistry:
    """One registered model."""

    def __init__(self, client: "MlflowClient", name: str) -> None:
        self.client = client
        self.name = name

    def register(self, logged: LoggedRun, tags: dict[str, str]) -> str:
        """Make a logged model the challenger; the same run is registered once.

        Args:
            logged: The model.
            tags: What else to tag the version with.

        Returns:
            The version.
        """
        if not self.client.search_registered_models(f"name = '{self.name}'"):
            self._create()
        versions = self.client.search_model_versions(
            f"name = '{self.name}' and run_id = '{logged.run_id}'"
        )
        if versions:
            version = str(versions[0].version)
        else:
            created = self.client.create_model_version(
                self.name,
                source=logged.location,
                run_id=logged.run_id,
                model_id=logged.model_id,
                tags={
                    **tags,
                    "stage": "None",
                    "sha256": logged.model_sha256,
                    "weights_sha256": logged.weights_sha256,
                    "model_file": logged.model_file,
                },
            )
            version = str(created.version)
        if version != self.champion():
            self.client.set_registered_model_alias(self.name, CHALLENGER, version)
        self._settle_stages()
        return version

    def challenge(self, version: str, decide: Callable[[bytes | None], V]) -> V | None:
        """Let `version` challenge the champion, and promote it if it wins.

        If the champion changes meanwhile, or somebody overtakes the winner, it challenges again.

        Args:
            version: The challenger.
            decide: Given the champion's model file (None when there is no champion), decides.

        Returns:
            What was decided; None if `version` is the champion already.

        Raises:
            DataError: These weights were champion once and were rolled back, or the champion's
                file is damaged.
            RuntimeError: The champion changed again and again while the two were compared.
        """
        self._refuse_rolled_back(version)
        if self.champion() == version:
            return None
        for _ in range(_ATTEMPTS):
            champion = self.champion()
            decision = decide(None if champion is None else self.model_file(champion))
            if self.champion() != champion:
                continue
            self._tag(version, decision_reason=decision.reason)
            if not decision.promote:
                return decision
            self._crown(version, replaced=champion)
            if self.champion() == version:
                return decision
        raise RuntimeError(f"the champion of {self.name} keeps changing: try again later")

    def rollback(self, version: str | None = None) -> tuple[str, str]:
        """Make `version` the champion, or the one that the present champion replaced.

        The weights that are rolled back are not promoted again by a challenge.

        Returns:
            The version that was champion, and the one that is now.

        Raises:
            DataError: There is no champion, nothing that it replaced, or no such version.
        """
        champion = self.champion()
        if champion is None:
            raise DataError(f"a champion of {self.name}", "none", _NO_CHAMPION)
        target = version or self._version(champion).tags.get("replaced")
        known = {str(found.version): found for found in self._versions()}
        if target not in known or target == champion:
            raise DataError(
                f"a version of {self.name} other than the champion, {champion}, to go back to",
                f"version {target} of {sorted(known)}",
                "name one of these versions in the job's configuration",
            )
        self._tag(champion, rolled_back="true", decision_reason=f"rolled back to {target}")
        self._tag(target, rolled_back="false", decision_reason=f"rolled back from {champion}")
        self._crown(target, replaced=known[target].tags.get("replaced"))
        return champion, target

    def promote(self, version: str | None = None) -> tuple[str | None, str]:
        """Make `version` the champion, or the present challenger, because a person says so.

        Returns:
            The version that was champion, if there was one, and the one that is now.

        Raises:
            DataError: There is no such version, it is the champion already, or it was rolled back.
        """
        aliases = self._aliases()
        champion, target = aliases.get(CHAMPION), version or aliases.get(CHALLENGER)
        known = sorted(str(found.version) for found in self._versions())
        if target not in known or target == champion:
            raise DataError(
                f"a version of {self.name} other than the champion, {champion}, to promote",
                f"version {target} of {known}",
                "name one of these versions in the job's configuration",
            )
        self._refuse_rolled_back(target)
        self._tag(target, decision_reason="promoted by hand")
        self._crown(target, replaced=champion)
        return champion, target

    def trial(self) -> Trial | None:
        """The trial that is on; a version that became champion meanwhile is on none."""
        aliases = self._aliases()
        champion, challenger = aliases.get(CHAMPION), aliases.get(SHADOW)
        if champion is None or challenger in {None, champion}:
            return None
        tags = self.tags(challenger)
        if _SINCE not in tags:
            raise DataError(
                f"the tag {_SINCE} on {self.name} version {challenger}, which is on trial",
                f"{sorted(tags)}",
                f"delete the alias {SHADOW}, which nobody sets by hand",
            )
        return Trial(champion, challenger, date.fromisoformat(tags[_SINCE]))

    def begin_trial(self, version: str, since: date) -> None:
        """Put a version on trial; it is decided when the trial ends."""
        self._tag(version, **{_SINCE: str(since)})
        self.client.set_registered_model_alias(self.name, SHADOW, version)
        self._settle_stages()
        self._tag(version, **{_BEGAN: "true"})  # what breaks off before this begins anew

    def was_on_trial(self, version: str) -> bool:
        """Whether a trial of this version began once."""
        return _BEGAN in self.tags(version)

    def end_trial(self, trial: Trial, verdict: Verdict) -> None:
        """End a trial: its version becomes the champion, or the champion stays.

        Raises:
            DataError: The weights on trial were champion once and were rolled back.
            RuntimeError: The champion changed after the trial was read.
        """
        if verdict.promote:
            self._refuse_rolled_back(trial.challenger)
        if self.champion() != trial.champion:
            raise RuntimeError(f"the champion of {self.name} has changed: compare with the new one")
        self._tag(trial.challenger, decision_reason=verdict.reason)
        if verdict.promote:
            self._crown(trial.challenger, replaced=trial.champion)
        else:
            self.client.delete_registered_model_alias(self.name, SHADOW)
            self._settle_stages()

    def needs(self, version: str) -> bool:
        """Whether a version has an alias, would be next in a rollback, or was rolled back.

        Of what was rolled back it is known by its version which weights not to promote again.
        """
        aliases = self._aliases()
        if version in aliases.values() or self.tags(version).get("rolled_back") == "true":
            return True
        champion = aliases.get(CHAMPION)
        return champion is not None and self.tags(champion).get("replaced") == version

    def champion(self) -> str | None:
        """The champion's version."""
        return self._aliases().get(CHAMPION)

    def champion_file(self) -> tuple[str, bytes]:
        """The champion's version and its model file, compared with its digest.

        Raises:
            DataError: There is no champion, or its file was changed.
        """
        version = self.champion()
        if version is None:
            raise DataError(f"a champion of {self.name}", "none", _NO_CHAMPION)
        return version, self.model_file(version)

    def tags(self, version: str) -> dict[str, str]:
        """The tags of a version."""
        return dict(self._version(version).tags)

    def model_file(self, version: str) -> bytes:
        """The model file of a version, compared with the digest in the registry.

        Raises:
            DataError: The file was changed after it was registered, or it has no digest.
        """
        from mlflow.artifacts import download_artifacts

        found = self._version(version)
        remedy = f"roll {self.name} back to a sound version"
        if not {"sha256", "model_file"} <= set(found.tags):
            raise DataError(
                f"the tags sha256 and model_file on {self.name} version {version}",
                f"{sorted(found.tags)}",
                remedy,
            )
        with tempfile.TemporaryDirectory() as directory:
            downloaded = within(
                _DOWNLOAD_SECONDS,
                f"The download of {self.name} version {version}",
                partial(
                    download_artifacts,
                    artifact_uri=found.source,
                    dst_path=directory,
                    tracking_uri=self.client.tracking_uri,
                ),
            )
            place = Path(downloaded) / found.tags["model_file"]
            data = read_regular(place, _MAX_MODEL_BYTES, remedy)
        check_sha256(data, found.tags["sha256"], f"{self.name} version {version}", remedy)
        return data

    def _refuse_rolled_back(self, version: str) -> None:
        weights = self._version(version).tags.get("weights_sha256")
        for found in self._versions():
            same = str(found.version) == version or found.tags.get("weights_sha256") == weights
            if same and found.tags.get("rolled_back") == "true":
                raise DataError(
                    f"a challenger of {self.name} that was not rolled back",
                    f"version {version} with the weights of version {found.version}, which was",
                    "train with other data or another configuration, or make the version champion "
                    "by the rollback job",
                )

    def _create(self) -> None:
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

        try:
            self.client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise

    def _crown(self, version: str, replaced: str | None) -> None:
        if replaced:
            self._tag(version, replaced=replaced)
        self.client.set_registered_model_alias(self.name, CHAMPION, version)
        aliases = self._aliases()
        for alias in (CHALLENGER, SHADOW):
            if aliases.get(alias) == version:
                self.client.delete_registered_model_alias(self.name, alias)
        self._settle_stages()

    def _settle_stages(self) -> None:
        """Make the `stage` tags follow the aliases, also while others move the aliases."""
        for _ in range(_ATTEMPTS):
            aliases = self._aliases()
            for found in self._versions():
                version, stage = str(found.version), found.tags.get("stage", "None")
                wanted = _stage(version, stage, aliases)
                if wanted != stage:
                    self._tag(version, stage=wanted)
            if self._aliases() == aliases:
                return

    def _tag(self, version: str, **tags: str) -> None:
        for key, value in tags.items():
            self.client.set_model_version_tag(self.name, version, key, value)

    def _aliases(self) -> dict[str, str]:
        found = self.client.search_registered_models(f"name = '{self.name}'")
        return {alias: str(version) for alias, version in found[0].aliases.items()} if found else {}

    def _versions(self) -> "list[ModelVersion]":
        return list(self.client.search_model_versions(f"name = '{self.name}'"))

    def _version(self, version: str) -> "ModelVersion":
        return self.client.get_model_version(self.name, version)


def _stage(version: str, stage: str, aliases: dict[str, str]) -> str:
    """The stage of a version, given its stage until now and the model's aliases."""
    if aliases.get(CHAMPION) == version:
        return "Production"
    if version in {aliases.get(CHALLENGER), aliases.get(SHADOW)}:
        return "Staging"
    return {"Production": "Archived", "Staging": "None"}.get(stage, stage)
