"""What can be configured about readings and trainings; the defaults are those of the daily run."""

from typing import Literal

import dagster as dg
from pydantic import Field

from ml_assets.build import daily_partitions, promotion_policy
from ml_assets.power import data
from ml_assets.settings import setting, timezone

GROUP = "power"
SOURCE = setting(GROUP, "SOURCE", "replay")
TIMEZONE = timezone(GROUP)
COUNTRY = setting(GROUP, "HOLIDAYS", "FR")
PROMOTION = promotion_policy(GROUP)

# A record that is finished has a last day too.
_FIRST, _LAST = {
    "replay": ("2025-01-01", ""),
    "sample": (data.SAMPLE_FIRST_DAY, data.SAMPLE_LAST_DAY),
    "uci": (data.FIRST_DAY, data.LAST_DAY),
}.get(SOURCE, (data.FIRST_DAY, ""))
DAYS = daily_partitions(GROUP, _FIRST, _LAST)


class CleaningConfig(dg.Config):
    """Configuration of `power/readings`."""

    max_excluded_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Largest share of a day's lines that may be left out as unusable; those of an "
        "hour that the clock skips do not count.",
    )


class TuningConfig(dg.Config):
    """Configuration of `power/tuning`: the keyword parameters of `model.tune`."""

    horizon: Literal["day_ahead", "next_hour"] = Field(
        default="day_ahead",
        description="`day_ahead`: the 24 hours of a day, from what is known when it begins; "
        "`next_hour`: each hour from what is known when it begins.",
    )
    window_days: int = Field(
        default=730, ge=60, le=3650, description="Days before the partition's end that count."
    )
    test_days: int = Field(
        default=28, ge=7, le=365, description="Latest days, held back for the evaluation."
    )
    validation_days: int = Field(
        default=14, ge=1, le=180, description="Days in a validation block."
    )
    folds: int = Field(default=3, ge=1, le=12, description="Number of validation blocks.")
    trials: int = Field(default=40, ge=1, le=10_000, description="Budget of the search in trials.")
    seconds: float = Field(
        default=300.0, ge=0, le=86_400, description="Budget of the search in seconds."
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Of the sampler and the boosters.")


class TrainingConfig(dg.Config):
    """Configuration of `power/model`: the keyword parameters of `model.train`."""

    interval: float = Field(
        default=0.8, gt=0, lt=1, description="Share of hours that the interval is to cover."
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Of the boosters.")
