"""How well bars can be forecast, walk forward, and what is found where there is nothing to find.

Every architecture is trained for both targets on one-minute bars of real ticks, made by the product
itself: the bundled week of BAC's trades, or a directory of yours. Beside it stand

- shuffled targets: the same bars, with the returns of other bars: no skill is right;
- a random walk: as many bars of which the next is chance: no skill is right;
- a planted signal: as many bars of which 5 % of the next one's variance follows from the last: that
  much skill is right, and less means that the network has not learned.

The latest bars are forecast in blocks. Before each, a network is trained from scratch on the
windows that end before it, purged by a window and its target, and validated on the latest of them.
Errors, hit rates with their 95 % interval and the Diebold-Mariano test against the best naive
forecast are of all blocks together. Naive is: no change or the last return; the last, the mean or
the exponentially weighted volatility. The ridge sees the last bar of each window.
"""

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.progress import Progress
from upath import UPath

from benchmarks.common import parser, report, write_json
from ml_assets.ml.series import BarSeries, autoregressive, random_walk, with_shuffled_targets
from ml_assets.ml.significance import HitRate, diebold_mariano, hit_rate
from ml_assets.ml.windows import (
    HORIZON,
    Windows,
    in_parts,
    split,
    walk_forward,
    whole,
)
from ml_assets.resources.ticks import FileTicks, SampleTicks, TickSource
from ml_assets.tick import data, features
from ml_assets.tick.config import TrainingConfig
from ml_assets.tick.model import BASIS_POINT, evaluate, naive, point, train

ARCHITECTURES = ("lstm", "gru", "transformer", "tft")
TARGETS = ("log_return", "volatility")
PLANTED = 0.05
FOLDS, BLOCK_SHARE, VALIDATION_SHARE = 3, 0.1, 0.15


@dataclass(frozen=True)
class Block:
    """What was forecast for a block of bars, in basis points.

    Attributes:
        truth: `(n,)`.
        forecast: `(n,)`.
        rivals: The naive forecasts `(n,)`, by name.
        ridge_mse: Mean squared error of the ridge regression.
    """

    truth: np.ndarray
    forecast: np.ndarray
    rivals: dict[str, np.ndarray]
    ridge_mse: float


