from contextlib import closing
from datetime import date
from typing import Any

import dagster as dg
import psycopg2
import pytest

from ml_assets.ml.errors import DataError
from ml_assets.resources.readings import PostgresReadings
from ml_assets_tests.resources.readings.texts import (
    ALWAYS,
    COLUMNS,
    DAY,
    MONDAY,
    TIMEZONE,
    VALUES,
    line,
    rows,
)

INSERTED = VALUES.replace(";", ", ")
AUTUMN = date(2008, 10, 26)


def execute(url: str, *statements: str) -> None:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        for statement in statements:
            connection.cursor().execute(statement)


def create(url: str, kind: str = "timestamptz", table: str = "readings") -> None:
    values = ", ".join(f"{name} numeric" for name in COLUMNS[1:])
    execute(url, f"CREATE TABLE {table} (event_time {kind}, {values})")


def insert(url: str, *times: str, values: str = INSERTED, table: str = "readings") -> None:
    execute(url, *(f"INSERT INTO {table} VALUES ({time}, {values})" for time in times))


def postgres(url: str, **changes: Any) -> PostgresReadings:
    return PostgresReadings(
        **{
            "url": url,
            "table": "readings",
            "columns": COLUMNS,
            "timezone": TIMEZONE,
            "connect_timeout_seconds": 2,
        }
        | changes
    )


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "timestamp(0)"])
def test_a_window_has_the_rows_of_its_local_days_in_order(postgres_url: str, kind: str) -> None:
    create(postgres_url, kind)
    execute(postgres_url, f"ALTER DATABASE {postgres_url.rpartition('/')[2]} SET timezone = 'UTC'")
    zone = "+01" if kind == "timestamptz" else ""
    late = ("2008-01-08 23:59", "2008-01-08 00:00", "2008-01-07 23:59", "2008-01-09 00:00")
    insert(postgres_url, *(f"'{time}{zone}'" for time in late), "NULL", "'infinity'")
    found = rows(postgres(postgres_url).read(MONDAY, MONDAY + 2 * DAY))
    assert found == [
        (MONDAY, 1, line(MONDAY, "23:59:00")),
        (MONDAY + DAY, 1, line(MONDAY + DAY, "00:00:00")),
        (MONDAY + DAY, 2, line(MONDAY + DAY, "23:59:00")),
    ]
    assert rows(postgres(postgres_url).read(MONDAY + DAY, MONDAY + 2 * DAY)) == found[1:]
    assert rows(postgres(postgres_url).read(MONDAY - DAY, MONDAY)) == []


def test_the_repeated_hour_comes_twice_in_its_true_order(postgres_url: str) -> None:
    create(postgres_url)
    hours = range(21, 48)
    for hour in reversed(hours):
        insert(postgres_url, f"'2008-10-25 00:00Z'::timestamptz + interval '{hour} hours'")
    found = rows(postgres(postgres_url).read(AUTUMN, AUTUMN + DAY))
    clock = [0, 1, 2, 2, *range(3, 24)]
    assert found == [
        (AUTUMN, number, line(AUTUMN, f"{hour:02}:00:00"))
        for number, hour in enumerate(clock, start=1)
    ]


def test_the_days_of_spring_and_autumn_have_23_and_25_hours(postgres_url: str) -> None:
    create(postgres_url)
    execute(
        postgres_url,
        f"INSERT INTO readings SELECT t, {INSERTED} FROM generate_series("
        "'2008-01-01 00:00Z'::timestamptz, '2009-01-01 00:00Z', '1 hour') AS t",
    )
    source = postgres(postgres_url)
    for day, hours in ((date(2008, 3, 30), 23), (AUTUMN, 25), (AUTUMN + DAY, 24)):
        assert len(source.read(day, day + DAY)) == hours
    assert len(source.read(date(2008, 1, 2), date(2009, 1, 1))) == 365 * 24


