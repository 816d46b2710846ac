"""The tables from other sources than the sample, and of other bars than minutes."""

from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import psycopg2
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from ml_assets.resources.datasets import SAMPLES
from ml_assets.resources.ticks import FileTicks, IcebergTicks, PostgresTicks, TickSource
from ml_assets_tests.tick.group import NAMES, TABLES, Group, build, failures, metadata


@pytest.fixture
def group(tmp_path: Path) -> Any:
    """Makes groups on a source, each with a home of its own."""
    with dg.DagsterInstance.ephemeral() as instance:
        number = iter(range(10))

        def made(source: TickSource) -> Group:
            home = tmp_path / f"home{next(number)}"
            home.mkdir()
            return build(home, home, instance, source)

        yield made


def digests(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    return {name: metadata(result, name)["rows_sha256"] for name in NAMES}


# Other sources.


def sample_days(days: int) -> list[pl.DataFrame]:
    """A few thousand trades of each of the first days of the sample, moved to March 2025."""
    week = pl.read_parquet(SAMPLES / "ticks.parquet")
    shift = date(2025, 3, 3) - date(2013, 10, 7)
    found = week.with_columns(
        pl.col("timestamp") + shift, day=pl.col("timestamp").dt.date()
    ).partition_by("day", maintain_order=True, include_key=False)
    return [frame.gather_every(20) for frame in found[:days]]


def test_files_postgresql_and_iceberg_give_identical_features(
    group: Any, tmp_path: Path, postgres_url: str
) -> None:
    frame = pl.concat(sample_days(2)).with_row_index("id").cast({"id": pl.Int64})
    frame = frame.with_columns(pl.col("timestamp").dt.cast_time_unit("us"))
    columns = {
        "time": "timestamp",
        "price": "price",
        "size": "size",
        "suspicious": "suspicious",
        "order": "id",
    }
    sources: dict[str, TickSource] = {}
    for kind in ("csv", "parquet"):
        directory = tmp_path / kind
        directory.mkdir()
        getattr(frame.drop("id"), f"write_{kind}")(directory / f"week.{kind}")
        sources[kind] = FileTicks(directory=str(directory))
    frame.write_csv(tmp_path / "rows", include_header=False)
    with closing(psycopg2.connect(postgres_url)) as connection, connection:
        cursor = connection.cursor()
        cursor.execute(
            "CREATE TABLE ticks (id bigint, timestamp timestamptz, price float8, size float8,"
            " suspicious boolean)"
        )
        with (tmp_path / "rows").open() as file:
            cursor.copy_expert("COPY ticks FROM STDIN (FORMAT csv)", file)
    sources["postgres"] = PostgresTicks(url=postgres_url, table="ticks", columns=columns)
    uri, warehouse = f"sqlite:///{tmp_path}/theirs.db", str(tmp_path / "theirs")
    with SqlCatalog("theirs", uri=uri, warehouse=warehouse) as catalog:
        catalog.create_namespace("market")
        table = catalog.create_table("market.ticks", frame.to_arrow().schema)
        table.append(frame.to_arrow())
    sources["iceberg"] = IcebergTicks(
        catalog_uri=uri,
        catalog_name="theirs",
        warehouse=warehouse,
        table="market.ticks",
        columns=columns,
    )
    found = {}
    for name, source in sources.items():
        result = group(source).run(TABLES, ("2025-03-03", "2025-03-04"))
        assert result.success, failures(result)
        assert metadata(result, "features")["rows"] > 400
        found[name] = {key: digests(result)[key] for key in ("bars", "features")}
    assert len({str(entry) for entry in found.values()}) == 1, found


def walking_days(directory: Path, count: int) -> FileTicks:
    """Days at whose times there were trades, one after the other, at prices of a random walk."""
    week, random = sample_days(5), np.random.default_rng(0)
    for number in range(count):
        frame = week[number % 5]
        shift = date(2025, 3, 1) + timedelta(days=number) - frame["timestamp"][0].date()
        walk = 100 * np.exp(np.cumsum(2e-4 * random.standard_normal(len(frame))))
        frame.with_columns(pl.col("timestamp") + shift, price=walk).write_parquet(
            directory / f"{number:02}.parquet"
        )
    return FileTicks(directory=str(directory))


# Bars of other kinds.


@pytest.mark.parametrize(("kind", "size"), [("tick", 50), ("volume", 50_000), ("dollar", 1e6)])
def test_bars_by_other_measures_become_features(
    group: Any, tmp_path: Path, kind: str, size: float
) -> None:
    (tmp_path / "days").mkdir()
    made: Group = group(walking_days(tmp_path / "days", 2))
    config = {"bars": {"kind": kind, "size": size}}
    result = made.run(TABLES, ("2025-03-01", "2025-03-02"), config=config)
    assert result.success, failures(result)
    rows = made.read("features", "2025-03-01")
    assert set(rows["bar_type"].to_pylist()) == {f"{kind} {size:g}"}
    assert np.isfinite(rows["macd_signal"].to_numpy()[-1])


def test_bars_of_two_kinds_are_not_mixed_in_a_window(group: Any, tmp_path: Path) -> None:
    (tmp_path / "days").mkdir()
    made: Group = group(walking_days(tmp_path / "days", 6))
    assert made.run(TABLES, ("2025-03-01", "2025-03-05")).success
    assert made.run(TABLES, "2025-03-06", config={"bars": {"kind": "tick", "size": 50}}).success
    message = failures(made.run("key:tick/windows", "2025-03-06"))["tick__windows"]
    assert "tick/windows, partition 2025-03-06: expected bars of one kind" in message
    assert "found tick 50, time 60; remedy" in message


def test_quotes_have_bars_by_time_and_none_by_volume(group: Any, tmp_path: Path) -> None:
    [frame] = sample_days(1)
    quotes = frame.select("timestamp", bid=pl.col("price") - 0.01, ask=pl.col("price") + 0.01)
    quotes.write_csv(tmp_path / "quotes.csv")
    made: Group = group(FileTicks(directory=str(tmp_path)))
    result = made.run(TABLES, "2025-03-03")
    assert result.success, failures(result)
    assert made.read("bars", "2025-03-01")["spread"].null_count == 0
    refused = made.run("key:tick/bars", "2025-03-03", config={"bars": {"kind": "dollar"}})
    assert "expected sizes of trades for dollar bars" in failures(refused)["tick__bars"]
