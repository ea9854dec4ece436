"""What both executors are given."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Flows(NamedTuple):
    """Flows over links, checked; a named tuple, because compiled code takes one."""

    capacity: NDArray[np.float64]
    """Of links [link] B/s."""
    ptr: NDArray[np.int64]
    """Flow f uses the links link[ptr[f]:ptr[f + 1]] [flow + 1]."""
    link: NDArray[np.int64]
    """Links of flows [entry]."""
    weight: NDArray[np.float64]
    """A flow takes its rate times weight of a link [entry]; empty where every weight is 1."""
    size: NDArray[np.float64]
    """Bytes that a flow moves [flow] B."""
    start: NDArray[np.float64]
    """When it starts [flow] s."""
    cap: NDArray[np.float64]
    """Its highest rate, inf for none [flow] B/s."""


# What ends within this ratio of the clock ends together, like links that fill together: else the
# order of a sum could part flows that are alike.
TOGETHER = 1 + 1e-12
