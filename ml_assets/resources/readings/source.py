"""What every source of readings answers."""

from abc import ABC, abstractmethod
from datetime import date
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    import pyarrow as pa


class ReadingsSource(dg.ConfigurableResource, ABC):
    """Lines in the form of UCI's file, by the day.

    A line is `d/m/yyyy;hh:mm:ss` in local time, then seven values, all separated by `;`; a
    missing value is `?`. Sources that keep readings in another form bring them into this one and
    leave the values as they are; what they cannot read stays in the text.
    """

    @property
    def unique_days(self) -> int | None:
        """Number of days after which the readings repeat; None if they do not."""
        return None

    @abstractmethod
    def read(self, start: date, end: date) -> "pa.Table":
        """The lines of the days from `start` to before `end`, as they arrived, in their order.

        A line without a readable date belongs to the day of the line before it, or to the first
        day if there is none. Headers and empty lines are left out. A day may have no lines.

        Returns:
            Columns `day` date32; `line` int64, the number of the line in its source, from 1;
            `text` string.

        Raises:
            DataError: The source is missing, damaged or has another form.
        """

    @abstractmethod
    def digest(self, start: date, end: date) -> str:
        """A SHA-256 that is the same as long as `read(start, end)` gives the same.

        Raises:
            DataError: The source is missing, damaged or has another form.
        """

    @abstractmethod
    def describe(self) -> str:
        """Where the readings come from, for people; without credentials."""
