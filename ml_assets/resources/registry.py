"""The model registry: versions, the aliases `challenger`, `shadow` and `champion`, and rollback.

The alias is the truth: a registered model has at most one champion, because an alias points to
one version, and at most one version on trial beside it (`shadow`). The tag `stage` follows the
aliases, for those who think in stages. Whether a challenger deserves promotion is decided in
`promotion.py`, not here; how a transition survives a kill, in `registered_model.py`.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from ml_assets.ml.archive import check_sha256
from ml_assets.ml.errors import DataError
from ml_assets.ml.untrusted import read_regular
from ml_assets.resources.deadlines import within
from ml_assets.resources.registered_model import (
    CHALLENGER,
    CHAMPION,
    DONE,
    FINISHED,
    PROMOTION,
    ROLLBACK,
    SHADOW,
    VOID,
    Launch,
    RegisteredModelStore,
    Transition,
)

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


class ModelRegistry(RegisteredModelStore):
    """One registered model; whatever changes it first finishes what somebody else began."""

    def register(self, logged: LoggedRun, tags: dict[str, str]) -> str:
        """Make a logged model the challenger; the same training is registered once.

        Args:
            logged: The model.
            tags: What else to tag the version with.

        Returns:
            The version.

        Raises:
            DataError: The logged model was deleted meanwhile.
        """
        if not self.client.search_registered_models(f"name = '{self.name}'"):
            self._create()
        self.finish_pending()
        version = self._registered(logged) or self._create_version(logged, tags)
        for _ in range(_ATTEMPTS):
            if version != self.champion():
                self.set_alias(CHALLENGER, version)
            self.settle()
            # Who promotes deletes the alias of what is promoted, and may hit the new challenger.
            aliases = self.aliases()
            if CHALLENGER in aliases or aliases.get(CHAMPION) == version:
                break
        return version

    def challenge(
        self,
        version: str,
        decide: Callable[[bytes | None], V],
        on_trial: Callable[[V], date | None] = lambda _: None,
    ) -> V | None:
        """Let `version` challenge the champion, and promote it if it wins.

        If the champion changes meanwhile, or somebody overtakes the winner, it challenges again.

        Args:
            version: The challenger.
            decide: Given the champion's model file (None when there is no champion), decides.
            on_trial: Since when it is on trial if it is not promoted; None if it is not.

        Returns:
            What was decided; None if `version` is the champion already.

        Raises:
            DataError: These weights were champion once and were rolled back, the champion's file
                is damaged, or the version was deleted.
            RuntimeError: The champion changed again and again while the two were compared.
        """
        self.finish_pending()
        self._refuse_rolled_back(version)
        if self.champion() == version:
            return None
        for _ in range(_ATTEMPTS):
            champion = self.champion()
            decision = decide(None if champion is None else self.model_file(champion))
            if self.champion() != champion:
                continue
            tags = {"decision_reason": decision.reason}
            if decision.promote:
                self._promote("challenge", version, champion, {version: tags})
                if self.champion() == version:
                    return decision
                continue
            if since := on_trial(decision):
                self.begin_trial(version, since, decision.reason)
            elif not self.was_on_trial(version):  # what its trial says stays
                self.set_tags(version, tags)
            return decision
        raise RuntimeError(f"the champion of {self.name} keeps changing: try again later")

    def rollback(self, version: str | None = None, launch: Launch | None = None) -> tuple[str, str]:
        """Make `version` the champion, or the one that the present champion replaced.

        The weights that are rolled back are not promoted again by a challenge. A run that is
        executed again goes back once; so does a run that is launched because another one failed.

        Returns:
            The version that was champion, and the one that is now.

        Raises:
            DataError: There is no champion, nothing that it replaced, or no such version.
            RuntimeError: The champion changed meanwhile.
        """
        aliases, earlier = self._launched_before(ROLLBACK, version, launch)
        if earlier:
            return str(earlier.champion), earlier.version
        champion = aliases.get(CHAMPION)
        if champion is None:
            raise DataError(f"a champion of {self.name}", "none", _NO_CHAMPION)
        target = self._other(version or self.tags(champion).get("replaced"), champion, "go back to")
        tags = {
            champion: {"rolled_back": "true", "decision_reason": f"rolled back to {target}"},
            target: {"rolled_back": "false", "decision_reason": f"rolled back from {champion}"},
        }
        self._move(Transition(ROLLBACK, target, champion, CHAMPION, tags), launch)
        return champion, target

    def promote(
        self, version: str | None = None, launch: Launch | None = None
    ) -> tuple[str | None, str]:
        """Make `version` the champion, or the present challenger, because a person says so.

        Executed again, or launched because another run failed, it promotes once, as a rollback.

        Returns:
            The version that was champion, if there was one, and the one that is now.

        Raises:
            DataError: There is no such version, it is the champion already, or it was rolled back.
            RuntimeError: The champion changed meanwhile.
        """
        aliases, earlier = self._launched_before(PROMOTION, version, launch)
        if earlier:
            return earlier.champion, earlier.version
        champion = aliases.get(CHAMPION)
        target = self._other(version or aliases.get(CHALLENGER), champion, "promote")
        self._refuse_rolled_back(target)
        tags = {target: _replacing(champion) | {"decision_reason": "promoted by hand"}}
        self._move(Transition(PROMOTION, target, champion, CHAMPION, tags), launch)
        return champion, target

    def trial(self) -> Trial | None:
        """The trial that is on; a version that became champion meanwhile is on none."""
        aliases = self.aliases()
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

    def begin_trial(self, version: str, since: date, reason: str = "") -> None:
        """Put a version on trial; it is decided when the trial ends."""
        tags = {_SINCE: str(since), _BEGAN: "true"}
        if reason:
            tags["decision_reason"] = reason
        self.finish_pending()
        champion = self.champion()
        self.carry_out(Transition("trial begins", version, champion, SHADOW, {version: tags}))

    def was_on_trial(self, version: str) -> bool:
        """Whether a trial of this version began once."""
        return _BEGAN in self.tags(version)

    def end_trial(self, trial: Trial, verdict: Verdict) -> None:
        """End a trial: its version becomes the champion, or the champion stays.

        Raises:
            DataError: The weights on trial were champion once and were rolled back.
            RuntimeError: The champion changed after the trial was read.
        """
        self.finish_pending()
        version = trial.challenger
        if verdict.promote:
            self._refuse_rolled_back(version)
        changed = RuntimeError(f"the champion of {self.name} has changed: compare with the new one")
        if self.champion() != trial.champion:
            raise changed
        tags = {version: {"decision_reason": verdict.reason}}
        if verdict.promote:
            done = self._promote("trial won", version, trial.champion, tags)
        else:
            done = self.carry_out(Transition("trial lost", version, trial.champion, "", tags))
        if not done:
            raise changed

    def champion_file(self) -> tuple[str, bytes]:
        """The champion's version and its model file, compared with its digest.

        Raises:
            DataError: There is no champion, or its file was changed.
        """
        version = self.champion()
        if version is None:
            raise DataError(f"a champion of {self.name}", "none", _NO_CHAMPION)
        return version, self.model_file(version)

    def model_file(self, version: str) -> bytes:
        """The model file of a version, compared with the digest in the registry.

        Raises:
            DataError: The file was changed after it was registered, or it has no digest.
        """
        from mlflow.artifacts import download_artifacts

        found = self.client.get_model_version(self.name, version)
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

    def _registered(self, logged: LoggedRun) -> str | None:
        """The version of a training; of several, one that is needed, else the first."""
        same = [
            str(found.version)
            for found in self.versions()
            if found.run_id == logged.run_id
            or (
                found.tags.get("training_id") == logged.training_id
                and not self.is_deleted(found.run_id)
            )
        ]
        return min(same, key=lambda version: (not self.needs(version), int(version)), default=None)

    def _create_version(self, logged: LoggedRun, tags: dict[str, str]) -> str:
        created = self.client.create_model_version(
            self.name,
            # Not as it was logged: the files may have been moved since.
            source=self.client.get_logged_model(logged.model_id).artifact_location,
            run_id=logged.run_id,
            model_id=logged.model_id,
            tags={
                **tags,
                "stage": "None",
                "sha256": logged.model_sha256,
                "weights_sha256": logged.weights_sha256,
                "model_file": logged.model_file,
                "training_id": logged.training_id,
            },
        )
        version = str(created.version)
        # Asked now, because who deletes old runs marks a run before it looks for its versions.
        deleted = self.is_deleted(logged.run_id)
        first = self._registered(logged)
        if deleted or first != version:  # somebody else registers the same training
            self.client.delete_model_version(self.name, version)
        if deleted or first is None:
            raise DataError(
                f"the model of MLflow run {logged.run_id}",
                "a run that was deleted, because it is old and nobody needed it",
                "materialize mlflow_run again, then registered_model",
            )
        return first

    def _launched_before(
        self, kind: str, version: str | None, launch: Launch | None
    ) -> tuple[dict[str, str], Transition | None]:
        """The aliases, and what this launch asks for, if it was done before.

        That is so if its run is executed again, or if the latest transition by hand was finished
        after its run had failed: then a person means that one. Both are of one moment, so that two
        who launch at once want the same.
        """
        self.finish_pending()
        self.settle()
        aliases, transitions = self.read()
        by_hand = [one for one in transitions if one.by_hand]
        own = [one for one in by_hand if launch and one.transition_id == launch.run_id]
        if own and own[0].state == VOID:
            raise self._champion_changed()
        if own:
            return aliases, own[0]
        last = by_hand[-1] if by_hand else None
        if (
            last is None
            or last.kind != kind
            or version not in {None, last.version}
            or aliases.get(CHAMPION) != last.version
            or not _has_failed(last, launch)
        ):
            return aliases, None
        self.report(last)
        if launch:
            launch.tell(
                f"the {kind} of {self.name} from version {last.champion} to {last.version}, whose "
                "run had not ended well, is done; launch the job again to go further"
            )
        return aliases, last

    def _move(self, transition: Transition, launch: Launch | None) -> None:
        if launch:
            transition = replace(transition, transition_id=launch.run_id)
        if not self.carry_out(transition):
            raise self._champion_changed()

    def _promote(
        self, kind: str, version: str, champion: str | None, tags: dict[str, dict[str, str]]
    ) -> bool:
        tags = {version: tags[version] | _replacing(champion)}
        return self.carry_out(Transition(kind, version, champion, CHAMPION, tags))

    def _champion_changed(self) -> RuntimeError:
        return RuntimeError(
            f"the champion of {self.name} changed meanwhile to version {self.champion()}: look at "
            "it, and launch the job again if it is still wanted"
        )

    def _other(self, target: str | None, champion: str | None, purpose: str) -> str:
        known = sorted(str(found.version) for found in self.versions())
        if target is None or target not in known or target == champion:
            raise DataError(
                f"a version of {self.name} other than the champion, {champion}, to {purpose}",
                f"version {target} of {known}",
                "name one of these versions in the job's configuration",
            )
        return target

    def _refuse_rolled_back(self, version: str) -> None:
        weights = self.tags(version).get("weights_sha256")
        for found in self.versions():
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


def _has_failed(transition: Transition, launch: Launch | None) -> bool:
    if transition.state == DONE and launch:
        return launch.failed(transition.transition_id)
    return transition.state == FINISHED


def _replacing(champion: str | None) -> dict[str, str]:
    return {"replaced": champion} if champion else {}
