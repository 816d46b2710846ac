"""Re-execute failed runs from their failure, by Dagster's web server.

python -m ml_assets.reexecute               every job's latest run of 30 days, where it failed
python -m ml_assets.reexecute --cancelled   also those that were cancelled
python -m ml_assets.reexecute RUN_ID        that run, whether it failed or was cancelled

Nothing that succeeded is done again; a training goes on from its last finished epoch. Somebody may
have cancelled a run on purpose: without being asked to, such runs are only named.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import requests
from rich.console import Console

from ml_assets.settings import dagster_url

UI_URL = os.environ.get("ML_ASSETS_DAGSTER_UI_URL")
URL = os.environ.get("ML_ASSETS_DAGSTER_URL") or dagster_url()
_RUNS = """query ($limit: Int!, $cursor: String, $after: Float!) {
  runsOrError(limit: $limit, cursor: $cursor, filter: {updatedAfter: $after}) {
    ... on Runs { results {
    runId status jobName tags { key value } repositoryOrigin { repositoryLocationName } } } } }"""
_REEXECUTE = """mutation ($run: String!) {
  launchRunReexecution(reexecutionParams: {parentRunId: $run, strategy: FROM_FAILURE}) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message } } }"""
_PAGE, _DAYS = 500, 30


def ask(url: str, query: str, **variables: Any) -> dict[str, Any]:
    """What the web server answers to a GraphQL query.

    Raises:
        requests.RequestException: It cannot be reached, or refuses.
        ValueError: It does not understand.
    """
    response = requests.post(
        f"{url}/graphql", json={"query": query, "variables": variables}, timeout=60
    )
    answer = response.json()
    if "errors" in answer:
        raise ValueError(answer["errors"][0]["message"])
    return answer["data"]


def failed_runs(url: str, *, status: str = "FAILURE") -> list[str]:
    """The latest run of each job and partition, where it failed (or ended so); the oldest first."""
    latest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for run in _recent_runs(url):
        tags = {tag["key"]: tag["value"] for tag in run["tags"]}
        about = {
            name: value
            for name, value in tags.items()
            if name.startswith(("dagster/partition", "dagster/asset_partition_range"))
        }
        job = run["jobName"]
        if job.startswith("__"):  # any group's assets; names of jobs are unique
            job = ((run["repositoryOrigin"] or {}).get("repositoryLocationName"), job)
        key = (job, *sorted(about.items()))
        latest.setdefault(key, run)  # the newest comes first
    return [run["runId"] for run in reversed(latest.values()) if run["status"] == status]


def _recent_runs(url: str) -> Iterator[dict[str, Any]]:
    """The runs of the latest days, the newest first."""
    cursor, after = None, time.time() - _DAYS * 86_400
    while True:
        answer = ask(url, _RUNS, limit=_PAGE, cursor=cursor, after=after)
        page = answer["runsOrError"]["results"]
        yield from page
        if not page:
            return
        cursor = page[-1]["runId"]


def main() -> int:
    """Re-execute what the command line names."""
    options = argparse.ArgumentParser(
        prog="python -m ml_assets.reexecute",
        description="Re-execute failed runs from their failure. Cancelled ones are only named, "
        "unless RUN_ID or --cancelled asks for them: somebody may have meant it.",
    )
    options.add_argument("runs", nargs="*", metavar="RUN_ID", help="default: the latest failures")
    options.add_argument(
        "--cancelled", action="store_true", help="jobs whose latest run was cancelled, too"
    )
    options.add_argument("--url", default=URL, help=f"Dagster's web server ({URL})")
    arguments = options.parse_args()
    console = Console()
    try:
        runs, cancelled = arguments.runs, []
        if not runs:
            runs = failed_runs(arguments.url)
            cancelled = failed_runs(arguments.url, status="CANCELED")
        if arguments.cancelled:
            runs, cancelled = [*runs, *cancelled], []
        answers = {
            run: ask(arguments.url, _REEXECUTE, run=run)["launchRunReexecution"] for run in runs
        }
    except (requests.RequestException, ValueError) as error:
        console.print(f"[red]{error}\nIs Dagster running at {arguments.url}? Try make up.")
        return 1
    for run, answer in answers.items():
        if answer["__typename"] == "LaunchRunSuccess":
            link = f"{UI_URL or arguments.url}/runs/{answer['run']['runId']}"
            console.print(f"{run}: goes on as {link}")
        else:
            console.print(f"[red]{run}: {answer.get('message', answer['__typename'])}")
    if not runs:
        console.print("no job's latest run has failed")
    for run in cancelled:
        console.print(f"{run}: was cancelled; --cancelled re-executes it, too")
    return int(any(answer["__typename"] != "LaunchRunSuccess" for answer in answers.values()))


if __name__ == "__main__":
    sys.exit(main())
