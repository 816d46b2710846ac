"""Where the ledger is kept between two ticks: a file below the data directory, and the cursor.

Dagster stores the sensor's cursor anew at each tick, so only what belongs to its own storage is in
it: how far that has been read. The rest is a file, which is replaced when it changes, before the
cursor is stored. So a process that is killed between the two reads the last events once more.
"""

import hashlib
import json
import os
from dataclasses import asdict
from typing import Any

from ml_assets.monitoring.ledger import Ledger
from ml_assets.resources.alerts import Alert
from ml_assets.settings import data_dir

VERSION = 2
_IN_CURSOR = ("since", "positions", "heartbeat")
_NOT_OF_A_NEW_CURSOR = ("awaiting", "problems", "unread")
"""What is read again from the events, when somebody resets the cursor."""
_UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


class LedgerStore:
    """The ledger's file, and what is wrong with it.

    Attributes:
        path: The file.
        mistakes: What was wrong at the last `load`.
    """

    def __init__(self) -> None:
        self.path = data_dir() / "monitoring" / "ledger.json"
        self.mistakes: list[str] = []
        self._digest = ""

    def load(self, cursor: str | None, *, since: float) -> Ledger:
        """Read what `save` wrote; what cannot be read is said in `mistakes` and begun anew.

        Args:
            cursor: The sensor's cursor. That of an earlier version is the whole ledger.
            since: Where a new ledger begins, in seconds since 1970.
        """
        in_cursor = self._read_cursor(cursor)
        if "problems" in in_cursor:
            try:
                ledger = Ledger.from_values(in_cursor)
                if ledger.unsaved:
                    self.mistakes.append(ledger.unsaved)
                    ledger.unsaved = ""
                return ledger
            except (TypeError, AttributeError, ValueError) as error:
                self.mistakes.append(f"the sensor's cursor: {error}")
                in_cursor = {}
        kept = self._read_file(expected=in_cursor.get("ledger", ""))
        if not in_cursor:
            kept = {name: kept[name] for name in kept if name not in _NOT_OF_A_NEW_CURSOR}
        of_cursor = {name: in_cursor[name] for name in _IN_CURSOR if name in in_cursor}
        return Ledger.from_values({"since": since} | kept | of_cursor)

    def save(self, ledger: Ledger) -> str:
        """Write the ledger, if it has changed.

        Returns:
            The cursor: the whole ledger, where its file cannot be written.
        """
        values = asdict(ledger)
        of_cursor = {name: values.pop(name) for name in _IN_CURSOR}
        digest = _digest(values)
        try:
            if digest != self._digest:
                self._write(values, digest)
        except OSError as error:
            ledger.unsaved = f"{self.path} cannot be written: {error}"
            return ledger.dump()
        return json.dumps({"version": VERSION, "ledger": digest, **of_cursor})

    def alert(self) -> Alert:
        """What is wrong with the ledger, or that nothing is."""
        remedy = (
            "see to the file; what was broken before may be told once more, or not as recovered"
        )
        return Alert(
            key="ledger",
            recovered=not self.mistakes,
            severity="ERROR",
            group="monitoring",
            title="the ledger of alerts is not as it was left",
            details={"error": "; ".join(self.mistakes), "remedy": remedy} if self.mistakes else {},
        )

    def _read_cursor(self, cursor: str | None) -> dict[str, Any]:
        if not cursor:
            return {}
        try:
            found = json.loads(cursor)
            if not isinstance(found, dict) or found.get("version", 1) > VERSION:
                raise ValueError(f"expected one of version {VERSION} or earlier")
            if not isinstance(found.get("positions", {}), dict):
                raise ValueError("expected positions by kind")
            float(found.get("since", 0))
        except (ValueError, TypeError, RecursionError) as error:
            self.mistakes.append(f"the sensor's cursor cannot be read: {error}")
            return {}
        return found

    def _read_file(self, *, expected: str) -> dict[str, Any]:
        """Read the file.

        Args:
            expected: The digest that the cursor names.
        """
        if not os.path.lexists(self.path):
            if expected:
                self.mistakes.append(f"{self.path} is gone")
            return {}
        try:
            if not self.path.is_file():
                raise ValueError("it is no file")
            found = json.loads(self.path.read_text())
            if found["version"] > VERSION:
                raise ValueError(f"version {found['version']} is later than {VERSION}")
            if _digest(found["ledger"]) != found["sha256"]:
                raise ValueError("its digest is another")
            Ledger.from_values({"since": 0} | found["ledger"])
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            self.mistakes.append(
                f"{self.path}: {type(error).__name__}: {error}; {self._move_away()}"
            )
            return {}
        self._digest = found["sha256"]
        # Killed before the cursor was stored, it is one behind.
        if expected and expected not in {found["sha256"], found["before"]}:
            self.mistakes.append(
                f"{self.path} and Dagster's storage are of different times: was one restored?"
            )
        return found["ledger"]

    def _move_away(self) -> str:
        aside = self.path.with_name("ledger.unreadable.json")
        try:
            self.path.replace(aside)
        except OSError as error:
            return f"it cannot be moved away: {error}"
        return f"it is {aside.name} now"

    def _write(self, values: dict[str, Any], digest: str) -> None:
        content = {"version": VERSION, "sha256": digest, "before": self._digest, "ledger": values}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(".ledger.partial")
        with partial.open("w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)
        self._digest = digest


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
