"""Jobs of known length, in a module that workers find by its name."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any


def nothing(payload: Mapping[str, Any]) -> Any:
    """Return at once: what is left is the pool."""
    return payload["number"]


def ten_milliseconds(payload: Mapping[str, Any]) -> Any:
    """Compute for as long as a fast scenario takes."""
    end = time.perf_counter() + 0.01
    while time.perf_counter() < end:
        pass
    return payload["number"]
