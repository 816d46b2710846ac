"""What a year of all four groups needs on disk, from what one run of each left in a data directory.

make demo && python -m benchmarks.disk_year

Nothing is run: the files and rows of the latest run of each scheduled job are measured, and taken
for what each week or day leaves. What `{GROUP}_retention` and `{GROUP}_upkeep` delete is there for
KEEP_DAYS at most. With `--ticks`, what the alert sensor writes at each tick is measured, too.
"""

import json
import os
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

from dagster._core.event_api import EventLogCursor

from benchmarks.common import parser, report, write_json
from ml_assets.settings import data_dir

RUNS_A_YEAR = {"mnist_weekly": 52, "cifar10_weekly": 52, "power_daily": 365, "tick_daily": 365}
KEEP_DAYS = 90
TICKS_A_DAY = 2880
BROKEN = 500


def latest_runs(dagster: Path) -> dict[str, str]:
    """The latest run of each scheduled job, by job."""
    with closing(sqlite3.connect(dagster / "history" / "runs.db")) as connection:
        found = connection.execute("SELECT pipeline_name, run_id FROM runs ORDER BY id").fetchall()
    return {job: run for job, run in found if job in RUNS_A_YEAR}


def of_dagster(dagster: Path, run: str) -> int:
    """What Dagster keeps of a run: its database, its rows in the index, what it printed."""
    runs = dagster / "history" / "runs"
    with closing(sqlite3.connect(runs / "index.db")) as index:
        of_all = index.execute("SELECT SUM(LENGTH(event)) FROM event_logs").fetchone()[0]
        of_run = index.execute(
            "SELECT SUM(LENGTH(event)) FROM event_logs WHERE run_id = ?", (run,)
        ).fetchone()[0]
        pages, size = (
            index.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size")
        )
    printed = sum(size_of(path) for path in (dagster / "storage").glob(f"{run}*"))
    return (runs / f"{run}.db").stat().st_size + int(pages * size * of_run / of_all) + printed


def of_pictures(dagster: Path, run: str) -> int:
    """The part of it that is pictures."""
    with closing(sqlite3.connect(dagster / "history" / "runs" / f"{run}.db")) as connection:
        events = connection.execute(
            "SELECT event FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION'"
        ).fetchall()
    encoded = (event.split("base64,")[1:] for (event,) in events)
    # As a step's output, as a materialization, and that once more in the index.
    return 3 * sum(len(part.split(")", 1)[0]) for parts in encoded for part in parts)


def of_mlflow(mlflow: Path, group: str) -> int:
    """What MLflow keeps of a training: its files, and its part of the database."""
    place, database = mlflow / "artifacts" / group, mlflow / "mlflow.db"
    of_group = [run for run in place.iterdir() if run.name != "models"]
    with closing(sqlite3.connect(database)) as connection:
        trainings = connection.execute("SELECT COUNT(*) FROM runs").fetchone()[0]
    return size_of(place) // len(of_group) + database.stat().st_size // trainings


def of_tables(warehouse: Path, group: str, days: int) -> int:
    """What a day adds to the tables of a group."""
    return size_of(warehouse / group) // days


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files below a directory."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def bytes_of_a_tick() -> dict[str, int]:
    """What the alert sensor stores at a tick with many broken partitions: the whole, and now."""
    from ml_assets.monitoring.ledger import Ledger
    from ml_assets.monitoring.ledger_store import LedgerStore
    from ml_assets.resources.alerts import Alert

    alerts = [
        Alert(
            f"check power/readings:missing_minutes_below_limit {day}",
            False,
            "ERROR",
            "power",
            "power/readings does not hold: missing_minutes_below_limit",
            asset="power/readings",
            partition=f"2026-{day:03}",
            check="missing_minutes_below_limit",
            details={"said": "720 minutes are missing", "missing": "720", "allowed": "60"},
            link="http://127.0.0.1:3000/runs/5f3c2d3e-3c8e-4e50-9d3e-8d3a44a3a6a0",
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        for day in range(BROKEN)
    ]
    place = EventLogCursor.from_storage_id(123_456).to_string()
    positions = {f"PIPELINE_{how}": place for how in ("SUCCESS", "FAILURE", "CANCELED")}
    ledger = Ledger(0.0, positions, problems={alert.key: alert for alert in alerts})
    with (
        tempfile.TemporaryDirectory() as directory,
        mock.patch.dict(os.environ, {"ML_ASSETS_DATA_DIR": directory}),
    ):
        cursor = LedgerStore().save(ledger)
    return {"before": len(json.dumps(asdict(ledger))), "now": len(cursor)}


def main() -> None:
    """Measure, and print the table of a year."""
    options = parser(__doc__)
    options.add_argument("--data", type=Path, default=data_dir(), help="the data directory")
    options.add_argument("--ticks", action="store_true", help="measure the alert sensor's ticks")
    arguments = options.parse_args()
    data: Path = arguments.data
    figures: dict[str, dict[str, float]] = {}
    days_of_tables = {"power": 182, "tick": 12}  # what the demo makes
    for job, run in latest_runs(data / "dagster").items():
        group, times = job.split("_")[0], RUNS_A_YEAR[job]
        kept = round(times * KEEP_DAYS / 365)
        dagster = of_dagster(data / "dagster", run)
        pictures = of_pictures(data / "dagster", run)
        mlflow = of_mlflow(data / "mlflow", group)
        outputs = size_of(data / "artifacts" / group)
        # A daily group has an output a partition, a weekly group one that is replaced.
        held = outputs * kept if group in days_of_tables else outputs
        tables = 0
        if days := days_of_tables.get(group):
            tables = of_tables(data / "lakehouse" / "warehouse", group, days)
        year = dagster * times + mlflow * kept + held + tables * 365
        figures[group] = {
            "dagster_a_run": dagster,
            "of_it_pictures": pictures,
            "mlflow_a_run": mlflow,
            "outputs_a_run": outputs,
            "tables_a_day": tables,
            "dagster_a_year": dagster * times,
            "year": year,
        }
    rows = [
        [group, *(f"{value / 1e6:,.2f}" for value in of.values())] for group, of in figures.items()
    ]
    totals = [sum(of[name] for of in figures.values()) for name in ("dagster_a_year", "year")]
    rows.append(["all", "", "", "", "", "", *(f"{total / 1e6:,.0f}" for total in totals)])
    columns = ["group", "Dagster a run", "of it pictures", "MLflow a run", "outputs a run"]
    columns += ["tables a day", "Dagster a year", "a year, all"]
    report(f"MB, with {KEEP_DAYS} days of retention", columns, rows)
    if arguments.ticks:
        ticks = bytes_of_a_tick()
        title = f"the alert sensor with {BROKEN} broken partitions"
        a_day = {name: size * TICKS_A_DAY / 1e6 for name, size in ticks.items()}
        rows = [[name, f"{size:,}", f"{a_day[name]:,.1f}"] for name, size in ticks.items()]
        report(title, ["", "bytes a tick", "MB a day"], rows)
        figures["ticks"] = dict(ticks)
    write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
