"""A registered model in MLflow: its aliases and tags, and transitions that survive a kill.

A transition is several writes. So all of it is recorded first, in one tag of the registered model,
then done step by step, and whoever comes next finishes what broke off. Each step can be repeated.
Which transitions there are, and when, is decided in `registry.py`.
"""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ml_assets.ml.errors import DataError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
CHALLENGER = "challenger"
SHADOW = "shadow"
DELETING = "deleting"
"""The tag of an MLflow run whose files are being deleted: it is not registered any more."""
ROLLBACK, PROMOTION = "rollback", "promotion by hand"
PENDING, DONE, FINISHED, REPORTED, VOID = "pending", "done", "finished", "reported", "void"

_PREFIX = "transition."
_KEPT = 20
_SETTLING_ATTEMPTS = 10
_WRITING_ATTEMPTS = 3
_LONGEST_VALUE = 1000  # of a tag in a transition, so that a transition fits in MLflow's 5,000


@dataclass(frozen=True)
class Transition:
    """What changes together.

    Attributes:
        kind: For people; transitions by hand are kept when they are done.
        version: The version it is about.
        champion: The version that is champion before.
        alias: The alias that `version` gets: `champion` or `shadow`; empty, it loses `shadow`.
        tags: Tags to set, by version.
        transition_id: The run that launched it, if a person did; its re-executions have the same.
        recorded_at: UTC.
        state: `pending`; `done`, by whoever recorded it; `finished`, by somebody else;
            `reported`, to a person who launched it again; `void`, for the champion has changed or
            the version is gone.
    """

    kind: str
    version: str
    champion: str | None
    alias: str
    tags: Mapping[str, Mapping[str, str]]
    transition_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    recorded_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat())
    state: str = PENDING

    @property
    def by_hand(self) -> bool:
        """Whether a person launched it."""
        return self.kind in {ROLLBACK, PROMOTION}


@dataclass(frozen=True)
class Launch:
    """The run in which a person moves the champion.

    Attributes:
        run_id: The run; of a re-execution, the run that was executed first.
        failed: Whether the run with this id, and each of its re-executions, failed.
        tell: Says something to the person.
    """

    run_id: str
    failed: Callable[[str], bool] = lambda _: False
    tell: Callable[[str], None] = lambda _: None


