"""What cannot be read, told as an alert, so that one damaged file does not silence all alerts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from ml_assets.resources.alerts import Alert
from ml_assets.settings import scrubbed

RESTORE = "restore Dagster's storage from a backup"
RESTORE_INDEX = f"{RESTORE}: the index of all runs, history/runs/index.db, is damaged"
RESTORE_RUN = (
    "restore the file from a backup; without one, move it away, delete the run (dagster run delete "
    "--force) and make its partitions again"
)
RESTART = "stop and start it under Automation in the UI, which writes its state anew"
MATERIALIZE = "materialize the asset: its freshness is then written anew"
_MOST_DETAILS, _LONGEST_DETAIL = 8, 300


@contextmanager
def telling(
    found: list[Alert],
    key: str,
    what: str,
    remedy: str,
    group: str = "monitoring",
    details: dict[str, str] | None = None,
) -> Iterator[None]:
    """Tell of what cannot be read, and go on with the rest; tell too when it can be read."""
    try:
        yield
    except Exception as error:
        cause = getattr(error, "orig", None) or error  # without SQLAlchemy's statement
        named = {name: value for name, value in (details or {}).items() if value}
        named |= {"error": f"{type(cause).__name__}: {cause}", "remedy": remedy}
        alert = readable(key, what, group)
        found.append(replace(alert, recovered=False, details=shown(named)))
    else:
        found.append(readable(key, what, group))


def readable(key: str, what: str, group: str = "monitoring") -> Alert:
    """Tell that something can be read."""
    title = f"{what} cannot be read"
    return Alert(f"unreadable {key}", recovered=True, severity="ERROR", group=group, title=title)


def shown(details: dict[str, str]) -> dict[str, str]:
    """Some of the details, short and without credentials."""
    return {
        name: scrubbed(value)[:_LONGEST_DETAIL]
        for name, value in list(details.items())[:_MOST_DETAILS]
    }
