import os
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.event_log import SqliteEventLogStorage

from ml_assets.event_log import EventLogStorage

ROOT = Path(__file__).parents[1]
DAYS = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-11")


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def rows() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"rows": 1})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "dagster.yaml").symlink_to(ROOT / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return tmp_path


def materialize(instance: dg.DagsterInstance) -> str:
    tags = {
        "dagster/asset_partition_range_start": "2026-01-01",
        "dagster/asset_partition_range_end": "2026-01-10",
    }
    return dg.materialize([rows], instance=instance, tags=tags).run_id


def partitions(instance: dg.DagsterInstance) -> set[str]:
    return set(instance.get_materialized_partitions(dg.AssetKey("rows")))


def test_dagster_yaml_chooses_it_and_a_range_is_recorded(home: Path) -> None:
    with dg.DagsterInstance.get() as instance:
        assert isinstance(instance.event_log_storage, EventLogStorage)
        materialize(instance)
        assert len(partitions(instance)) == 10


def test_dagster_reads_the_same_files(home: Path) -> None:
    with dg.DagsterInstance.get() as instance:
        run_id = materialize(instance)
        plain = SqliteEventLogStorage(str(home / "history" / "runs"))
        ours = instance.event_log_storage.get_logs_for_run(run_id)
        assert plain.get_logs_for_run(run_id) == ours
        assert plain.get_materialized_partitions(dg.AssetKey("rows")) == partitions(instance)


def test_events_survive_a_killed_process(home: Path) -> None:
    program = (
        "import dagster as dg, os, signal\n"
        "from ml_assets_tests.test_event_log import materialize\n"
        "materialize(dg.DagsterInstance.get())\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert killed.returncode == -9
    with dg.DagsterInstance.get() as instance:
        assert len(partitions(instance)) == 10


def test_processes_write_at_the_same_time(home: Path) -> None:
    program = (
        "import dagster as dg\n"
        "from ml_assets_tests.test_event_log import materialize\n"
        "materialize(dg.DagsterInstance.get())\n"
    )
    with dg.DagsterInstance.get() as instance:
        started = [
            subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=os.environ)
            for _ in range(3)
        ]
        assert [process.wait() for process in started] == [0, 0, 0]
        records = instance.fetch_materializations(dg.AssetKey("rows"), limit=100).records
        assert len(records) == 30


def test_whoever_watches_a_run_hears_of_its_events_while_it_runs(home: Path) -> None:
    heard: list[str] = []
    with dg.DagsterInstance.get() as instance, dg.DagsterInstance.get() as writer:
        run_id = materialize(writer)
        run = instance.get_run_by_id(run_id)
        assert run
        instance.watch_event_logs(run_id, None, lambda event, _: heard.append(event.message))
        writer.report_engine_event("still here", run)
        deadline = time.monotonic() + 20
        while not any("still here" in message for message in heard):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_only_a_few_databases_stay_open(home: Path) -> None:
    with dg.DagsterInstance.get() as instance:
        runs = [materialize(instance) for _ in range(6)]
        handles = Path("/proc/self/fd").iterdir()
        files = [str(handle.readlink()) for handle in handles if handle.is_symlink()]
        opened = [run for run in runs if any(run in file for file in files)]
        assert opened == runs[-3:]  # beside the index