def main() -> int:
    """Train every architecture on every series, and print the table."""
    options = parser(__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("--data", type=Path, metavar="DIR", help="a directory of ticks")
    options.add_argument("--architectures", nargs="+", default=ARCHITECTURES, metavar="NAME")
    arguments = options.parse_args()
    logging.disable(logging.INFO)
    architectures = ["gru"] if arguments.quick else arguments.architectures
    steps, folds = (10, 1) if arguments.quick else (features.LENGTH, FOLDS)
    trials = [
        (architecture, name, series, target)
        for name, series, target in _series(arguments.data, quick=arguments.quick)
        for architecture in architectures
    ]
    figures: dict[str, Any] = {}
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("training", total=len(trials))
        for architecture, name, series, target in trials:
            progress.update(task, description=f"{architecture}, {name}")
            started = time.perf_counter()
            blocks = list(_blocks(series, architecture, target, steps, folds))
            found = _pooled(blocks) | {"seconds": time.perf_counter() - started}
            figures.setdefault(name, {})[architecture] = found
            progress.advance(task)
    write_json(arguments.json, figures)
    columns = ["series", "network", "MSE, bp²", "naive", "skill", "of ridge", "hit rate", "DM (p)"]
    report(
        "Forecasts of the next bar",
        [*columns, "s"],
        [_row(name, *entry) for name, found in figures.items() for entry in found.items()],
    )
    return 0


def _series(directory: Path | None, *, quick: bool) -> Iterator[tuple[str, BarSeries, str]]:
    """The series, and what is forecast of them."""
    real = bars_of(directory)
    if not quick:
        for target in TARGETS:
            yield f"{target} of real bars", real, target
        yield "log_return, shuffled targets", with_shuffled_targets(real, seed=0), "log_return"
    bars = 2_000 if quick else len(real.price)
    yield "log_return of a random walk", random_walk(bars, seed=0), "log_return"
    yield (
        f"log_return, {PLANTED:.0%} planted",
        autoregressive(bars, share=PLANTED, seed=0),
        "log_return",
    )


def bars_of(directory: Path | None) -> BarSeries:
    """One-minute bars of all days of a directory, or of the sample, by the product's own steps."""
    source: TickSource = (
        FileTicks(directory=str(directory))
        if directory
        else SampleTicks(file_name=data.SAMPLE_NAME, sha256=data.SAMPLE_SHA256)
    )
    made = []
    days = [datetime(day.year, day.month, day.day, tzinfo=UTC) for day in source.days()]
    for start in days:
        end = start + timedelta(days=1)
        raw = data.arrived(source.read(start, end), start, end, "UTC", source.describe())
        made.append(features.bars(data.clean(raw, start, end).ticks, "time", 60))
    rows = features.compute(pa.concat_tables(made), days[0], days[-1] + timedelta(days=1))
    return features.series(rows, source.describe())


def _blocks(
    series: BarSeries, architecture: str, target: str, steps: int, folds: int
) -> Iterator[Block]:
    """The forecasts of the latest bars, each block by a network that was trained before it."""
    chosen = TrainingConfig(architecture=architecture, target=target).model_dump()  # type: ignore[arg-type]
    del chosen["warm_start"]
    if architecture == "tft":
        chosen |= {"units": 16}  # every variable has a network of its own
    starts = whole(series, steps)
    size, span = round(BLOCK_SHARE * len(starts)), steps + HORIZON
    for before, scored in walk_forward(starts, span=span, folds=folds, size=size):
        known = np.concatenate([before, scored])
        validated = round(VALIDATION_SHARE * len(before))
        parts = split(known, span=span, validation=validated, test=len(scored))
        windows = in_parts(series, steps, parts)
        with tempfile.TemporaryDirectory() as directory:
            trained = train(
                windows, **chosen, code_version="", checkpoint=UPath(directory) / "checkpoint.zip"
            )
        found = evaluate(windows, trained)
        last = windows.test + steps - 1
        yield Block(
            truth=getattr(windows, target)[last + HORIZON] / BASIS_POINT,
            forecast=point(found.predictions) / BASIS_POINT,
            rivals=_in_basis_points(windows, target),
            ridge_mse=found.baselines["ridge"],
        )


def _in_basis_points(windows: Windows, target: str) -> dict[str, np.ndarray]:
    rivals = naive(windows, target, windows.test)
    return {name: values / BASIS_POINT for name, values in rivals.items()}


def _pooled(blocks: list[Block]) -> dict[str, Any]:
    """The figures of all blocks together."""
    truth, forecast = (
        np.concatenate([getattr(block, name) for block in blocks]) for name in ("truth", "forecast")
    )
    losses = (truth - forecast) ** 2
    rivals = {
        name: (truth - np.concatenate([block.rivals[name] for block in blocks])) ** 2
        for name in blocks[0].rivals
    }
    best = min(rivals, key=lambda name: rivals[name].mean())
    test = diebold_mariano(losses, rivals[best], horizon=HORIZON)
    hits = hit_rate(truth, forecast) if "zero_return" in rivals else None
    ridge = np.average(
        [block.ridge_mse for block in blocks], weights=[len(b.truth) for b in blocks]
    )
    return {
        "rows": len(truth),
        "mse_bp2": float(losses.mean()),
        "best_naive": best,
        "best_naive_mse_bp2": float(rivals[best].mean()),
        "skill": float(1 - losses.mean() / rivals[best].mean()),
        "ridge_skill": float(1 - ridge / rivals[best].mean()),
        "dm_statistic": test.statistic,
        "dm_p_value": test.p_value,
        **_told(hits),
    }


def _told(hits: HitRate | None) -> dict[str, float]:
    if hits is None:
        return {}
    return {"hit_rate": hits.rate, "hit_rate_low": hits.low, "hit_rate_high": hits.high}


def _row(name: str, architecture: str, found: dict[str, Any]) -> list[str]:
    hits = (
        f"{found['hit_rate']:.1%} ({found['hit_rate_low']:.1%} to {found['hit_rate_high']:.1%})"
        if "hit_rate" in found
        else "–"
    )
    return [
        *(name, architecture, f"{found['mse_bp2']:.2f}", f"{found['best_naive_mse_bp2']:.2f}"),
        *(f"{found['skill']:+.2%}", f"{found['ridge_skill']:+.2%}", hits),
        *(f"{found['dm_statistic']:+.1f} ({found['dm_p_value']:.2f})", f"{found['seconds']:.0f}"),
    ]


if __name__ == "__main__":
    sys.exit(main())
