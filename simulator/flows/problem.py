"""What both executors are given."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Flows(NamedTuple):
    """Flows over links, checked; a named tuple, because compiled code takes one.

    capacity: [link] B/s. Flow f uses the links link[ptr[f]:ptr[f + 1]], and of each its rate times
    weight, which stands beside link; no weights at all where every one is 1. size: [flow] B. start:
    [flow] s. cap: [flow] B/s, inf for none.
    """

    capacity: NDArray[np.float64]
    ptr: NDArray[np.int64]
    link: NDArray[np.int64]
    weight: NDArray[np.float64]
    size: NDArray[np.float64]
    start: NDArray[np.float64]
    cap: NDArray[np.float64]


# What ends within this ratio of the clock ends together, like links that fill together: else the
# order of a sum could part flows that are alike.
TOGETHER = 1 + 1e-12
