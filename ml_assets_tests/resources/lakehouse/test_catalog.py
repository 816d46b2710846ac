from datetime import timedelta
from pathlib import Path

import dagster as dg
import psycopg2
import pytest

from ml_assets.ml.errors import DataError
from ml_assets.resources.lakehouse import Lakehouse
from ml_assets_tests.resources.lakehouse.tables import (
    ROWS,
    TABLE,
    TIME,
    data_files,
    day,
    hourly,
    values,
    write,
)


def test_tables_are_listed_by_namespace(lake: Lakehouse) -> None:
    assert lake.tables("power") == []
    for table in ("power.readings", "power.features", "tick.bars"):
        lake.replace(table, hourly(0, 1), TIME, day(0), day(1))
    assert lake.tables("power") == ["power.features", "power.readings"]
    assert lake.tables("tick") == ["tick.bars"]


def test_what_does_not_exist_is_named(lake: Lakehouse) -> None:
    with pytest.raises(DataError, match=r"the table power.readings; found no such table"):
        lake.read(TABLE, day(0), day(1))
    with pytest.raises(DataError, match="no such table"):
        lake.snapshot_id(TABLE)
    with pytest.raises(DataError, match="no such table"):
        lake.maintain(TABLE)
    write(lake, 0, 1)
    with pytest.raises(DataError, match="found no volts among event_time_utc, active_power_kw"):
        lake.read(TABLE, day(0), day(1), ["volts", TIME])
    with pytest.raises(DataError, match=r"the snapshot 7 of power.readings"):
        lake.read(TABLE, day(0), day(1), snapshot_id=7)


@pytest.mark.parametrize("name", ["readings", "power/x.readings", "power...readings", "Power.x"])
def test_other_names_are_refused(lake: Lakehouse, name: str) -> None:
    with pytest.raises(DataError, match=r"group.name"):
        lake.replace(name, hourly(0, 1), TIME, day(0), day(1))
    with pytest.raises(DataError, match=r"group.name"):
        lake.read(name, day(0), day(1))


def test_any_file_system_of_fsspec_will_do(tmp_path: Path) -> None:
    lake = Lakehouse(
        catalog_uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"memory://{tmp_path.name}/lake"
    )
    for number in range(2):
        write(lake, number, number + 1, float(number))
    assert lake.maintain(TABLE, timedelta(0), timedelta(0)).deleted_files > 0
    write(lake, 1, 2, 5.0)
    assert values(lake, 0, 2) == [0, 5]
    assert not data_files(lake)


def test_a_relative_warehouse_does_not_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lake = Lakehouse(catalog_uri=f"sqlite:///{tmp_path}/catalog.db", warehouse="warehouse")
    write(lake, 0, 1)
    monkeypatch.chdir("/")
    assert values(lake, 0, 1) == [1]


def test_the_catalog_may_be_named_by_an_environment_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_URI", f"sqlite:///{tmp_path}/catalog.db")

    @dg.asset
    def readings(lakehouse: Lakehouse) -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata=write(lakehouse, 0, 1).metadata())

    lake = Lakehouse(catalog_uri=dg.EnvVar("LAKEHOUSE_URI"), warehouse=str(tmp_path / "warehouse"))
    result = dg.materialize([readings], resources={"lakehouse": lake})
    [found] = result.asset_materializations_for_node("readings")
    assert found.metadata["rows"].value == ROWS


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg2"])
def test_every_way_to_write_postgresql_is_understood(postgres_url: str, scheme: str) -> None:
    uri = postgres_url.replace("postgresql", scheme, 1).replace("@", ":p%40ss%25word@")
    assert Lakehouse(catalog_uri=uri, warehouse="memory://nothing").tables("power") == []


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://someone:secret@127.0.0.1:9/lake",
        "postgresql://someone@127.0.0.1:9/lake?password=secret",
        "postgresql://someone:se@secret:x@127.0.0.1:9/lake",
        "postgresql://someone:top@secret@127.0.0.1:9/lake",
        "postgresql://someone:top@secret/x@127.0.0.1:9/lake",
        "mysql://someone:secret@127.0.0.1:9/lake",
        "secret",
    ],
)
def test_an_error_never_shows_a_password(uri: str, tmp_path: Path) -> None:
    lake = Lakehouse(catalog_uri=uri, warehouse=str(tmp_path))
    with pytest.raises(dg.Failure, match="Remedy") as failure:
        lake.tables("power")
    shown, error = [], failure.value
    while error:
        shown.append(f"{error} {getattr(error, 'description', '')}")
        error = error.__cause__
    assert "secret" not in " ".join(shown)


def test_a_server_that_goes_away_fails_the_step_and_comes_back(
    postgres_server, postgres_url: str, tmp_path: Path
) -> None:
    lake = Lakehouse(catalog_uri=postgres_url, warehouse=str(tmp_path), commit_timeout_seconds=0.5)
    write(lake, 0, 1)
    name = postgres_url.rpartition("/")[2]
    postgres_server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    with pytest.raises(dg.Failure, match="Expected: a database with a catalog that answers"):
        write(lake, 0, 1, 2.0)
    postgres_server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    assert values(lake, 0, 1) == [1]
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(postgres_url.replace(name, "nothing"))
