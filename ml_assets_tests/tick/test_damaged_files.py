"""A file of ticks that cannot be read fails the days that it may have held, and no others."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ml_assets.ml.errors import DataError
from ml_assets.resources.ticks import FileTicks, index
from ml_assets_tests.tick.group import midnight, moved

DAYS = ["2025-04-07", "2025-04-08", "2025-04-09"]


def inbox(directory: Path, pattern: str, hours: int = 0) -> FileTicks:
    """A file a day, whose name has the day that begins so many hours before."""
    for number, day in enumerate(DAYS):
        frame = moved(day, number)
        shifted = frame.with_columns(timestamp=frame["timestamp"] + timedelta(hours=hours))
        shifted.write_csv(directory / pattern.format(day=day, compact=day.replace("-", "")))
    return FileTicks(directory=str(directory))


def readable(source: FileTicks, days: list[str] = DAYS) -> list[str]:
    found = []
    for day in days:
        try:
            source.read(midnight(day), midnight(day, 1))
            found.append(day)
        except DataError:
            pass
    return found


@pytest.mark.parametrize(
    "pattern", ["SPY_{day}.csv", "{compact}-trades.csv"], ids=["with dashes", "without"]
)
def test_by_the_day_in_its_name(tmp_path: Path, pattern: str) -> None:
    source = inbox(tmp_path, pattern)
    [bad] = [path for path in tmp_path.iterdir() if "07" in path.name]
    bad.write_text("garbage")
    assert readable(source) == DAYS[1:]
    # Who asks which days there are is told, for this day might be among them.
    with pytest.raises(DataError, match="garbage"):
        source.days()


def test_and_the_days_that_the_other_files_of_such_names_reach_into(tmp_path: Path) -> None:
    source = inbox(tmp_path, "{day}.csv", hours=6)  # until after midnight
    (tmp_path / f"{DAYS[1]}.csv").write_text("garbage")
    assert readable(source) == DAYS[:1]


def test_a_name_without_a_day_may_have_held_any(tmp_path: Path) -> None:
    source = inbox(tmp_path, "{day}.csv")
    (tmp_path / "more.csv").write_text("garbage")
    assert readable(source) == []


def test_names_that_tell_of_other_days_than_the_times_are_not_believed(tmp_path: Path) -> None:
    source = inbox(tmp_path, "{day}.csv", hours=24 * 30)  # the day of the delivery, say
    later = [str((midnight(day) + timedelta(days=30)).date()) for day in DAYS]
    (tmp_path / f"{DAYS[0]}.csv").write_text("garbage")
    assert readable(source, later) == []


def test_a_file_is_believed_to_be_damaged_for_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is back leaves the file's version as it was."""
    source = inbox(tmp_path, "{day}.csv")
    path = tmp_path / f"{DAYS[0]}.csv"
    kind, looked = index._kind, []

    def broken(asked: Path) -> object:
        looked.append(asked)
        if asked == path and len(looked) < 4:
            raise DataError("a disk", "garbage", "wait")
        return kind(asked)

    monkeypatch.setattr(index, "_kind", broken)
    now = datetime.now(UTC).timestamp()
    monkeypatch.setattr(index.time, "monotonic", lambda: now)
    assert readable(source) == DAYS[1:]
    assert readable(source) == DAYS[1:]
    now += 61
    assert readable(source) == DAYS
