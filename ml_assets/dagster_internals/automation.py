"""An automation condition that looks at the days before, held by `tick/test_automation.py`.

Dagster documents own automation conditions, but not how one maps partitions of its asset to others.
"""

from dataclasses import dataclass

import dagster as dg
from dagster._core.asset_graph_view.entity_subset import EntitySubset
from dagster._core.asset_graph_view.serializable_entity_subset import SerializableEntitySubset
from dagster._core.asset_graph_view.timing_metadata import TimingMetadata


@dataclass(frozen=True)
class DaysBefore(dg.AutomationCondition):
    """True of a day if `operand` is true of that day, or of one of the days before it.

    It is evaluated in the code location (`use_user_code_server`): the daemon does not know it.
    """

    operand: dg.AutomationCondition
    days: int

    @property
    def name(self) -> str:
        """What the UI calls it."""
        return f"on the day or the {self.days} days before"

    @property
    def children(self) -> list[dg.AutomationCondition]:
        """The condition that is evaluated for it."""
        return [self.operand]

    @property
    def requires_cursor(self) -> bool:
        """Nothing is kept from one evaluation to the next."""
        return False

    async def evaluate(  # type: ignore[override]  # Dagster awaits it
        self, context: dg.AutomationContext
    ) -> dg.AutomationResult:
        """Evaluate `operand` on all days, and move what is true to the days after."""
        every_day = context.asset_graph_view.get_full_subset(key=context.key)
        child = context.for_child_condition(
            self.operand, child_indices=[0], candidate_subset=every_day
        )
        result = await child.evaluate_async()
        true_subset = self._with_days_after(context, result.true_subset)
        times = result.timing_metadata
        return dg.AutomationResult(
            context,
            context.candidate_subset.compute_intersection(true_subset),
            child_results=[result],
            # By these `since` tells an update before the day was made from one after it.
            timing_metadata=times
            and TimingMetadata(
                timestamps={
                    time: self._with_days_after(context, subset)
                    for time, subset in times.timestamps.items()
                }
            ),
        )

    def _with_days_after(self, context: dg.AutomationContext, subset: EntitySubset) -> EntitySubset:
        days = context.partitions_def
        if days is None or subset.is_empty:
            return subset
        mapping = dg.TimeWindowPartitionMapping(
            start_offset=-self.days, allow_nonexistent_upstream_partitions=True
        )
        value = mapping.get_downstream_partitions_for_partitions(
            subset.get_internal_subset_value(), days, days, current_time=context.evaluation_time
        )
        return (
            context.asset_graph_view.get_subset_from_serializable_subset(
                SerializableEntitySubset(context.key, value)
            )
            or context.get_empty_subset()
        )
