"""Which runs are re-executed, by what the web server would answer; the rest is `test_deploy.py`."""

import time
from typing import Any

import pytest

from ml_assets import reexecute


def run(number: int, status: str, job: str = "power_daily", **about: Any) -> dict[str, Any]:
    partition = about.get("partition", "2026-06-30")
    location = about.get("location", "power")
    return {
        "runId": str(number),
        "status": status,
        "jobName": job,
        "tags": [{"key": "dagster/partition", "value": partition}],
        "repositoryOrigin": {"repositoryLocationName": location} if location else None,
    }


def failed(
    monkeypatch: pytest.MonkeyPatch, *runs: dict[str, Any], status: str = "FAILURE"
) -> list[str]:
    """The runs that would be re-executed, of those given, the newest first, in pages of two."""

    def ask(_url: str, _query: str, limit: int, cursor: str | None, after: float) -> dict[str, Any]:
        assert after < time.time()
        begin = [found["runId"] for found in runs].index(cursor) + 1 if cursor else 0
        return {"runsOrError": {"results": list(runs[begin : begin + limit])}}

    monkeypatch.setattr(reexecute, "ask", ask)
    monkeypatch.setattr(reexecute, "_PAGE", 2)
    return reexecute.failed_runs("http://host", status=status)


def test_the_latest_run_of_each_job_and_partition_goes_on_the_oldest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = failed(
        monkeypatch,
        run(7, "FAILURE"),
        run(6, "FAILURE", partition="2026-06-29"),
        run(5, "SUCCESS", "tick_daily", location="tick"),
        run(4, "FAILURE", "tick_daily", location="tick"),
        run(3, "FAILURE"),
        run(2, "FAILURE", "mnist_weekly", location="mnist"),
    )
    assert found == ["2", "6", "7"]


def test_a_job_that_was_launched_by_hand_is_the_same_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """`dagster job execute` knows no code location."""
    assert failed(monkeypatch, run(2, "SUCCESS", location=None), run(1, "FAILURE")) == []


def test_assets_of_two_groups_are_two_things(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [run(2, "SUCCESS", "__ASSET_JOB"), run(1, "FAILURE", "__ASSET_JOB", location="tick")]
    assert failed(monkeypatch, *runs) == ["1"]


def test_cancelled_runs_are_known_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [run(2, "CANCELED"), run(1, "FAILURE", "tick_daily", location="tick")]
    assert failed(monkeypatch, *runs) == ["1"]
    assert failed(monkeypatch, *runs, status="CANCELED") == ["2"]


@pytest.mark.parametrize(
    ("arguments", "executed"), [([], ["1"]), (["--cancelled"], ["1", "2"]), (["2"], ["2"])]
)
def test_cancelled_runs_are_named_and_go_on_when_asked_to(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    executed: list[str],
) -> None:
    runs = [run(2, "CANCELED"), run(1, "FAILURE", "tick_daily", location="tick")]
    asked = []

    def ask(_url: str, _query: str, **variables: Any) -> dict[str, Any]:
        if "run" not in variables:
            return {"runsOrError": {"results": [] if variables["cursor"] else runs}}
        asked.append(variables["run"])
        again = {"__typename": "LaunchRunSuccess", "run": {"runId": "again"}}
        return {"launchRunReexecution": again}

    monkeypatch.setattr(reexecute, "ask", ask)
    monkeypatch.setattr("sys.argv", ["reexecute", *arguments])
    assert reexecute.main() == 0
    assert asked == executed
    assert ("2: was cancelled" in capsys.readouterr().out) == (executed == ["1"])
