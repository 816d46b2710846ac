"""What every source of ticks answers."""

import math
from abc import ABC, abstractmethod
from datetime import date, datetime
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from ml_assets.ml.days import nanoseconds

if TYPE_CHECKING:
    import pyarrow as pa


class TickSource(dg.ConfigurableResource, ABC):
    """Trades or quotes of one instrument, by windows of time.

    Nothing is left out, put in order or judged here. NaN counts as missing. For quotes the price
    is the middle of bid and ask.
    """

    max_rows_per_day: int = Field(
        default=2**25, gt=0, description="The most ticks that a day may have."
    )

    @property
    def unique_days(self) -> int | None:
        """Number of days after which the ticks repeat; None if they do not."""
        return None

    @abstractmethod
    def read(self, start: datetime, end: datetime) -> "pa.Table":
        """The ticks from `start` to before `end`, in the order in which they arrived.

        A row without a readable time belongs where the row before it does; if there is none, to
        the first readable time after it.

        Args:
            start: With a time zone.
            end: With a time zone.

        Returns:
            Columns `event_time_ns` int64, UTC since 1970, null where it cannot be read; `price`,
            `size` float64, the size null for quotes; `bid`, `ask` float64, null for trades;
            `side` int8, 1 if the buyer was the aggressor, -1 if the seller was, null if unknown;
            `suspicious` bool, null if unknown; `row` int64, the number of the row in its source,
            from 1; `text` string, the row as it arrived if something in it cannot be read.

        Raises:
            DataError: The source is missing, damaged or has another form.
        """

    @abstractmethod
    def digest(self, start: datetime, end: datetime) -> str:
        """A SHA-256 that changes when `read(start, end)` would give something else.

        Raises:
            DataError: The source is missing, damaged or has another form.
        """

    @abstractmethod
    def describe(self) -> str:
        """Where the ticks come from, for people; without credentials."""

    def days(self, timezone: str = "UTC") -> dict[date, str]:  # noqa: ARG002
        """The digest of each day that has ticks; empty unless the source is of files.

        Args:
            timezone: IANA name of the time zone whose days count.

        Raises:
            DataError: The source is missing, damaged or has another form.
        """
        return {}

    def _most_rows(self, start: datetime, end: datetime) -> int:
        """The most ticks that a window may have."""
        days = (nanoseconds(end) - nanoseconds(start)) / (86_400 * 10**9)
        return max(math.ceil(days), 1) * self.max_rows_per_day
