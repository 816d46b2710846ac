import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from upath import UPath

from ml_assets.io_managers.archives import ArchiveIOManager, forget_outputs
from ml_assets.resources.checkpoints import Checkpoints

DAYS = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-04")
THIRD = datetime(2026, 1, 3, tzinfo=UTC)


@dataclass(frozen=True)
class Numbers:
    values: np.ndarray


@dg.asset(key_prefix="group")
def plain() -> Numbers:
    return Numbers(np.arange(3))


@dg.asset(key_prefix="group", partitions_def=DAYS)
def daily(context: dg.AssetExecutionContext, plain: Numbers) -> Numbers:
    return Numbers(plain.values + int(context.partition_key[-2:]))


@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_outputs_are_found_again_by_key_and_partition(scheme: str, tmp_path: Path) -> None:
    manager = ArchiveIOManager(base_path=f"{scheme}{tmp_path}")
    with dg.DagsterInstance.ephemeral() as instance:
        for partition in ("2026-01-01", "2026-01-02", "2026-01-01"):
            result = dg.materialize(
                [plain, daily],
                resources={"io_manager": manager},
                partition_key=partition,
                instance=instance,
            )
            found = result.asset_value(["group", "daily"]).values
            np.testing.assert_array_equal(found, np.arange(3) + int(partition[-2:]))
    if not scheme:
        assert sorted(path.name for path in (tmp_path / "group" / "daily").iterdir()) == [
            "2026-01-01.zip",
            "2026-01-02.zip",
        ]


def test_storing_an_output_removes_its_checkpoint_and_a_failure_to_store_does_not(
    tmp_path: Path,
) -> None:
    checkpoints = Checkpoints(base_path=str(tmp_path))

    @dg.asset(key_prefix="group")
    def trained(context: dg.AssetExecutionContext, checkpoints: Checkpoints) -> Any:
        path = checkpoints.path(context)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("all epochs")
        return Numbers(np.zeros(1)) if context.run.tags.get("good") else "nothing to store"

    def run(**tags: str) -> bool:
        return dg.materialize(
            [trained],
            resources={
                "io_manager": ArchiveIOManager(base_path=str(tmp_path)),
                "checkpoints": checkpoints,
            },
            tags=tags,
            raise_on_error=False,
        ).success

    assert not run()
    assert [path.name for path in (tmp_path / "group").iterdir()] == ["trained.checkpoint"]
    assert run(good="yes")
    assert [path.name for path in (tmp_path / "group").iterdir()] == ["trained.zip"]


def test_a_damaged_input_fails_at_once_and_names_its_asset(tmp_path: Path) -> None:
    manager = ArchiveIOManager(base_path=str(tmp_path))

    plain_key = dg.AssetKey(["group", "plain"])
    (tmp_path / "group").mkdir()
    (tmp_path / "group" / "plain.zip").write_bytes(b"damaged")

    @dg.asset(ins={"plain": dg.AssetIn(key=plain_key)}, retry_policy=dg.RetryPolicy(max_retries=2))
    def reader(plain: Numbers) -> Numbers:
        return plain

    result = dg.materialize(
        [dg.AssetSpec(plain_key), reader],
        selection=[reader],
        resources={"io_manager": manager},
        raise_on_error=False,
    )
    [failure] = result.get_step_failure_events()
    assert "group/plain: expected a saved Numbers" in str(failure.step_failure_data.error)
    assert not [event for event in result.all_events if event.is_step_up_for_retry]


def test_a_partition_key_cannot_leave_the_directory(tmp_path: Path) -> None:
    keys = dg.StaticPartitionsDefinition(["../../escaped", "/escaped", ".."])

    @dg.asset(partitions_def=keys)
    def hostile() -> Numbers:
        return Numbers(np.zeros(1))

    for key in keys.get_partition_keys():
        dg.materialize(
            [hostile],
            resources={"io_manager": ArchiveIOManager(base_path=str(tmp_path / "a" / "b"))},
            partition_key=key,
        )
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.zip")}
    assert written == {
        "a/b/hostile/%2E%2E%2F%2E%2E%2Fescaped.zip",
        "a/b/hostile/%2Fescaped.zip",
        "a/b/hostile/%2E%2E.zip",
    }


@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_outputs_of_days_past_are_forgotten_and_nothing_else(scheme: str, tmp_path: Path) -> None:
    base = f"{scheme}{tmp_path}"
    kept = ["group/daily/2026-01-03.zip", "group/daily/2026-01-04.zip", "group/plain.zip"]
    kept += ["other/daily/2026-01-01.zip", "group/daily/latest.zip"]
    for name in ["group/daily/2026-01-02.zip", "group/daily/2026-01-01.checkpoint", *kept]:
        path = UPath(base, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"value")
        if not scheme:
            os.utime(path, (0, 0))
    assert forget_outputs(base, "group", THIRD) == (2, 10)
    found = [path for path in UPath(base).glob("**/*") if path.is_file()]
    assert sorted(
        str(path)[str(path).index(tmp_path.name) + len(tmp_path.name) + 1 :] for path in found
    ) == sorted(kept)
    assert forget_outputs(base, "group", THIRD) == (0, 0)


def test_what_was_just_made_of_a_day_long_past_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "group" / "daily" / "2014-05-14.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"value")
    assert forget_outputs(str(tmp_path), "group", THIRD) == (0, 0)
    os.utime(path, (0, 0))
    assert forget_outputs(str(tmp_path), "group", THIRD) == (1, 5)


def test_what_was_computed_beside_a_checkpoint_is_forgotten_when_it_is_old(tmp_path: Path) -> None:
    path = tmp_path / "group/model.features/fingerprint/train/000000.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"value")
    assert forget_outputs(str(tmp_path), "group", THIRD) == (0, 0)
    os.utime(path, (0, 0))
    assert forget_outputs(str(tmp_path), "group", THIRD) == (1, 5)


def test_where_there_are_no_outputs_nothing_is_forgotten(tmp_path: Path) -> None:
    assert forget_outputs(str(tmp_path), "group", THIRD) == (0, 0)
