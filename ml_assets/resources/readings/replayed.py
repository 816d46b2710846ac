"""A finished record of readings as a source that has readings for every day."""

import hashlib
from collections.abc import Iterator
from datetime import date, timedelta
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from ml_assets.ml.replay import historic_day
from ml_assets.resources.readings.source import ReadingsSource

if TYPE_CHECKING:
    import pyarrow as pa


class ReplayedReadings(ReadingsSource):
    """Whole weeks of another source, repeated for ever in both directions.

    The dates in the lines are moved by as many days as their day; lines without a readable date
    stay as they are. The numbers of the lines are those of the other source.
    """

    source: ReadingsSource
    first_day: str = Field(description="First day of the record, such as `2008-01-07`.")
    weeks: int = Field(gt=0, description="Number of whole weeks in the record.")

    @field_validator("first_day")
    @classmethod
    def _check_first_day(cls, value: str) -> str:
        date.fromisoformat(value)
        return value

    @property
    def unique_days(self) -> int:
        """Number of days after which the readings repeat."""
        return 7 * self.weeks

    def read(self, start: date, end: date) -> "pa.Table":
        """The lines of the days from `start` to before `end`, as if they had arrived then.

        Raises:
            DataError: The other source is missing, damaged or has another form.
        """
        import pyarrow as pa

        from ml_assets.resources.readings import lines

        found = [
            lines.moved(self.source.read(first, last), shift)
            for first, last, shift in self._ranges(start, end)
        ]
        return pa.concat_tables(found) if found else lines.SCHEMA.empty_table()

    def digest(self, start: date, end: date) -> str:
        """Digest of the other source's digests of the recorded days, and of where they go."""
        digests = [
            f"{first} {last} {shift.days} {self.source.digest(first, last)}\n"
            for first, last, shift in self._ranges(start, end)
        ]
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def describe(self) -> str:
        """Where the readings come from, for people."""
        return f"replay of {self.weeks} weeks from {self.first_day}: {self.source.describe()}"

    def _ranges(self, start: date, end: date) -> Iterator[tuple[date, date, timedelta]]:
        """The recorded ranges of days that make up the window, and how far each is moved."""
        first, length = date.fromisoformat(self.first_day), timedelta(weeks=self.weeks)
        while start < end:
            recorded = historic_day(start, first, self.weeks)
            days = min(first + length - recorded, end - start)
            yield recorded, recorded + days, start - recorded
            start += days
