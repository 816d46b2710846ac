"""Events of ranges are those that Dagster gives single days."""

import dagster as dg
import pytest

from ml_assets.dagster_internals import partitions as internals
from ml_assets.ml.errors import DataError
from ml_assets.ranges import Days, each_day

DAYS = dg.DailyPartitionsDefinition("2024-01-01")
RANGE = {
    "dagster/asset_partition_range_start": "2024-01-01",
    "dagster/asset_partition_range_end": "2024-01-03",
}
SETTINGS = {
    "partitions_def": DAYS,
    "backfill_policy": dg.BackfillPolicy.single_run(),
    "code_version": "1",
}


def table(name: str, *, bad: str = "", deps: tuple[str, ...] = ()) -> dg.AssetsDefinition:
    """A table that stores nothing."""

    @dg.asset(name=name, deps=list(deps), **SETTINGS)  # type: ignore[call-overload]
    def made(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        def make(start: object, _: object) -> None:
            if bad and str(start).startswith(bad):
                raise DataError("a day", "none", "mend it")

        def store(_: None, days: Days) -> list[dict[str, str]]:
            return [{"day": day.key} for day in days]

        return each_day(context, make, store)

    return made


def test_events_of_a_range_have_the_tags_that_dagster_gives_a_day() -> None:
    assets = [table("first"), table("second", deps=("first",))]
    tags = []
    for keywords in ({"tags": RANGE}, {"partition_key": "2024-01-02"}):
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize(assets, instance=instance, **keywords)  # type: ignore[arg-type]
        events = result.asset_materializations_for_node("second")
        [event] = [event for event in events if event.partition == "2024-01-02"]
        tags.append({name: value for name, value in event.tags.items() if "pointer" not in name})
        assert event.metadata["day"].value == "2024-01-02"
    assert tags[0] == tags[1]
    assert {"dagster/data_version", "dagster/code_version"} < tags[0].keys()


def test_a_failure_is_logged_and_the_run_goes_on() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [table("first", bad="2024-01-02"), table("second", deps=("first",))],
            instance=instance,
            tags=RANGE,
            raise_on_error=False,
        )
        logged = instance.all_logs(result.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        assert [entry.step_key for entry in logged] == ["first", "second"]
        for key in ("first", "second"):
            found = instance.get_materialized_partitions(dg.AssetKey(key))
            assert found == {"2024-01-01", "2024-01-03"}


@pytest.mark.parametrize(("chosen", "after"), [(None, True), (["first"], False)])
def test_what_a_run_executes_after_a_step_is_known_of_the_run(
    chosen: list[str] | None, after: bool
) -> None:
    """By an executor that gives each step a process, the step's plan knows no other step."""
    seen = []

    @dg.asset(**SETTINGS)  # type: ignore[call-overload]
    def first(context: dg.AssetExecutionContext) -> None:
        seen.append(internals.range_assets_after(context))

    job = dg.Definitions(assets=[first, table("second", deps=("first",))])
    assert job.resolve_implicit_global_asset_job_def().execute_in_process(
        tags=RANGE, op_selection=chosen
    )
    assert seen == [after]
