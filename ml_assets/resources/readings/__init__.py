"""Where raw household readings come from: the sample, UCI, files of yours, PostgreSQL, a replay.

All give the lines of a window of days in the form of UCI's file. What a line means, and which
lines are wrong, is the group's business.
"""

from ml_assets.resources.readings.files import LocalReadings, SampleReadings, UciReadings
from ml_assets.resources.readings.postgres import PostgresReadings
from ml_assets.resources.readings.replayed import ReplayedReadings
from ml_assets.resources.readings.source import ReadingsSource

__all__ = [
    "LocalReadings",
    "PostgresReadings",
    "ReadingsSource",
    "ReplayedReadings",
    "SampleReadings",
    "UciReadings",
]
