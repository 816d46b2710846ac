"""Which column is what: the spellings under which feeds give times, prices and sizes.

What is in the columns is not looked at.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from ml_assets.ml.errors import DataError

SPELLINGS = {
    "time": (
        *("timestamp", "event_time", "event_time_utc", "event_time_ns", "trade_time"),
        *("transact_time", "exchange_time", "quote_time", "tick_time", "sip_timestamp"),
        *(
            "participant_timestamp",
            "datetime",
            "ts",
            "ts_event",
            "utc_time",
            "time_utc",
            "time",
            "time_m",
        ),
    ),
    "date": ("date", "day", "trade_date"),
    "price": ("price", "last", "last_price", "trade_price", "px", "last_px"),
    "size": ("size", "volume", "qty", "quantity", "amount", "trade_size", "last_size", "vol"),
    "bid": ("bid", "bid_price", "best_bid", "bid_px"),
    "ask": ("ask", "offer", "ask_price", "offer_price", "best_ask", "ask_px"),
    "side": ("side", "aggressor", "aggressor_side", "taker_side", "trade_side"),
    "buyer_maker": ("is_buyer_maker", "buyer_maker"),
    "suspicious": ("suspicious",),
}
"""What a column is, and its spellings; the first that is found counts. Case, `_`, `-`, `.` and
spaces make no difference."""

VALUES = ("price", "size", "bid", "ask")
NUMBERS = {"trades": ("price", "size"), "quotes": ("bid", "ask")}

Roles = dict[str, str]
"""The name of each column by what it is."""


def recognised(names: Sequence[str], given: Mapping[str, str], place: str) -> Roles:
    """The columns of a file or table, by what they are.

    With a column of dates, `time` may be the time of the day.

    Args:
        names: The columns found.
        given: Names of columns by what they are, in place of the known spellings.
        place: Where they were found, for errors.

    Raises:
        DataError: There is no time, or neither price and size nor bid and ask.

    >>> recognised(["Date", "Time", "Last Price", "Qty"], {}, "a.csv")
    {'time': 'Time', 'date': 'Date', 'price': 'Last Price', 'size': 'Qty'}
    """
    found = {
        role: name
        for role, spellings in SPELLINGS.items()
        if (name := _first(names, (given[role],) if role in given else spellings))
    }
    kind = "trades" if "price" in found else "quotes"
    complete = {"time", *NUMBERS[kind]} <= {*found} and {*given} <= {*found}
    if not complete:
        raise DataError(
            f"in {place} {_wanted(given)}",
            ", ".join(map(str, names))[:300] or "no columns",
            "rename the columns, or say in `columns` what they are called; CSV files have their "
            "names in the first line",
        )
    others = NUMBERS["quotes" if kind == "trades" else "trades"]
    return {role: name for role, name in found.items() if role not in others}


def check_given(given: dict[str, str]) -> dict[str, str]:
    """The columns given; raises `ValueError` if one is for something that is not known."""
    if unknown := sorted({*given} - {*SPELLINGS}):
        raise ValueError(
            f"columns: expected some of {', '.join(SPELLINGS)}; found {', '.join(unknown)}; "
            "remedy: correct them"
        )
    return given


def check_names(names: list[str]) -> list[str]:
    """Names of columns in their order; raises `ValueError` if they do not tell what is needed."""
    recognised(names, {}, "`column_names`")
    return names


def check_table(columns: dict[str, str]) -> dict[str, str]:
    """The columns of a table; raises `ValueError` if one is missing, or not known."""
    known = {*SPELLINGS, "order"} - {"date"}
    found = {*columns}
    kinds = [len(found.intersection(roles)) for roles in NUMBERS.values()]
    if not found <= known or "time" not in found or sorted(kinds) != [0, 2]:
        raise ValueError(
            "columns: expected time with price and size, or with bid and ask, and of "
            f"side, buyer_maker, suspicious and order what there is; found "
            f"{', '.join(sorted(found)) or 'none'}; remedy: correct them"
        )
    return columns


def _first(names: Sequence[str], spellings: Sequence[str]) -> str | None:
    plain = {_plain(name): name for name in reversed(names)}
    return next((plain[key] for key in map(_plain, spellings) if key in plain), None)


@lru_cache(maxsize=1024)
def _plain(name: str) -> str:
    return re.sub(r"[\s_.-]", "", name).lower()


def _wanted(given: Mapping[str, str]) -> str:
    """The columns that are needed, with their spellings."""
    spelled = {
        role: given.get(role) or "/".join(spellings) for role, spellings in SPELLINGS.items()
    }
    kinds = (" and ".join(spelled[role] for role in roles) for roles in NUMBERS.values())
    optional = ", ".join(spelled[role] for role in ("side", "buyer_maker", "suspicious"))
    return (
        f"the columns {spelled['time']} (or {spelled['date']} with time) and "
        f"{', or '.join(kinds)}; also known: {optional}"
    )
