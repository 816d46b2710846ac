import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import optuna
import pytest
from optuna.trial import TrialState

from ml_assets.ml.errors import DataError
from ml_assets.resources.studies import Studies
from ml_assets_tests.postgres import PostgresServer

SERIES = "power/day_ahead"
MONDAY, TUESDAY, WEDNESDAY = "2008-01-07", "2008-01-08", "2008-01-09"
FINGERPRINT = "f" * 64


@pytest.fixture(params=["sqlite", "postgres"])
def studies(request: pytest.FixtureRequest, tmp_path: Path) -> Studies:
    """No studies yet: every test runs on both databases."""
    url = (
        request.getfixturevalue("postgres_url")
        if request.param == "postgres"
        else f"sqlite:///{tmp_path}/deep/below/studies.db"
    )
    return Studies(storage_url=url)


@contextmanager
def study(
    studies: Studies,
    partition: str = MONDAY,
    fingerprint: str = FINGERPRINT,
    series: str = SERIES,
) -> Iterator[optuna.Study]:
    with studies.study(series, partition, fingerprint) as found:
        yield found


def objective(trial: optuna.Trial) -> float:
    return (trial.suggest_float("x", -10, 10) - 2) ** 2


def search(
    studies: Studies, partition: str = MONDAY, fingerprint: str = FINGERPRINT, series: str = SERIES
) -> dict[str, float]:
    """The best parameters of a study after two more trials."""
    with study(studies, partition, fingerprint, series) as found:
        found.optimize(objective, n_trials=2)
        return found.best_params


def interrupted(studies: Studies, partition: str = MONDAY) -> None:
    """A trial that was begun and neither finished nor failed, as after a crash."""
    with study(studies, partition) as found:
        found.ask().suggest_float("x", -10, 10)


def states(found: optuna.Study) -> list[str]:
    return [trial.state.name for trial in found.get_trials(deepcopy=False)]


def first_parameters(found: optuna.Study) -> dict[str, float]:
    """The parameters of the next trial, and its `warm_start`."""
    trial = found.ask({"x": optuna.distributions.FloatDistribution(-10, 10)})
    return trial.params | trial.user_attrs


def test_a_study_is_taken_up_where_it_was_left(studies: Studies) -> None:
    search(studies)
    with study(studies) as found:
        assert states(found) == ["COMPLETE"] * 2
        assert found.direction == optuna.study.StudyDirection.MINIMIZE
    search(studies)
    with study(studies) as found:
        assert states(found) == ["COMPLETE"] * 4


def test_another_process_takes_it_up(studies: Studies) -> None:
    best = search(studies)
    program = (
        "from ml_assets_tests.resources.test_studies import *\n"
        f"with study(Studies(storage_url={studies.storage_url!r})) as found:\n"
        "    print(found.best_params['x'])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], env=os.environ, capture_output=True, text=True, check=True
    )
    assert float(found.stdout) == best["x"]


def test_an_interrupted_trial_has_failed(studies: Studies) -> None:
    search(studies)
    interrupted(studies)
    with study(studies) as found:
        assert states(found) == ["COMPLETE", "COMPLETE", "FAIL"]
        assert found.get_trials(states=(TrialState.RUNNING,)) == []


def test_what_the_search_raises_is_not_hidden(studies: Studies) -> None:
    with pytest.raises(DataError, match="too short"), study(studies):
        raise DataError("a window", "one too short", "take a longer one")
    with study(studies) as found:
        assert states(found) == []


def test_a_new_study_begins_with_the_best_of_the_latest_earlier_one(studies: Studies) -> None:
    search(studies, MONDAY)
    best = search(studies, TUESDAY)
    with study(studies, WEDNESDAY) as found:
        name = f"{SERIES}/{TUESDAY}/{FINGERPRINT[:16]}"
        assert first_parameters(found) == best | {"warm_start": name}


def test_a_later_study_or_one_of_the_same_day_is_no_start(studies: Studies) -> None:
    search(studies, TUESDAY, "a" * 64)
    search(studies, WEDNESDAY)
    for fingerprint in ("0" * 64, "f" * 64):
        with study(studies, TUESDAY, fingerprint) as found:
            assert states(found) == []


@pytest.mark.parametrize("series", ["power/next_hour", "power/day_ahead_2", "power"])
def test_a_study_of_another_series_is_no_start(studies: Studies, series: str) -> None:
    search(studies, MONDAY, series=series)
    with study(studies, TUESDAY) as found:
        assert states(found) == []


def test_a_study_that_finished_no_trial_is_no_start(studies: Studies) -> None:
    best = search(studies, MONDAY)
    interrupted(studies, TUESDAY)
    with study(studies, TUESDAY):
        pass
    with study(studies, WEDNESDAY) as found:
        assert first_parameters(found)["x"] == best["x"]


