import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.transforms import DayTransform

from ml_assets.ml.errors import DataError
from ml_assets.resources.ticks import IcebergTicks
from ml_assets_tests.resources.ticks.feeds import (
    ALWAYS,
    DAY,
    HOUR,
    MONDAY,
    files,
    ns,
    rows,
    sample_frame,
    values,
)
from ml_assets_tests.servers import FileServer

COLUMNS = {"time": "timestamp", "price": "price", "size": "size"}
TUESDAY = MONDAY + DAY


@pytest.fixture(params=["sqlite", "postgres"])
def theirs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlCatalog]:
    """A catalog of somebody else's."""
    uri = f"sqlite:///{tmp_path}/catalog.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
        uri = url.replace("postgresql", "postgresql+psycopg2")
    with SqlCatalog("theirs", uri=uri, warehouse=str(tmp_path / "warehouse")) as catalog:
        catalog.create_namespace("Feeds")
        yield catalog


def iceberg(theirs: SqlCatalog, **changes: Any) -> IcebergTicks:
    return IcebergTicks(
        **{
            "catalog_uri": theirs.properties["uri"],
            "catalog_name": "theirs",
            "warehouse": theirs.properties["warehouse"],
            "table": "Feeds.ticks",
            "columns": COLUMNS,
        }
        | changes
    )


def arrow(frame: pl.DataFrame) -> pa.Table:
    """The rows in types that Iceberg keeps."""
    found = frame.with_columns(pl.col("timestamp").dt.cast_time_unit("us")).to_arrow()
    return found.cast(
        pa.schema(
            [
                field.with_type(pa.string()) if pa.types.is_large_string(field.type) else field
                for field in found.schema
            ]
        )
    )


def create(theirs: SqlCatalog, frame: pl.DataFrame) -> None:
    table = theirs.create_table("Feeds.ticks", arrow(frame).schema)
    table.append(arrow(frame))


def ticks(*times: Any, price: float = 1.0) -> pl.DataFrame:
    return pl.DataFrame(
        {"timestamp": times, "price": [price] * len(times), "size": [1] * len(times)}
    )


def test_a_table_gives_the_same_as_files(theirs: SqlCatalog, tmp_path: Path) -> None:
    frame = sample_frame().with_row_index("id").cast({"id": pl.Int64})
    table = theirs.create_table("Feeds.ticks", arrow(frame).schema)
    with table.update_spec() as spec:
        spec.add_field("timestamp", DayTransform(), "day")
    for part in (frame[3000:], frame[:1000], frame[1000:3000]):
        table.append(arrow(part))
    (tmp_path / "files").mkdir()
    for day in range(2):
        frame[2000 * day : 2000 * (day + 1)].write_parquet(tmp_path / f"files/{day}.parquet")
    source = iceberg(theirs, columns=COLUMNS | {"suspicious": "suspicious", "order": "id"})
    for window in (ALWAYS, (TUESDAY, TUESDAY + DAY)):
        assert source.read(*window).equals(files(tmp_path / "files").read(*window))
    assert len(source.read(*window)) == 2000


def test_quotes_have_their_middle_and_may_be_one_sided(theirs: SqlCatalog) -> None:
    frame = pl.DataFrame(
        {
            "timestamp": [MONDAY, MONDAY + HOUR, MONDAY + 2 * HOUR, None],
            "b": [3.0, 1.0, float("nan"), 1.0],
            "a": [1.0, None, 3.0, 1.0],
            "aggressor": ["Buy", "s", "?", ""],
        }
    )
    create(theirs, frame)
    columns = {"time": "timestamp", "bid": "b", "ask": "a", "side": "aggressor"}
    assert rows(iceberg(theirs, columns=columns).read(*ALWAYS)) == [
        {"event_time_ns": ns(MONDAY), "bid": 3.0, "ask": 1.0, "price": 2.0, "side": 1, "row": 1},
        {"event_time_ns": ns(MONDAY + HOUR), "bid": 1.0, "side": -1, "row": 2},
        {"event_time_ns": ns(MONDAY + 2 * HOUR), "ask": 3.0, "row": 3},
    ]


def test_a_window_has_no_end_and_equal_times_one_order(theirs: SqlCatalog) -> None:
    create(theirs, ticks(TUESDAY, MONDAY, TUESDAY + DAY, price=2.0))
    theirs.load_table("Feeds.ticks").append(arrow(ticks(MONDAY, MONDAY - HOUR)))
    found = iceberg(theirs).read(MONDAY, TUESDAY + DAY)
    assert values(found, "event_time_ns") == [ns(MONDAY), ns(MONDAY), ns(TUESDAY)]
    assert values(found, "price") == [1, 2, 2]
    assert values(found, "row") == [1, 2, 1]
    assert rows(iceberg(theirs).read(TUESDAY + HOUR, TUESDAY + 2 * HOUR)) == []


