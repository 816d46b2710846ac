"""A finished record of ticks as a source that has ticks for every week."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from ml_assets.ml.replay import historic_day
from ml_assets.resources.ticks.source import TickSource

if TYPE_CHECKING:
    import pyarrow as pa


class ReplayedTicks(TickSource):
    """Whole weeks of another source, repeated for ever in both directions, by UTC days.

    Times are moved by whole weeks. The numbers of the rows are those of the other source, and
    so is the text of rows that cannot be read.
    """

    source: TickSource
    first_day: str = Field(description="First day of the record, such as `2013-10-07`.")
    weeks: int = Field(gt=0, description="Number of whole weeks in the record.")

    @field_validator("first_day")
    @classmethod
    def _check_first_day(cls, value: str) -> str:
        date.fromisoformat(value)
        return value

    @property
    def unique_days(self) -> int:
        """Number of days after which the ticks repeat."""
        return 7 * self.weeks

    def read(self, start: datetime, end: datetime) -> "pa.Table":
        """The ticks from `start` to before `end`, as if they had arrived then."""
        import pyarrow as pa

        from ml_assets.resources.ticks import rows

        found = [
            rows.moved(self.source.read(first, last), shift)
            for first, last, shift in self._ranges(start, end)
        ]
        return pa.concat_tables(found) if found else rows.SCHEMA.empty_table()

    def digest(self, start: datetime, end: datetime) -> str:
        """Digest of the other source's digests of the recorded times, and of where they go."""
        from ml_assets.resources.ticks.rows import joined_digest

        return joined_digest(
            f"{first} {last} {shift.days} {self.source.digest(first, last)}"
            for first, last, shift in self._ranges(start, end)
        )

    def describe(self) -> str:
        """Where the ticks come from, for people."""
        return f"replay of {self.weeks} weeks from {self.first_day}: {self.source.describe()}"

    def _ranges(
        self, start: datetime, end: datetime
    ) -> Iterator[tuple[datetime, datetime, timedelta]]:
        """The recorded windows that make up the window, and how far each is moved."""
        start, end = start.astimezone(UTC), end.astimezone(UTC)
        first = date.fromisoformat(self.first_day)
        while start < end:
            shift = start.date() - historic_day(start.date(), first, self.weeks)
            after = datetime.combine(first + timedelta(weeks=self.weeks), time(), UTC) + shift
            yield start - shift, min(after, end) - shift, shift
            start = min(after, end)
