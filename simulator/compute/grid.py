"""Measured GEMMs on a grid of shapes: what the wave model misses there, and between.

Between the shapes that were measured waves and roofline carry the time; measured over computed is
smooth, and is interpolated, as its logarithm, linearly in log m, log n and log k. Beyond the grid
it stays what it is at the nearest edge, so that the time is continuous there.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import NamedTuple, TypeAlias

from simulator import inputs
from simulator.compute.waves import Waves
from simulator.ops.op import Shape, gemm
from simulator.precision import Dtype

Sizes: TypeAlias = tuple[int, int, int]
"""m, n and k of a GEMM."""


class _Place(NamedTuple):
    """Where a size lies on an axis."""

    size: int
    """The nearest smaller or larger measured size."""
    weight: float
    """Its share; those of both neighbours sum to 1."""


class Corner(NamedTuple):
    """A measured shape next to another one."""

    shape: Sizes
    """Its m, n and k."""
    weight: float
    """Its share; those of all corners sum to 1."""


class Axes(NamedTuple):
    """Measured sizes of GEMMs [m, k] x [k, n], ascending."""

    m: tuple[int, ...]
    """Rows of the output."""
    n: tuple[int, ...]
    """Its columns."""
    k: tuple[int, ...]
    """What is summed over."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Times of GEMMs [m, k] x [k, n] of one dtype on one GPU."""

    axes: Axes
    """Where there are measured shapes."""
    seconds: dict[Sizes, float]
    """(m, n, k) -> time in a benchmark loop [s]."""

    def holds(self, shape: Shape) -> bool:
        """Tell whether a shape lies between measured ones."""
        if shape.groups > 1:
            return False  # the kernel of many problems is another one
        sizes = (shape.m, shape.n, shape.k)
        pairs = zip(self.axes, sizes, strict=True)
        return all(axis[0] <= size <= axis[-1] for axis, size in pairs)

    def without(self, axis: int, size: int) -> Grid:
        """Return the grid without the shapes of one size of m (axis 0), n (1) or k (2)."""
        axes = list(self.axes)
        axes[axis] = tuple(value for value in axes[axis] if value != size)
        return Grid(Axes(*axes), self.seconds)

    def around(self, m: int, n: int, k: int) -> Iterator[Corner]:
        """Yield the measured shapes around a shape, each with its weight; those sum to 1."""
        axis_m, axis_n, axis_k = self.axes
        corners = product(_places(axis_m, m), _places(axis_n, n), _places(axis_k, k))
        for of_m, of_n, of_k in corners:
            weight = of_m.weight * of_n.weight * of_k.weight
            yield Corner((of_m.size, of_n.size, of_k.size), weight)


def _places(axis: tuple[int, ...], size: int) -> tuple[_Place, ...]:
    """Return the neighbours of a size on an axis; one where it is measured or beyond the ends."""
    inside = min(max(size, axis[0]), axis[-1])
    index = bisect_right(axis, inside) - 1
    low = axis[index]
    if low == inside:
        return (_Place(low, 1.0),)
    high = axis[index + 1]
    weight = math.log(inside / low) / math.log(high / low)
    return _Place(low, 1.0 - weight), _Place(high, weight)


@lru_cache(maxsize=32)  # data of the package: it is the same whoever asks first
def grid(name: str, dtype: Dtype) -> Grid:
    """Return a measured table's GEMMs of one dtype. name: of `simulator/data/measured`."""
    rows = [row for row in inputs.table(name) if row["dtype"] == dtype]
    # A column per k.
    columns = {int(heading): heading for heading in rows[0] if heading.isdecimal()}
    seconds = {}
    for row in rows:
        m = int(row["m"])
        n = int(row["n"])
        for k, heading in columns.items():
            us = float(row[heading])
            seconds[m, n, k] = us * 1e-6
    axes = [tuple(sorted(set(sizes))) for sizes in zip(*seconds, strict=True)]
    return Grid(Axes(*axes), seconds)


def log_ratio(table: Grid, dtype: Dtype, waves: Waves, shape: Sizes) -> float:
    """Return the logarithm of measured over computed at a shape."""
    total = 0.0
    for measured, weight in table.around(*shape):
        computed = waves.seconds(gemm("", *measured, dtype), waves.sms)
        total += weight * math.log(table.seconds[measured] / computed)
    return total


@lru_cache(maxsize=4096)  # a step has the same few shapes hundreds of times
def ratio(name: str, dtype: Dtype, waves: Waves, shape: Sizes) -> float:
    """Return measured over computed at a shape. name: see `grid`."""
    return math.exp(log_ratio(grid(name, dtype), dtype, waves, shape))


@lru_cache(maxsize=4096)
def loop_seconds(name: str, dtype: Dtype, shape: Sizes) -> float:
    """Return how long the measured kernels around a shape are, geometric mean [s]. name: see `grid`."""
    table = grid(name, dtype)
    total = 0.0
    for measured, weight in table.around(*shape):
        total += weight * math.log(table.seconds[measured])
    return math.exp(total)
