"""DeepEP over the SMs that it gets: measured points, and computed lines."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simulator import inputs
from simulator.residuals.exchanges.benchmark import Run, of_table, timed
from simulator.residuals.rows import Floats

DIRECTIONS = ("dispatch", "combine")


class Curve(NamedTuple):
    """DeepEP over SMs, 4,096 tokens of DeepSeek-V3."""

    op: str
    """dispatch or combine."""
    nodes: int
    """Nodes of eight H100."""
    sms: Floats
    """Of the measured points [point]."""
    measured: Floats
    """[point] s."""
    line_sms: Floats
    """Of the computed points [even number of SMs]."""
    computed: Floats
    """[even number of SMs] s."""


def curves() -> tuple[Curve, ...]:
    """Return DeepEP over SMs on 1, 2 and 4 nodes."""
    table = inputs.table("deepep_normal_h100")
    found = []
    for op in DIRECTIONS:
        for nodes in (1, 2, 4):
            shape = (str(nodes), "7168", "8", "256", "4096")
            keys = ("nodes", "hidden", "top_k", "experts", "tokens")
            rows = [row for row in table if tuple(row[key] for key in keys) == shape]
            setting, _ = of_table(rows[0], op)
            line = np.arange(4.0, 25.0, 2.0)
            computed = [timed(setting, Run(4096.0, int(sms))).seconds for sms in line]
            found.append(
                Curve(
                    op=op,
                    nodes=nodes,
                    sms=np.array([float(row["sms"]) for row in rows]),
                    measured=np.array([float(row[f"{op}_us"]) * 1e-6 for row in rows]),
                    line_sms=line,
                    computed=np.array(computed),
                )
            )
    return tuple(found)