@pytest.mark.parametrize(
    ("timezone", "day", "hours"),
    [
        ("America/Santiago", date(2024, 9, 8), 23),  # without midnight
        ("America/Havana", date(2024, 11, 3), 25),  # with two of them
        ("America/St_Johns", date(2010, 11, 6), 25),  # of which the evening comes twice
    ],
)
def test_a_day_has_what_its_clock_shows_where_it_is_changed_at_midnight(
    postgres_url: str, timezone: str, day: date, hours: int
) -> None:
    create(postgres_url)
    execute(
        postgres_url,
        f"INSERT INTO readings SELECT t, {INSERTED} FROM generate_series("
        f"'{day - 3 * DAY} 00:00Z'::timestamptz, '{day + 4 * DAY} 00:00Z', '1 minute') AS t",
    )
    source = postgres(postgres_url, timezone=timezone)
    alone = [source.read(day + n * DAY, day + (n + 1) * DAY) for n in (-1, 0, 1)]
    counts = [24, hours, 24]
    if timezone == "America/St_Johns":  # from 00:01 back to 23:01
        counts = [24, 25 - 1 / 60, 24 + 1 / 60]
    assert [len(found) for found in alone] == [round(60 * count) for count in counts]
    for n, found in zip((-1, 0, 1), alone, strict=True):
        texts, one = found["text"].to_pylist(), day + n * DAY
        assert {text.partition(";")[0] for text in texts} == {f"{one.day}/{one.month}/{one.year}"}
        assert found["line"].to_pylist() == list(range(1, len(found) + 1))
    assert rows(source.read(day - DAY, day + 2 * DAY)) == [
        row for one in alone for row in rows(one)
    ]


def test_missing_and_odd_values_are_kept(postgres_url: str) -> None:
    create(postgres_url)
    execute(postgres_url, "ALTER TABLE readings ALTER voltage_v TYPE float8")
    values = "NULL, 'NaN', 241.6, -1, 0.000, 1e3, 0.30000000000000004"
    insert(postgres_url, "'2008-01-07 00:00:30.5+01'", values=values)
    [(_, _, found)] = rows(postgres(postgres_url).read(MONDAY, MONDAY + DAY))
    assert found == "7/1/2008;00:00:30.5;?;NaN;241.6;-1;0.000;1000;0.30000000000000004"


def test_equal_times_come_in_one_order(postgres_url: str) -> None:
    create(postgres_url)
    values = [f"{number}, 0, 0, 0, 0, 0, 0" for number in (3, 1, 2)]
    for value in values:
        insert(postgres_url, "'2008-01-07 00:00+01'", values=value)
    source = postgres(postgres_url)
    digest = source.digest(MONDAY, MONDAY + DAY)
    assert [one.split(";")[2] for _, _, one in rows(source.read(*ALWAYS))] == ["1", "2", "3"]
    execute(postgres_url, "TRUNCATE readings")
    for value in reversed(values):
        insert(postgres_url, "'2008-01-07 00:00+01'", values=value)
    assert source.digest(MONDAY, MONDAY + DAY) == digest


def test_the_digest_is_of_the_rows_in_the_window(postgres_url: str) -> None:
    create(postgres_url)
    source = postgres(postgres_url)
    insert(postgres_url, "'2008-01-07 00:00+01'")
    before = source.digest(MONDAY, MONDAY + DAY)
    insert(postgres_url, "'2008-01-08 00:00+01'")
    assert source.digest(MONDAY, MONDAY + DAY) == before
    insert(postgres_url, "'2008-01-07 00:00+01'")
    assert source.digest(MONDAY, MONDAY + DAY) != before


def test_names_are_quoted_and_may_have_a_schema(postgres_url: str) -> None:
    columns = ["When; DROP TABLE x", 'a"b', "order", "Voltage", "%s", "{}", "é", "f"]
    execute(
        postgres_url,
        'CREATE SCHEMA "My house"',
        'CREATE TABLE "My house"."Readings" ('
        + ", ".join(
            '"' + name.replace('"', '""') + ('" timestamptz' if index == 0 else '" float8')
            for index, name in enumerate(columns)
        )
        + ")",
    )
    insert(
        postgres_url,
        "'2008-01-07 00:00+01'",
        values="0, 1, 2, 3, 4, 5, 6",
        table='"My house"."Readings"',
    )
    source = postgres(postgres_url, table="My house.Readings", columns=columns)
    assert rows(source.read(*ALWAYS)) == [(MONDAY, 1, line(MONDAY, values="0;1;2;3;4;5;6"))]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"table": "nothing"}, 'relation "nothing" does not exist'),
        ({"table": "nowhere.readings"}, 'relation "nowhere.readings" does not exist'),
        ({"columns": [*COLUMNS[:7], "volts"]}, "column readings.volts does not exist"),
        ({"columns": [COLUMNS[1], *COLUMNS[1:]]}, "cannot cast type numeric"),
        ({"timezone": "Europe/Sceaux"}, 'invalid value for parameter "TimeZone"'),
    ],
)
def test_what_does_not_exist_is_named(
    postgres_url: str, changes: dict[str, Any], found: str
) -> None:
    create(postgres_url)
    with pytest.raises(DataError, match=f"{found}.*remedy: correct the names"):
        postgres(postgres_url, **changes).read(MONDAY, MONDAY + DAY)


