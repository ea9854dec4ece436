"""What an earlier commit simulated: `before.json`, every published step before stacks were modelled."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from simulator.validate import Check

FILE = Path(__file__).resolve().parent / "before.json"


def commit() -> str:
    """Return the commit that simulated them."""
    return str(json.loads(FILE.read_text(encoding="utf-8"))["commit"])


def before(checks: Iterable[Check]) -> dict[str, Check]:
    """Return checks with the figures that were simulated before, by the name of the case.

    Cases that came later are left out.
    """
    known = json.loads(FILE.read_text(encoding="utf-8"))["simulated"]
    return {
        check.case: replace(check, simulated=known[check.case])
        for check in checks
        if check.case in known
    }
