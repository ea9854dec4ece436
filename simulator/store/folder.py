"""The folder of a sweep: what is finished stays, whatever ends the program.

| file                 | holds                                                                            |
|----------------------|----------------------------------------------------------------------------------|
| `points/<hash>.json` | one finished point; the hash is of all that it depends on                         |
| `results.parquet`, `results.csv` | all points of the sweep in the order of its axes                      |
| `timing.csv`         | when each point took how long: the one file that differs between two runs        |
| `lock`               | held while a sweep runs here; the system drops it however the program ends        |
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.errors import InputError
from simulator.store.files import to_json, write_text

TIMING = "point,hash,seconds,tries\n"


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of points by hash."""

    root: Path

    @contextmanager
    def open(self) -> Iterator[None]:
        """Make the folder where it is missing and hold it, alone. Errors: InputError."""
        try:
            self.points.mkdir(parents=True, exist_ok=True)
            lock = (self.root / "lock").open("w", encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"cannot be a folder of results: {error.strerror}", value=str(self.root)
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise InputError(
                    "is in use by another sweep",
                    value=str(self.root),
                    remedy="Wait for it, or name another folder.",
                ) from error
            # Half written when a sweep was killed; nobody else writes now.
            for torn in [*self.points.glob(".*.json"), *self.root.glob(".results-*")]:
                torn.unlink()
            yield

    @property
    def points(self) -> Path:
        """Return where finished points lie."""
        return self.root / "points"

    def get(self, name: str) -> dict[str, Any] | None:
        """Return a finished point, None where there is none that can be read."""
        try:
            tree = json.loads((self.points / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return tree if isinstance(tree, dict) else None

    def put(self, name: str, tree: dict[str, Any]) -> None:
        """Keep a finished point."""
        write_text(self.points / f"{name}.json", to_json(tree))

    def time(self, point: int, name: str, seconds: float, tries: int) -> None:
        """Note how long a point took, wherever a killed sweep stopped writing."""
        path = self.root / "timing.csv"
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        start = "" if text.endswith("\n") else "\n" if text else TIMING
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{start}{point},{name},{seconds:.3f},{tries}\n")
