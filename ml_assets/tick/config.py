"""What can be configured about bars and trainings; the defaults are those of the daily run."""

from typing import Literal

import dagster as dg
from pydantic import Field

from ml_assets.build import daily_partitions, promotion_policy
from ml_assets.settings import setting, timezone
from ml_assets.tick import data
from ml_assets.tick.features import LENGTH

GROUP = "tick"
SOURCE = setting(GROUP, "SOURCE", "replay")
TIMEZONE = timezone(GROUP)
PROMOTION = promotion_policy(GROUP)

# A record that is finished has a last day too.
_FIRST, _LAST = {
    "replay": ("2025-01-01", ""),
    "sample": (data.SAMPLE_FIRST_DAY, data.SAMPLE_LAST_DAY),
}.get(SOURCE, ("2010-01-01", ""))
DAYS = daily_partitions(GROUP, _FIRST, _LAST)


class CleaningConfig(dg.Config):
    """Configuration of `tick/ticks`: the keyword parameters of `data.clean`."""

    identical_trades: Literal["auto", "keep", "remove"] = Field(
        default="auto",
        description="Trades of one time that are alike in every value: `keep` them, `remove` all "
        "but one, or keep them if the feed's clock is no finer than milliseconds (`auto`).",
    )
    outlier_jump: float = Field(
        default=data.OUTLIER_JUMP,
        gt=0,
        le=1,
        description="Least distance from the prices right before, in log price, from which on a "
        "price may be an outlier.",
    )
    max_excluded_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Largest share of a day's ticks that may be left out as bad prints.",
    )


class BarsConfig(dg.Config):
    """Configuration of `tick/bars`: the parameters of `features.bars`."""

    kind: Literal["time", "tick", "volume", "dollar"] = Field(
        default=setting(GROUP, "BARS", "time"),  # type: ignore[arg-type]
        description="What makes a bar full: seconds, ticks, units traded, or money traded.",
    )
    size: float = Field(
        default=float(setting(GROUP, "BAR_SIZE", "60")), gt=0, description="How many of them."
    )


class WindowsConfig(dg.Config):
    """Configuration of `tick/windows`: the parameters of `ml.windows.windowed`, and how far back.

    Of the days that have windows, the latest are tested on, those before are validated on, at
    least one each.
    """

    window_days: int = Field(
        default=60, ge=3, le=3650, description="Days before the partition's end that count."
    )
    steps: int = Field(default=LENGTH, ge=2, le=1000, description="Bars of a window.")
    validation_fraction: float = Field(
        default=0.1, gt=0, lt=0.5, description="Share of the days to validate on, every epoch."
    )
    test_fraction: float = Field(
        default=0.2, gt=0, lt=0.5, description="Share of the days, held back for the evaluation."
    )


class TrainingConfig(dg.Config):
    """Configuration of `tick/model`: the keyword parameters of `model.train`, and `warm_start`."""

    architecture: Literal["lstm", "gru", "transformer", "tft"] = Field(
        default="lstm",
        description="`lstm`, `gru`; `transformer`: an encoder; `tft`: the Temporal Fusion "
        "Transformer, which forecasts quantiles and is some twenty times slower.",
    )
    target: Literal["log_return", "volatility"] = Field(
        default="log_return",
        description="What is forecast of the next bar: its log return, or its volatility.",
    )
    units: int = Field(default=32, ge=4, le=1024, multiple_of=4, description="Network's width.")
    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="Share of the units dropped in training."
    )
    epochs: int = Field(default=8, ge=1, le=1000, description="Passes over the training windows.")
    batch_size: int = Field(default=256, ge=1, le=65_536, description="Windows in a step.")
    learning_rate: float = Field(
        default=0.003, gt=0, le=1, description="Peak of the one-cycle learning rate of AdamW."
    )
    weight_decay: float = Field(
        default=0.01, ge=0, le=1, description="Decoupled weight decay of AdamW."
    )
    warm_start: bool = Field(
        default=True,
        description="Go on from the champion's weights, if it has the same shape and does not know "
        "the test days.",
    )
    seed: int = Field(
        default=0, ge=0, lt=2**31, description="Decides initial weights, data order and dropout."
    )
