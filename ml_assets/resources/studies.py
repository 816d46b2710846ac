"""Optuna studies that outlive the process: a search that was killed goes on where it stopped.

What is searched for is the groups' business; here is only where the trials are kept.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from ml_assets.resources.database_urls import parsed
from ml_assets.settings import without_credentials

if TYPE_CHECKING:
    import optuna


class Studies(dg.ConfigurableResource):
    """The studies of a group in a SQL database."""

    storage_url: str = Field(description="`sqlite:///path` or `postgresql://user@host/name`.")

    @contextmanager
    def study(self, series: str, partition: str, fingerprint: str) -> Iterator["optuna.Study"]:
        """The study of a partition, new or as it was left; its losses are minimized.

        A trial that was interrupted is marked as failed. A new study begins with the best
        parameters of the latest earlier study of the series, if there is one.

        Args:
            series: What the studies of the different partitions have in common.
            partition: Sorts in the order of time.
            fingerprint: Digest of what is searched, on which data: another one, another study.

        Raises:
            dagster.Failure: The database does not answer, or its URL cannot be read.
        """
        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            storage = self._storage()
            name = f"{series}/{partition}/{fingerprint[:16]}"
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                pruner=optuna.pruners.MedianPruner(),
                load_if_exists=True,
            )
            _fail_interrupted(study)
            # A first trial that was interrupted or failed does not count: it is tried again.
            counting = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
            if not study.get_trials(deepcopy=False, states=counting):
                _warm_start(study, storage, series, name)
            yield study
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise dg.Failure(
                f"The study database at {without_credentials(self.storage_url)} failed: {error}. "
                "Expected: a database that answers. Remedy: start it; then re-execute the run "
                "from the failure: the finished trials are kept."
            ) from error

    def forget(self, group: str, before: datetime) -> int:
        """Delete the studies of the days before a time, but for the latest of each series.

        A study of a day long past that was searched since then is not old.

        Args:
            group: Whose studies: the first part of the names of its series.
            before: The time.

        Returns:
            How many there were.
        """
        import optuna

        storage = self._storage()
        studies: dict[str, dict[str, list[str]]] = {}
        for name in optuna.get_all_study_names(storage):
            if name.startswith(f"{group}/") and name.count("/") > 2:  # others may use the database
                series, partition, _ = name.rsplit("/", 2)
                studies.setdefault(series, {}).setdefault(partition, []).append(name)
        old = [
            name
            for partitions in studies.values()
            # The next search of a series begins with what its latest one found.
            for partition in sorted(partitions)[:-1]
            if partition < str(before.date())
            for name in partitions[partition]
            if not _searched_since(optuna.load_study(study_name=name, storage=storage), before)
        ]
        for name in old:
            optuna.delete_study(study_name=name, storage=storage)
        return len(old)

    def _storage(self) -> "optuna.storages.RDBStorage":
        import optuna

        url = parsed(self.storage_url, "URL of the study database")
        return optuna.storages.RDBStorage(url.render_as_string(hide_password=False))


def _searched_since(study: "optuna.Study", time: datetime) -> bool:
    local = time.astimezone().replace(tzinfo=None)  # as Optuna keeps times
    trials = study.get_trials(deepcopy=False)
    return any(trial.datetime_start and trial.datetime_start >= local for trial in trials)


def _fail_interrupted(study: "optuna.Study") -> None:
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)


def _warm_start(
    study: "optuna.Study", storage: "optuna.storages.RDBStorage", series: str, name: str
) -> None:
    """Enqueue the best parameters of the latest earlier study that finished a trial."""
    import optuna
    from optuna.trial import TrialState

    if study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        return
    names = optuna.get_all_study_names(storage)
    partition = name.rsplit("/", 1)[0]
    earlier = [found for found in names if found.startswith(f"{series}/") and found < partition]
    for found in sorted(earlier, reverse=True):
        before = optuna.load_study(study_name=found, storage=storage)
        if before.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            study.enqueue_trial(before.best_params, user_attrs={"warm_start": found})
            return
