"""Measured curves between their points."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from typing import TypeVar

Point = TypeVar("Point", bound=float)


def between(curve: Mapping[Point, float], at: float) -> float:
    """Return a curve at a point: linear in the point's logarithm, constant beyond the ends."""
    # What is measured at powers of two lies evenly on that scale.
    points = sorted(curve)
    index = bisect_left(points, at)
    if index == 0:
        return curve[points[0]]
    if index == len(points):
        return curve[points[-1]]
    low, high = points[index - 1], points[index]
    weight = math.log(at / low) / math.log(high / low)
    return curve[low] * (1.0 - weight) + curve[high] * weight