def test_the_digest_is_of_the_files_of_the_window(theirs: SqlCatalog) -> None:
    create(theirs, ticks(MONDAY))
    source, window = iceberg(theirs), (MONDAY, TUESDAY)
    before = source.digest(*window)
    theirs.load_table("Feeds.ticks").append(arrow(ticks(TUESDAY)))
    assert source.digest(*window) == before
    theirs.load_table("Feeds.ticks").append(arrow(ticks(MONDAY + HOUR)))
    assert source.digest(*window) != before


def test_what_does_not_exist_is_named(theirs: SqlCatalog) -> None:
    create(theirs, ticks(MONDAY))
    for changes, match in (
        ({"table": "Feeds.trades"}, "the table Feeds.trades in the catalog theirs; found no such"),
        ({"table": "trades"}, "the table trades"),
        ({"catalog_name": "mine"}, "the table Feeds.ticks in the catalog mine; found no such"),
        ({"columns": COLUMNS | {"size": "volume"}}, "no volume among timestamp, price, size"),
        (
            {"columns": COLUMNS | {"time": "price", "price": "size"}},
            "the column price.*found double",
        ),
    ):
        source = iceberg(theirs, **changes)
        for ask in (source.read, source.digest):
            with pytest.raises(DataError, match=f"{match}.*remedy: (correct|say in)"):
                ask(MONDAY, TUESDAY)


def test_files_that_are_gone_are_named(theirs: SqlCatalog) -> None:
    create(theirs, ticks(MONDAY))
    for path in Path(theirs.properties["warehouse"]).rglob("*.parquet"):
        path.unlink()
    with pytest.raises(DataError, match=r"all files of the table.*remedy: make the warehouse"):
        iceberg(theirs).read(MONDAY, TUESDAY)


def test_a_catalog_that_is_not_there_is_not_created(tmp_path: Path) -> None:
    source = IcebergTicks(
        catalog_uri=f"sqlite:///{tmp_path}/other.db",
        catalog_name="theirs",
        warehouse=str(tmp_path),
        table="Feeds.ticks",
        columns=COLUMNS,
    )
    with pytest.raises(dg.Failure, match=r"no such table.*Remedy: start it, or correct"):
        source.read(MONDAY, TUESDAY)
    assert not (tmp_path / "other.db").exists() or not (tmp_path / "other.db").stat().st_size


def test_a_database_that_is_down_can_be_tried_again() -> None:
    source = IcebergTicks(
        catalog_uri="postgresql://someone:secret@127.0.0.1:9/feeds",
        catalog_name="theirs",
        warehouse="/nowhere",
        table="Feeds.ticks",
        columns=COLUMNS,
    )
    with pytest.raises(dg.Failure, match=r"catalog at postgresql://127.0.0.1:9/feeds") as failure:
        source.read(MONDAY, TUESDAY)
    assert failure.value.allow_retries
    assert source.describe() == "iceberg: Feeds.ticks at postgresql://127.0.0.1:9/feeds"


@pytest.mark.parametrize("kind", ["defaults", "overrides"])
@pytest.mark.parametrize(
    "told",
    [
        {"py-io-impl": "subprocess.Popen", "/bin/sh": ""},
        {"s3.retry-strategy-impl": "os.getcwd"},
        {"auth": {"type": "custom", "impl": "subprocess.Popen", "custom": {}}},
    ],
)
def test_a_server_cannot_name_code_to_run(kind: str, told: dict[str, Any]) -> None:
    server = FileServer()
    answer = {"defaults": {}, "overrides": {}} | {kind: told}
    server.files["/v1/config?warehouse=feeds"] = json.dumps(answer).encode()
    source = IcebergTicks(
        catalog_uri=server.url,
        catalog_name="theirs",
        warehouse="feeds",
        table="Feeds.ticks",
        columns=COLUMNS,
    )
    with pytest.raises(DataError, match=rf"no code.*found the properties {next(iter(told))}"):
        source.read(MONDAY, TUESDAY)
    assert server.requests == 1


def test_a_table_may_name_what_pyiceberg_has_itself(theirs: SqlCatalog) -> None:
    create(theirs, ticks(MONDAY))
    with theirs.load_table("Feeds.ticks").transaction() as change:
        change.set_properties({"py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO"})
    assert len(iceberg(theirs).read(MONDAY, TUESDAY)) == 1


@pytest.mark.parametrize("name", ["py-io-impl", "write.py-location-provider.impl"])
def test_a_table_cannot_name_code_to_run(theirs: SqlCatalog, name: str) -> None:
    create(theirs, ticks(MONDAY))
    path = Path(theirs.load_table("Feeds.ticks").metadata_location.removeprefix("file://"))
    metadata = json.loads(path.read_text())
    metadata["properties"][name] = "subprocess.Popen"
    path.write_text(json.dumps(metadata))
    with pytest.raises(DataError, match=f"no code.*found the properties {name}"):
        iceberg(theirs).read(MONDAY, TUESDAY)
