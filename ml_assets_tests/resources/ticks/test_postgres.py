from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg2
import pytest
from pydantic import ValidationError

from ml_assets.ml.errors import DataError
from ml_assets.resources.ticks import PostgresTicks, copied
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

COLUMNS = {"time": "event_time", "price": "price", "size": "size"}
TUESDAY = MONDAY + DAY


def execute(url: str, *statements: str) -> None:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        for statement in statements:
            connection.cursor().execute(statement)


def create(
    url: str, columns: str = "price numeric, size integer", kind: str = "timestamptz"
) -> None:
    execute(url, f"CREATE TABLE ticks (event_time {kind}, {columns})")


def insert(url: str, *lines: str) -> None:
    execute(url, *(f"INSERT INTO ticks VALUES ({line})" for line in lines))


def postgres(url: str, **changes: Any) -> PostgresTicks:
    return PostgresTicks(
        **{"url": url, "table": "ticks", "columns": COLUMNS, "connect_timeout_seconds": 2} | changes
    )


def at(moment: datetime, rest: str = "1, 1") -> str:
    return f"'{moment.isoformat()}', {rest}"


@pytest.mark.parametrize("chunk", [100, copied._CHUNK_BYTES])
def test_a_table_gives_the_same_as_files(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(copied, "_CHUNK_BYTES", chunk)
    frame = sample_frame()
    create(postgres_url, "price float8, size integer, suspicious boolean, id serial")
    columns = COLUMNS | {"suspicious": "suspicious", "order": "id"}
    with closing(psycopg2.connect(postgres_url)) as connection, connection:
        (tmp_path / "rows").write_text(frame.write_csv(include_header=False))
        with (tmp_path / "rows").open() as file:
            connection.cursor().copy_expert(
                "COPY ticks (event_time, price, size, suspicious) FROM STDIN (FORMAT csv)", file
            )
    for day in range(2):
        frame[2000 * day : 2000 * (day + 1)].write_parquet(tmp_path / f"{day}.parquet")
    source = postgres(postgres_url, columns=columns)
    assert source.read(*ALWAYS).equals(files(tmp_path).read(*ALWAYS))
    window = (TUESDAY, TUESDAY + DAY)
    assert source.read(*window).equals(files(tmp_path).read(*window))
    assert len(source.read(*window)) == 2000


def test_quotes_have_their_middle_and_may_be_one_sided(postgres_url: str) -> None:
    create(postgres_url, "bid float8, ask real, side text")
    lines = ("3, 1, 'SELL'", "1, NULL, ' b '", "'NaN', 3, 'x'", "1, 3, NULL")
    insert(postgres_url, *(at(MONDAY + n * HOUR, line) for n, line in enumerate(lines)))
    columns = {"time": "event_time", "bid": "bid", "ask": "ask", "side": "side"}
    found = rows(postgres(postgres_url, columns=columns).read(*ALWAYS))
    times = [{"event_time_ns": ns(MONDAY + n * HOUR), "row": n + 1} for n in range(4)]
    assert found == [
        times[0] | {"bid": 3.0, "ask": 1.0, "price": 2.0, "side": -1},
        times[1] | {"bid": 1.0, "side": 1},
        times[2] | {"ask": 3.0},
        times[3] | {"bid": 1.0, "ask": 3.0, "price": 2.0},
    ]


@pytest.mark.parametrize("kind", ["boolean", "text"])
def test_the_side_is_told_from_the_maker(postgres_url: str, kind: str) -> None:
    create(postgres_url, f"price float8, size float8, maker {kind}, odd {kind}")
    insert(postgres_url, at(MONDAY, "1, 1, 'true', 'f'"), at(TUESDAY, "1, 1, 'false', NULL"))
    columns = COLUMNS | {"buyer_maker": "maker", "suspicious": "odd"}
    found = postgres(postgres_url, columns=columns).read(*ALWAYS)
    assert values(found, "side") == [-1, 1]
    assert values(found, "suspicious") == [False, None]


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "timestamp(0)"])
def test_a_window_has_its_rows_in_the_order_of_time(postgres_url: str, kind: str) -> None:
    create(postgres_url, kind=kind)
    name = postgres_url.rpartition("/")[2]
    execute(postgres_url, f"ALTER DATABASE {name} SET timezone = 'America/New_York'")
    times = [TUESDAY, TUESDAY - HOUR, MONDAY, MONDAY - HOUR, TUESDAY + DAY]
    bare = [time.replace(tzinfo=None) if kind != "timestamptz" else time for time in times]
    insert(postgres_url, *map(at, bare), "NULL, 1, 1", "'infinity', 1, 1")
    found = postgres(postgres_url).read(MONDAY, TUESDAY + DAY)
    assert values(found, "event_time_ns") == [ns(MONDAY), ns(TUESDAY - HOUR), ns(TUESDAY)]
    assert values(found, "row") == [1, 2, 1]
    local = (MONDAY.astimezone(), (TUESDAY + DAY).astimezone())
    assert postgres(postgres_url).read(*local).equals(found)
    assert rows(postgres(postgres_url).read(MONDAY - 2 * DAY, MONDAY - DAY)) == []


def test_microseconds_are_exact_before_and_after_2000(postgres_url: str) -> None:
    create(postgres_url)
    times = [datetime.fromisoformat(f"{year}-03-04T05:06:07.123457Z") for year in (1971, 2199)]
    insert(postgres_url, *map(at, times))
    assert values(postgres(postgres_url).read(*ALWAYS), "event_time_ns") == [ns(t) for t in times]


