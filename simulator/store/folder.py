"""The folder of a sweep: what is finished stays, whatever ends the program.

| file                             | holds                                                       |
|----------------------------------|-------------------------------------------------------------|
| `points/<hash>.json`             | one finished point; the hash is of all that it depends on   |
| `results.parquet`, `results.csv` | all points of the sweep in the order of its axes            |
| `timing.csv`                     | how long each point took; it alone differs between runs     |
| `lock`                           | held while a sweep runs here; its text marks a sweep's folder |

A folder of anything else is refused, and so are links where these files stand: a sweep makes none,
and would write through them into somebody else's files.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

from simulator.errors import InputError
from simulator.store.files import replace, to_json_line
from simulator.store.lock import holding
from simulator.store.tables import Columns, csv_text, write_parquet

TIMING = "point,hash,seconds,tries\n"
"""Heading of `timing.csv`."""
MARK = "A sweep of simulate keeps its points here.\n"
"""Text of `lock`."""
_FILES = ("lock", "lock.held", "results.csv", "results.parquet", "timing.csv")
_POINT = re.compile(r"[0-9a-f]{32}\.json")
# Windows opens the device, whatever the ending and the folder.
_DEVICE = re.compile(r"(CON|PRN|AUX|NUL|(COM|LPT)[1-9\u00b9\u00b2\u00b3]) *(\..*)?", re.IGNORECASE)
_LONGEST = 255
"""Bytes of a name that every common file system takes."""
# Half written when a sweep was killed.
_DRAFT = re.compile(r"\.(results-\w+\.(csv|parquet)|[0-9a-f]{32}-\w+\.json)")


def check_name(name: str) -> None:
    """Refuse a name that cannot be one folder's, on any system. Errors: InputError."""
    # As every system reads it: C:x and a\\b are paths on Windows alone.
    systems = (PurePosixPath, PureWindowsPath)
    single = all(system(name).name == name for system in systems)
    visible = name.isprintable() and name == name.strip()
    if not name or not single or not visible or name.startswith("."):
        raise InputError(
            "is not the name of one folder",
            value=name,
            remedy="Write a name such as nvlink-sweep, without slashes or a leading dot; "
            "-o chooses where the folder lies.",
        )
    if name.startswith("-"):
        raise InputError(
            "begins with -, as options do",
            value=name,
            remedy="Begin it with a letter or a digit.",
        )
    if _DEVICE.fullmatch(name):
        raise InputError(
            "is the name of a device on Windows",
            value=name,
            remedy=f"Write for example '{name.partition('.')[0].rstrip()}-sweep'.",
        )
    if len(name.encode()) > _LONGEST:
        raise InputError(
            f"is longer than the {_LONGEST} bytes that a folder's name may have",
            value=name,
            remedy="Shorten it.",
        )


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of points by hash."""

    root: Path
    """Where it lies; made where it is missing."""

    @contextmanager
    def open(self) -> Iterator[None]:
        """Make the folder where it is missing and hold it, alone. Errors: InputError."""
        with self._lock() as lock, holding(lock):
            if not os.fstat(lock.fileno()).st_size:
                lock.write(MARK.encode())
                lock.flush()
            self.points.mkdir(exist_ok=True)
            self._clear()
            yield

    @property
    def points(self) -> Path:
        """Return where finished points lie."""
        return self.root / "points"

    def owns(self, path: Path) -> bool:
        """Return whether a sweep here writes a file, or will."""
        root, file = self.root.resolve(), path.resolve()
        if file.parent == root:
            return file.name in {"points", *_FILES}
        return file.parent == root / "points"

    def has(self, name: str) -> bool:
        """Return whether a point is finished."""
        return self._point(name).is_file()

    def get(self, name: str) -> dict[str, Any] | None:
        """Return a finished point, None where there is none that can be read."""
        try:
            tree = json.loads(self._point(name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return tree if isinstance(tree, dict) else None

    def put(self, name: str, tree: dict[str, Any]) -> None:
        """Keep a finished point."""
        text = to_json_line(tree).encode()
        replace(self._point(name), lambda draft: draft.write_bytes(text))

    def put_results(self, columns: Columns) -> None:
        """Write the table of all points as Parquet and as CSV."""
        text = csv_text(columns).encode()
        replace(self.root / "results.parquet", lambda draft: write_parquet(draft, columns))
        replace(self.root / "results.csv", lambda draft: draft.write_bytes(text))

    def time(self, point: int, name: str, seconds: float, tries: int) -> None:
        """Note how long a point took, wherever a killed sweep stopped writing."""
        with open(self.root / "timing.csv", "a+b", opener=_no_link) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            last = file.read()
            if not size:
                file.write(TIMING.encode())
            elif last != b"\n":
                file.write(b"\n")
            line = f"{point},{name},{seconds:.3f},{tries}\n"
            file.write(line.encode())

    def _point(self, name: str) -> Path:
        return self.points / f"{name}.json"

    def _lock(self) -> IO[bytes]:
        """Open the file that marks a folder of a sweep. Errors: InputError."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._check()
            return open(self.root / "lock", "a+b", opener=_no_link)
        except OSError as error:
            raise InputError(
                f"cannot be a folder of results: {error.strerror}",
                value=str(self.root),
                remedy="Name another folder with -o.",
            ) from error

    def _check(self) -> None:
        """Refuse a folder of anything but a sweep, or with links. Errors: InputError, OSError."""
        names = _names(self.root)
        for name in sorted(names & {"points", *_FILES}):
            _check_kind(self.root / name)
        if names and not self._marked(names):
            raise InputError(
                "is not a folder of a sweep, and not empty",
                value=str(self.root),
                remedy="Name another folder with -o.",
            )

    def _marked(self, names: set[str]) -> bool:
        """Return whether a sweep made this folder. names: of what is in it."""
        if "lock" not in names:
            return False
        lock = (self.root / "lock").read_bytes()
        if lock:
            return lock == MARK.encode()
        # Before locks had a text, or in the moment before it is written: nothing but a sweep's own
        # files, or points and whatever a user put next to them.
        points = _names(self.points) if "points" in names else set()
        if points:
            return all(map(_is_point, points))
        others = {name for name in names if not _DRAFT.fullmatch(name)}
        return others <= {"points", *_FILES}

    def _clear(self) -> None:
        """Remove what was half written when a sweep was killed; nobody else writes now."""
        for folder in (self.root, self.points):
            for name in filter(_DRAFT.fullmatch, _names(folder)):
                (folder / name).unlink()


def _names(folder: Path) -> set[str]:
    """Return the names of what is in a folder."""
    return {path.name for path in folder.iterdir()}


def _is_point(name: str) -> bool:
    """Return whether a file is a point, or the draft of one."""
    return bool(_POINT.fullmatch(name) or _DRAFT.fullmatch(name))


def _check_kind(path: Path) -> None:
    """Refuse what a sweep never makes under one of its names. Errors: InputError."""
    folder = path.name == "points"
    if path.is_symlink():
        rule = "is a symbolic link, which no sweep makes"
    elif folder and not path.is_dir():
        rule = "is not a folder, which a sweep needs there"
    elif not folder and not path.is_file():
        rule = "is not a regular file, which a sweep needs there"
    else:
        return
    raise InputError(rule, value=str(path), remedy="Remove it, or name another folder with -o.")


def _no_link(path: str, flags: int) -> int:
    """Open a file that is not a link, where the system can tell; the umask applies to a new one."""
    no_follow = getattr(os, "O_NOFOLLOW", 0)
    return os.open(path, flags | no_follow, 0o666)
