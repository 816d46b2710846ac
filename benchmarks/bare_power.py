"""From UCI's text to features as one bare pandas script: what the backfill is measured against.

`python -m benchmarks.bare_power FILE FIRST LAST DIRECTORY`: reads FILE, a text or a zip that holds
one, and writes readings, odd lines and features of the days FIRST to LAST to Parquet files in
DIRECTORY. All days are in memory at once. The features come from `ml_assets.power.features`: they
are not what is compared. It keeps no copy of the raw lines and checks nothing afterwards.
"""

import sys
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa

from ml_assets.power import features
from ml_assets.power.data import COLUMNS


def main(path: Path, first: str, last: str, directory: Path) -> None:
    """Do everything once; print the number of readings, odd lines and hours."""
    start = pd.Timestamp(first, tz="UTC")
    end = pd.Timestamp(last, tz="UTC") + timedelta(days=1)
    raw = pd.read_csv(
        path,
        sep=";",
        header=0,
        names=["date", "time", *COLUMNS],
        dtype=str,
        keep_default_na=False,
    )
    rows = raw[["date", "time"]].copy()
    rows["event_time_utc"] = pd.to_datetime(
        raw["date"] + " " + raw["time"], format="%d/%m/%Y %H:%M:%S", utc=True, errors="coerce"
    ).dt.floor("min")
    bad = rows["event_time_utc"].isna()
    for name, (low, high) in COLUMNS.items():
        rows[name] = pd.to_numeric(raw[name], errors="coerce")
        missing = raw[name].isin(["", "?"])
        bad |= ~missing & ~rows[name].between(low, high)
    wanted = bad | ((rows["event_time_utc"] >= start) & (rows["event_time_utc"] < end))
    bad |= rows["event_time_utc"].duplicated()
    odd = raw[wanted & bad]
    minutes = pd.date_range(start, end, freq="min", inclusive="left", name="event_time_utc")
    readings = (
        rows[wanted & ~bad]
        .set_index("event_time_utc")[list(COLUMNS)]
        .sort_index()
        .reindex(minutes)
        .assign(is_gap=lambda found: found["active_power_kw"].isna())
        .reset_index()
    )
    hours = features.compute(
        pa.Table.from_pandas(readings, preserve_index=False),
        *(start.to_pydatetime(), end.to_pydatetime(), "UTC", "FR"),
    ).to_pandas()
    readings.to_parquet(directory / "readings.parquet")
    odd.to_parquet(directory / "quarantine.parquet")
    hours.to_parquet(directory / "features.parquet")
    print(len(readings), len(odd), len(hours))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