class RegisteredModelStore:
    """One registered model: what is read, and what is changed together."""

    def __init__(self, client: "MlflowClient", name: str) -> None:
        self.client = client
        self.name = name

    def aliases(self) -> dict[str, str]:
        """The version of each alias."""
        return self.read()[0]

    def versions(self) -> "list[ModelVersion]":
        """All versions."""
        return list(self.client.search_model_versions(f"name = '{self.name}'"))

    def tags(self, version: str) -> dict[str, str]:
        """The tags of a version."""
        return dict(self.client.get_model_version(self.name, version).tags)

    def set_tags(self, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            _write(self.client.set_model_version_tag, self.name, version, key, value)

    def set_alias(self, alias: str, version: str) -> None:
        """Let an alias point to a version."""
        _write(self.client.set_registered_model_alias, self.name, alias, version)

    def transitions(self) -> list[Transition]:
        """The transitions that are pending, and the latest by hand that are not, oldest first."""
        return self.read()[1]

    def read(self) -> tuple[dict[str, str], list[Transition]]:
        """Aliases and transitions as they are at one moment; empty where there is no model."""
        found = self.client.search_registered_models(f"name = '{self.name}'")
        if not found:
            return {}, []
        aliases = {alias: str(version) for alias, version in found[0].aliases.items()}
        tags = found[0].tags.items()
        known = [Transition(**json.loads(value)) for key, value in tags if key.startswith(_PREFIX)]
        return aliases, sorted(known, key=lambda one: (one.recorded_at, one.transition_id))

    def carry_out(self, transition: Transition) -> bool:
        """Record a transition and do it; False if the champion has changed meanwhile.

        Raises:
            DataError: The version is gone, or its files are being deleted.
        """
        tags = {
            version: {key: value[:_LONGEST_VALUE] for key, value in own.items()}
            for version, own in transition.tags.items()
        }
        transition = replace(transition, tags=tags)
        self._record(transition)
        if not self._usable(transition.version):
            self._close(transition, VOID)
            raise DataError(
                f"{self.name} version {transition.version} with its files",
                "a version that was deleted, because it is old and nobody needed it",
                "name another version",
            )
        return self._apply(transition, DONE)

    def finish_pending(self) -> None:
        """Finish the transitions that somebody began, whether he was killed or is at it still."""
        for transition in self.transitions():
            if transition.state == PENDING:
                self._apply(transition, FINISHED)

    def report(self, transition: Transition) -> None:
        """Note that a person knows of a transition that was finished after its run had failed."""
        self._record(replace(transition, state=REPORTED))

    def settle(self) -> None:
        """Make the other aliases and the tags `stage` follow the champion, while others move it."""
        for _ in range(_SETTLING_ATTEMPTS):
            aliases = self.aliases()
            champion = aliases.get(CHAMPION)
            for alias in (CHALLENGER, SHADOW):
                if champion and aliases.get(alias) == champion:
                    self.client.delete_registered_model_alias(self.name, alias)
                    del aliases[alias]
            for found in self.versions():
                version, stage = str(found.version), found.tags.get("stage", "None")
                wanted = _stage(version, stage, aliases)
                if wanted != stage:
                    self.set_tags(version, {"stage": wanted})
            if self.aliases() == aliases:
                return

    def needs(self, version: str) -> bool:
        """Whether a version has an alias, would be next in a rollback, or was rolled back.

        Of what was rolled back it is known by its version which weights not to promote again.
        """
        aliases, transitions = self.read()
        pending = [one for one in transitions if one.state == PENDING]
        used = {*aliases.values(), *(used for one in pending for used in one.tags)}
        if version in used or self.tags(version).get("rolled_back") == "true":
            return True
        champion = aliases.get(CHAMPION)
        return champion is not None and self.tags(champion).get("replaced") == version

    def champion(self) -> str | None:
        """The champion's version."""
        return self.aliases().get(CHAMPION)

    def _apply(self, transition: Transition, state: str) -> bool:
        """Do what of a transition is not done yet; several may do so at once."""
        aliases, transitions = self.read()
        own = [one for one in transitions if one.transition_id == transition.transition_id]
        if not own or own[0].state != PENDING:  # somebody else was quicker
            return not own or own[0].state != VOID
        champion = aliases.get(CHAMPION)
        if transition.alias == CHAMPION and champion == transition.version:
            self._tag_existing(transition)
        elif champion == transition.champion and self._usable(transition.version):
            self._tag_existing(transition)
            if transition.alias:
                self.set_alias(transition.alias, transition.version)
            elif self.aliases().get(SHADOW) == transition.version:
                self.client.delete_registered_model_alias(self.name, SHADOW)
        else:
            self._close(transition, VOID)
            return False
        self.settle()
        self._close(transition, state)
        return True

    def _tag_existing(self, transition: Transition) -> None:
        existing = {str(found.version) for found in self.versions()}
        for version, tags in transition.tags.items():
            if version in existing:
                self.set_tags(version, tags)

    def _usable(self, version: str) -> bool:
        """Whether a version is there, and nobody is deleting its files."""
        found = [one for one in self.versions() if str(one.version) == version]
        return bool(found) and not (found[0].run_id and self.is_deleted(found[0].run_id))

    def is_deleted(self, run_id: str) -> bool:
        """Whether the files of an MLflow run are deleted, or are about to be."""
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                raise
            return True
        return run.info.lifecycle_stage != "active" or DELETING in run.data.tags

    def _record(self, transition: Transition) -> None:
        key = _PREFIX + transition.transition_id
        value = json.dumps(asdict(transition), ensure_ascii=False)
        _write(self.client.set_registered_model_tag, self.name, key, value)

    def _close(self, transition: Transition, state: str) -> None:
        if transition.by_hand:
            self._record(replace(transition, state=state))
            closed = [one for one in self.transitions() if one.by_hand and one.state != PENDING]
            ended = closed[:-_KEPT]
        else:
            ended = [transition]
        for one in ended:
            self.client.delete_registered_model_tag(self.name, _PREFIX + one.transition_id)


def _write(write: Callable[..., None], *arguments: str) -> None:
    """Write what may be written twice, again if somebody else writes the same in that moment."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import BAD_REQUEST, ErrorCode

    for attempt in range(_WRITING_ATTEMPTS):
        try:
            return write(*arguments)
        except MlflowException as error:
            # A row that both insert; where it is there already, it is updated.
            conflict = error.error_code == ErrorCode.Name(BAD_REQUEST)
            if not conflict or attempt == _WRITING_ATTEMPTS - 1:
                raise
    return None


def _stage(version: str, stage: str, aliases: dict[str, str]) -> str:
    """The stage of a version, given its stage until now and the model's aliases."""
    if aliases.get(CHAMPION) == version:
        return "Production"
    if version in {aliases.get(CHALLENGER), aliases.get(SHADOW)}:
        return "Staging"
    return {"Production": "Archived", "Staging": "None"}.get(stage, stage)