def test_the_start_is_enqueued_once_and_only_for_a_new_study(studies: Studies) -> None:
    search(studies, MONDAY)
    for _ in range(3):
        with study(studies, TUESDAY) as found:
            assert states(found) == ["WAITING"]
    search(studies, TUESDAY)
    with study(studies, TUESDAY) as found:
        assert states(found) == ["COMPLETE"] * 2


def test_a_start_that_was_interrupted_is_made_again(studies: Studies) -> None:
    best = search(studies, MONDAY)
    interrupted(studies, TUESDAY)
    with study(studies, TUESDAY) as found:
        assert states(found) == ["FAIL", "WAITING"]
        assert first_parameters(found)["x"] == best["x"]


def test_another_fingerprint_is_another_study(studies: Studies) -> None:
    search(studies, MONDAY, "a" * 64)
    with study(studies, MONDAY, "b" * 64) as found:
        assert states(found) == []
    with study(studies, MONDAY, "a" * 64) as found:
        assert states(found) == ["COMPLETE"] * 2


def shown(failure: dg.Failure) -> str:
    """All that is shown of a failure and of what caused it."""
    found: list[str] = []
    error: BaseException | None = failure
    while error:
        found.append(f"{error} {getattr(error, 'description', '')}")
        error = error.__cause__ or error.__context__
    return " ".join(found)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://someone:secret@127.0.0.1:9/studies",
        "postgresql://someone@127.0.0.1:9/studies?password=secret",
        "postgresql+psycopg2://someone:secret@127.0.0.1:9/studies",
    ],
)
def test_a_database_that_does_not_answer_can_be_tried_again(url: str) -> None:
    message = r"(?s)//127\.0\.0\.1:9/studies failed: .*Remedy: start it"
    with (
        pytest.raises(dg.Failure, match=message) as failure,
        study(Studies(storage_url=url)),
    ):
        pass
    assert failure.value.allow_retries
    assert "secret" not in shown(failure.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://someone:se@secret:x@127.0.0.1:9/studies",
        "postgresql://someone:top@secret@127.0.0.1:9/studies",
        "postgresql://someone:top@secret/x@127.0.0.1:9/studies",
        "postgresql://someone:secret@127.0.0.1:port/studies",
        "mysql://someone:secret@127.0.0.1:9/studies",
        "secret",
    ],
)
def test_a_url_that_cannot_be_read_is_not_shown(url: str) -> None:
    with (
        pytest.raises(dg.Failure, match=r"Remedy: correct the URL") as failure,
        study(Studies(storage_url=url)),
    ):
        pass
    assert not failure.value.allow_retries
    assert "secret" not in shown(failure.value)


def test_a_database_that_goes_away_during_the_search_can_be_tried_again(
    postgres_server: PostgresServer,
) -> None:
    postgres_server.execute("CREATE DATABASE gone")
    studies = Studies(storage_url=f"{postgres_server.url}/gone")

    def without_database() -> None:
        with study(studies) as found:
            postgres_server.execute("DROP DATABASE gone WITH (FORCE)")
            found.optimize(objective, n_trials=1)

    with pytest.raises(dg.Failure, match="the finished trials are kept") as failure:
        without_database()
    assert failure.value.allow_retries


def test_old_searches_are_forgotten_but_for_the_latest_of_their_series(studies: Studies) -> None:
    monday, tuesday, wednesday = "2126-01-07", "2126-01-08", "2126-01-09"
    found = {day: search(studies, day) for day in (monday, tuesday)}
    search(studies, monday, series="power/next_hour")
    storage = studies._storage()
    for name in ("foo", f"team/{monday}/a", f"team/x/{monday}/a", f"team/x/{tuesday}/a"):
        optuna.create_study(study_name=name, storage=storage)  # other people's
    assert studies.forget("power", midnight(monday)) == 0
    assert studies.forget("power", midnight(wednesday)) == 1
    assert studies.forget("power", midnight(wednesday)) == 0
    assert len([name for name in optuna.get_all_study_names(storage) if name[0] != "p"]) == 4
    with study(studies, wednesday) as new:
        [waiting] = new.get_trials(states=(TrialState.WAITING,))
        assert waiting.system_attrs["fixed_params"] == found[tuesday]
    with study(studies, monday, series="power/next_hour") as kept:
        assert len(kept.trials) == 2


def test_a_day_long_past_that_was_just_searched_is_kept(studies: Studies) -> None:
    for day in (MONDAY, TUESDAY):
        search(studies, day)
    now = datetime.now(UTC)
    assert studies.forget("power", now - timedelta(hours=1)) == 0
    assert studies.forget("power", now + timedelta(hours=1)) == 1


def midnight(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)