def test_equal_times_come_in_one_order(postgres_url: str) -> None:
    create(postgres_url)
    lines = [at(MONDAY, values) for values in ("3, 1", "1, 2", "NULL, 1", "1, 1")]
    insert(postgres_url, *lines)
    found = postgres(postgres_url).read(*ALWAYS)
    digest = postgres(postgres_url).digest(*ALWAYS)
    assert values(found, "price") == [1, 1, 3, None]
    assert values(found, "size") == [1, 2, 1, 1]
    execute(postgres_url, "TRUNCATE ticks")
    insert(postgres_url, *reversed(lines))
    assert postgres(postgres_url).read(*ALWAYS).equals(found)
    assert postgres(postgres_url).digest(*ALWAYS) == digest


def test_the_digest_is_of_the_rows_in_the_window(postgres_url: str) -> None:
    create(postgres_url)
    source, window = postgres(postgres_url), (MONDAY, TUESDAY)
    found = [source.digest(*window)]
    insert(postgres_url, at(MONDAY))
    found.append(source.digest(*window))
    insert(postgres_url, at(TUESDAY))
    assert source.digest(*window) == found[-1]
    insert(postgres_url, at(MONDAY))
    found.append(source.digest(*window))
    execute(postgres_url, "UPDATE ticks SET price = 2 WHERE event_time < '2013-10-08 00:00Z'")
    found.append(source.digest(*window))
    assert len({*found}) == 4
    execute(
        postgres_url,
        f"ALTER DATABASE {postgres_url.rpartition('/')[2]} SET timezone = 'Asia/Tokyo'",
    )
    assert source.digest(*window) == found[-1]


def test_names_are_quoted_and_may_have_a_schema(postgres_url: str) -> None:
    names = ["When; DROP TABLE x", 'a"b', "%s", "order"]
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    execute(
        postgres_url,
        'CREATE SCHEMA "My feed"',
        f'CREATE TABLE "My feed"."Ticks" ({quoted[0]} timestamptz, {quoted[1]} float8, '
        f"{quoted[2]} float8, {quoted[3]} integer)",
        f'INSERT INTO "My feed"."Ticks" VALUES ({at(MONDAY, "1, 2, 3")})',
    )
    columns = dict(zip(("time", "price", "size", "order"), names, strict=True))
    source = postgres(postgres_url, table="My feed.Ticks", columns=columns)
    assert rows(source.read(*ALWAYS)) == [
        {"event_time_ns": ns(MONDAY), "price": 1.0, "size": 2.0, "row": 1}
    ]
    assert source.digest(*ALWAYS)


def test_a_day_is_read_by_the_index(postgres_url: str) -> None:
    create(postgres_url)
    execute(
        postgres_url,
        "INSERT INTO ticks SELECT t, 1, 1 FROM generate_series("
        "'2013-10-01 00:00Z'::timestamptz, '2013-10-31 00:00Z', '1 minute') AS t",
        "CREATE INDEX ON ticks (event_time)",
        "ANALYZE ticks",
    )
    source = postgres(postgres_url)
    with closing(psycopg2.connect(postgres_url)) as connection:
        cursor = connection.cursor()
        query = source._copy(MONDAY, TUESDAY).as_string(cursor)
        inner = query.removeprefix("COPY (").removesuffix(") TO STDOUT (FORMAT binary)")
        cursor.execute(f"EXPLAIN {inner}")
        assert "Index Scan" in " ".join(row[0] for row in cursor.fetchall())
    assert len(source.read(MONDAY, TUESDAY)) == 1440


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"table": "nothing"}, 'relation "nothing" does not exist'),
        ({"table": "nowhere.ticks"}, 'relation "nowhere.ticks" does not exist'),
        ({"columns": COLUMNS | {"size": "volume"}}, "column ticks.volume does not exist"),
        ({"columns": COLUMNS | {"time": "price"}}, "numeric (to|>=) timestamp"),
    ],
)
def test_what_does_not_exist_is_named(
    postgres_url: str, changes: dict[str, Any], found: str
) -> None:
    create(postgres_url)
    source = postgres(postgres_url, **changes)
    for ask in (source.read, source.digest):
        with pytest.raises(DataError, match=f"{found}.*remedy: correct the names"):
            ask(MONDAY, TUESDAY)


def test_a_statement_that_takes_too_long_can_be_tried_again(postgres_url: str) -> None:
    create(postgres_url)
    insert(postgres_url, at(MONDAY))
    execute(
        postgres_url,
        "CREATE FUNCTION slow(x numeric) RETURNS numeric LANGUAGE sql AS "
        "'SELECT x FROM pg_sleep(30)'",
        "CREATE VIEW slowly AS SELECT event_time, slow(price) AS price, size FROM ticks",
    )
    source = postgres(postgres_url, table="slowly", statement_timeout_seconds=1)
    with pytest.raises(dg.Failure, match=r"statement timeout.*create an index") as failure:
        source.read(MONDAY, TUESDAY)
    assert failure.value.allow_retries


def test_a_database_that_is_down_can_be_tried_again() -> None:
    source = postgres("postgresql://someone:secret@127.0.0.1:9/feed")
    for ask in (source.read, source.digest):
        with pytest.raises(
            dg.Failure, match=r"The ticks' database at postgresql://127.0.0.1:9/feed failed"
        ) as failure:
            ask(MONDAY, TUESDAY)
        assert failure.value.allow_retries
    assert source.describe() == "postgres: ticks at postgresql://127.0.0.1:9/feed"


@pytest.mark.parametrize(
    "columns",
    [
        {"time": "t", "price": "p"},
        {"time": "t", "price": "p", "size": "s", "bid": "b"},
        {"price": "p", "size": "s"},
        COLUMNS | {"volume": "v"},
        {},
    ],
)
def test_columns_that_are_not_enough_are_refused(columns: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="columns: expected time with price and size"):
        postgres("postgresql://host/feed", columns=columns)
