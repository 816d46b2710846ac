"""Where the project keeps its data, and what the environment says about a group.

Secrets reach their resource as a `dg.EnvVar`, which shows the variable's name and never its
value.
"""

import os
import re
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg

GROUP_TAG = "ml_assets/group"
"""The tag of jobs without assets, which says whose they are."""


def data_dir() -> Path:
    """The directory below which the embedded form keeps everything (`ML_ASSETS_DATA_DIR`)."""
    return Path(os.environ.get("ML_ASSETS_DATA_DIR", "data")).absolute()


def dagster_url() -> str:
    """Where people look at Dagster: `ML_ASSETS_DAGSTER_UI_URL`, else where `make up` serves it."""
    port = os.environ.get("DAGSTER_PORT") or "3000"
    return os.environ.get("ML_ASSETS_DAGSTER_UI_URL") or f"http://127.0.0.1:{port}"


def mlflow_url(group: str = "") -> str:
    """Where people look at MLflow: `ML_ASSETS_MLFLOW_UI_URL`, else where `make up` serves it.

    Args:
        group: Whose `{GROUP}_MLFLOW_UI_URL` takes precedence.
    """
    port = os.environ.get("MLFLOW_PORT") or "5000"
    return setting(group, "MLFLOW_UI_URL", f"http://127.0.0.1:{port}")


def setting(group: str, name: str, default: str) -> str:
    """The value of `{GROUP}_{NAME}`, else of `ML_ASSETS_{NAME}`, else `default`.

    >>> setting("no_such_group", "COLOUR", "blue")
    'blue'
    """
    for variable in (f"{group.upper()}_{name}", f"ML_ASSETS_{name}"):
        if value := os.environ.get(variable):
            return value
    return default


def timezone(group: str, name: str = "TIMEZONE") -> str:
    """The time zone that `{GROUP}_{NAME}`, else `ML_ASSETS_{NAME}`, names; else UTC.

    Raises:
        ValueError: There is no such time zone.
    """
    found = setting(group, name, "UTC")
    try:
        ZoneInfo(found)
    except (ValueError, OSError, KeyError) as error:  # a directory of zones is no zone
        raise ValueError(
            f"{group.upper()}_{name} or ML_ASSETS_{name}: expected a time zone such as "
            f"Europe/Paris; found {found!r}; remedy: correct it, or leave it out"
        ) from error
    return found


def day(group: str, name: str, default: str) -> str:
    """The day `{GROUP}_{NAME}`, else `ML_ASSETS_{NAME}`, else `default`, which may be none: "".

    Raises:
        ValueError: It is no day that 64 bits of nanoseconds can say.
    """
    value = setting(group, name, default)
    if not value:
        return value
    try:
        found = date.fromisoformat(value)
    except ValueError:
        found = date.min
    if not 1678 <= found.year <= 2261:
        raise ValueError(
            f"{group.upper()}_{name} or ML_ASSETS_{name}: expected a day such as 2026-01-31, of "
            f"the years 1678 to 2261; found {value!r}; remedy: correct it, or leave it out"
        )
    return found.isoformat()


def secret(group: str, name: str, default: str, *, shared: bool = True) -> str:
    """A reference to `{GROUP}_{NAME}`, else to `{NAME}`, whichever is set, else `default`.

    The value itself is read when a run starts and is shown nowhere.

    Args:
        group: The group.
        name: The variable without its group.
        default: The value if it is not set.
        shared: Whether there may be one variable for all groups.
    """
    for variable in (f"{group.upper()}_{name}", *([name] if shared else [])):
        if os.environ.get(variable):
            return dg.EnvVar(variable)
    return default


def without_credentials(url: str) -> str:
    """`url` without user name, password and query, fit to be shown.

    >>> without_credentials("https://someone:secret@host:5000/path?password=secret")
    'https://host:5000/path'
    >>> without_credentials("sqlite:////absolute/path")
    'sqlite:////absolute/path'
    >>> without_credentials("postgresql://someone:s3cr/et?@host/name")
    'postgresql://host/name'
    """
    # Greedy, and first of all: a password may hold any of / ? and @.
    return re.sub(r"://.*@", "://", url).partition("?")[0]


def scrubbed(text: str) -> str:
    """A text without user names, passwords and queries of the URLs in it.

    >>> scrubbed("404 for url: https://someone:secret@host/file?token=secret (Caused by …)")
    '404 for url: https://host/file (Caused by …)'
    """
    return re.sub(r"(/[^\s?]*)\?\S+", r"\1", re.sub(r"://\S*@", "://", text))
