"""Where raw market ticks come from: the sample, files, archives, PostgreSQL, Iceberg, a replay.

All give the trades or quotes of a window of time, as they arrived, with the same columns. Which
ticks are wrong, and what to make of them, is the group's business.
"""

from ml_assets.resources.ticks.archive import ArchiveTicks
from ml_assets.resources.ticks.files import FileTicks, SampleTicks
from ml_assets.resources.ticks.iceberg import IcebergTicks
from ml_assets.resources.ticks.postgres import PostgresTicks
from ml_assets.resources.ticks.replayed import ReplayedTicks
from ml_assets.resources.ticks.source import TickSource

__all__ = [
    "ArchiveTicks",
    "FileTicks",
    "IcebergTicks",
    "PostgresTicks",
    "ReplayedTicks",
    "SampleTicks",
    "TickSource",
]