def test_a_table_that_may_not_be_read_is_named(postgres_url: str) -> None:
    create(postgres_url)
    name = f"reader_{postgres_url.rpartition('_')[2]}"
    execute(postgres_url, f"CREATE ROLE {name} LOGIN")
    try:
        url = postgres_url.replace("postgres@", f"{name}@")
        with pytest.raises(DataError, match=r"permission denied.*remedy:.*grant SELECT"):
            postgres(url).read(MONDAY, MONDAY + DAY)
    finally:
        execute(postgres_url, f"DROP ROLE {name}")


def test_nothing_can_be_written(postgres_url: str) -> None:
    create(postgres_url)
    execute(
        postgres_url,
        "CREATE FUNCTION note() RETURNS numeric LANGUAGE sql AS "
        "'INSERT INTO readings (voltage_v) VALUES (1) RETURNING voltage_v'",
        f"CREATE VIEW noted AS SELECT event_time, note() AS {COLUMNS[1]}, "
        f"{', '.join(COLUMNS[2:])} FROM readings",
    )
    insert(postgres_url, "'2008-01-07 00:00+01'")
    with pytest.raises(DataError, match="in a read-only transaction"):
        postgres(postgres_url, table="noted").read(MONDAY, MONDAY + DAY)


def test_a_statement_that_takes_too_long_can_be_tried_again(postgres_url: str) -> None:
    create(postgres_url)
    insert(postgres_url, "'2008-01-07 00:00+01'")
    execute(
        postgres_url,
        "CREATE FUNCTION slow(x numeric) RETURNS numeric LANGUAGE sql AS "
        "'SELECT x FROM pg_sleep(30)'",
        f"CREATE VIEW slowly AS SELECT event_time, slow(1) AS {COLUMNS[1]}, "
        f"{', '.join(COLUMNS[2:])} FROM readings",
    )
    source = postgres(postgres_url, table="slowly", statement_timeout_seconds=1)
    with pytest.raises(dg.Failure, match=r"statement timeout.*create an index") as failure:
        source.read(MONDAY, MONDAY + DAY)
    assert failure.value.allow_retries


def test_a_database_that_is_down_can_be_tried_again() -> None:
    source = postgres("postgresql://someone@127.0.0.1:9/house")
    with pytest.raises(dg.Failure, match=r"127.0.0.1:9/house failed.*Remedy: start it") as failure:
        source.read(MONDAY, MONDAY + DAY)
    assert failure.value.allow_retries


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg2"])
def test_every_way_to_write_postgresql_is_understood(postgres_url: str, scheme: str) -> None:
    create(postgres_url)
    url = postgres_url.replace("postgresql", scheme, 1).replace("@", ":p%40ss%25word@")
    assert rows(postgres(f"{url}?application_name=test").read(*ALWAYS)) == []


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://someone:secret@127.0.0.1:9/house",
        "postgresql://someone@127.0.0.1:9/house?password=secret",
        "postgresql://someone:se@secret:x@127.0.0.1:9/house",
        "postgresql://someone:top@secret@127.0.0.1:9/house",
        "postgresql://someone:top@secret/x@127.0.0.1:9/house",
        "postgresql://someone:secret@127.0.0.1:port/house",
        "mysql://someone:secret@127.0.0.1:9/house",
        "secret",
    ],
)
def test_an_error_never_shows_a_password(url: str) -> None:
    with pytest.raises(dg.Failure, match="Remedy") as failure:
        postgres(url).read(MONDAY, MONDAY + DAY)
    shown, error = [], failure.value
    while error:
        shown.append(f"{error} {getattr(error, 'description', '')}")
        error = error.__cause__ or error.__context__
    assert "secret" not in " ".join(shown)


def test_the_description_has_no_password() -> None:
    source = postgres("postgresql://someone:secret@host:5432/house?sslmode=require")
    assert source.describe() == "postgres: readings at postgresql://host:5432/house"
