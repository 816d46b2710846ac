"""Champion and challenger of the group side by side, on days of a feed that does not repeat."""

import shutil
from datetime import date

import numpy as np
import pytest

from ml_assets.ml.archive import model_from_bytes
from ml_assets.ml.windows import Windows
from ml_assets.promotion import Decision, Policy
from ml_assets.resources.registry import Trial
from ml_assets.tick import assets
from ml_assets.tick.model import forecast_of
from ml_assets_tests.tick.group import (
    FRIDAY,
    MODEL,
    SUNDAY,
    Group,
    aliases,
    equal,
    failures,
    kept,
    metadata,
)

MONDAY, TUESDAY = "2025-04-21", "2025-04-22"


@pytest.fixture
def on_trial(trained: Group, monkeypatch: pytest.MonkeyPatch) -> Group:
    """Monday's model is on trial since Monday beside Friday's, whatever the test rows say."""

    def undecided(challenger: np.ndarray, champion: np.ndarray) -> Decision:
        assert len(challenger) == len(champion)
        return Decision(False, False, "not distinguishable", 0.0, -1.0, 1.0)

    monkeypatch.setattr(assets, "PROMOTION", Policy("shadow", 14))
    monkeypatch.setattr(assets, "decide", undecided)
    result = trained.run(days=MONDAY, checks=False)
    assert result.success, failures(result)
    assert metadata(result, "shadow")["trial"] == "on"
    assert metadata(result, "shadow")["observations"] == 0
    return trained


def test_each_day_both_forecast_the_same_bars(on_trial: Group) -> None:
    result = on_trial.run(days=TUESDAY, checks=False)
    assert result.success, failures(result)
    # Tuesday's version waits until the trial is over.
    assert (
        "version 2 is on trial since 2025-04-21" in metadata(result, "registered_model")["reason"]
    )
    assert aliases(on_trial) == {MODEL: {"champion": "1", "challenger": "3", "shadow": "2"}}
    found = metadata(result, "shadow")
    assert (found["trial"], found["observations"], found["table"]) == ("on", 1, "tick.shadow")
    [row] = on_trial.read("shadow").to_pylist()
    assert (row["day"], row["model"], row["champion"], row["challenger"]) == (
        *(TUESDAY, MODEL),
        *("1", "2"),
    )
    windows = kept(on_trial, "windows", Windows, TUESDAY)
    starts = windows.test[windows.days_of(windows.test) == np.datetime64(TUESDAY)]
    assert row["rows"] == len(starts) > 300
    with on_trial.mlflow.registry(MODEL) as registry:
        for role in ("champion", "challenger"):
            network = model_from_bytes(registry.model_file(row[role]))
            made = forecast_of(network, windows, "log_return", starts)
            assert row[f"{role}_loss"] == pytest.approx(made.metrics["mse_bp2"])

    # The same day again leaves the same row.
    before = on_trial.read("shadow")
    again = on_trial.run("key:tick/shadow", TUESDAY)
    assert metadata(again, "shadow")["observations"] == 1
    assert equal(on_trial.read("shadow"), before)


def test_a_day_that_is_no_news_to_both_is_no_evidence(on_trial: Group) -> None:
    result = on_trial.run("key:tick/shadow", FRIDAY)
    assert result.success, failures(result)
    assert metadata(result, "shadow")["observations"] == 0
    assert "tick.shadow" not in on_trial.lakehouse.tables("tick")


def test_a_day_without_trade_is_no_evidence(on_trial: Group) -> None:
    artifacts = on_trial.home / "artifacts" / "tick"
    for name in ("windows", "registered_model"):
        shutil.copy(artifacts / name / f"{FRIDAY}.zip", artifacts / name / f"{SUNDAY}.zip")
    with on_trial.mlflow.registry(MODEL) as registry:
        registry.begin_trial("2", date.fromisoformat(FRIDAY))
        assert registry.trial() == Trial("1", "2", date.fromisoformat(FRIDAY))
        # As a version trained until then, for which the Sunday is news.
        registry.set_tags("2", {"trained_until": "2025-04-17"})
    result = on_trial.run("key:tick/shadow", SUNDAY, checks=False)
    assert result.success, failures(result)
    assert metadata(result, "shadow")["observations"] == 0
    assert len(on_trial.read("shadow")) == 0
