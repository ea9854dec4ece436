"""Measured exchanges, class by class, with what the simulator says of each row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator import inputs
from simulator.collectives import CoflowKind, unit
from simulator.collectives.sms import SmWork, limited
from simulator.exchanges.benchmark import (
    BF16,
    FP8,
    Run,
    Setting,
    cluster,
    kernels,
    of_table,
    timed,
)
from simulator.exchanges.curves import DIRECTIONS

Floats = NDArray[np.float64]

NCCL_FROM = 8 << 20
"""Buffers of NCCL's all-to-all that are compared hold at least this [B]."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One class of exchanges: what was measured and what is computed, row by row."""

    name: str
    """What was measured."""
    use: str
    """`fitted`: constants come from these rows; `links`: from these rates; `check`."""
    measured: Floats
    """[row] s."""
    computed: Floats
    """[row] s."""

    @property
    def errors(self) -> Floats:
        """Return the signed relative errors [row]."""
        errors: Floats = self.computed / self.measured - 1.0
        return errors

    @property
    def bias(self) -> float:
        """Return the mean of the signed errors."""
        return float(self.errors.mean())

    @property
    def rms(self) -> float:
        """Return the root of the mean square of the errors."""
        return float(np.sqrt((self.errors**2).mean()))

    @property
    def worst(self) -> float:
        """Return the error furthest from zero."""
        return float(self.errors[np.abs(self.errors).argmax()])


def exchanges() -> tuple[Compared, ...]:
    """Return every class of exchange that was measured, with what the simulator says of it."""
    return (
        *deepep_over_sms(),
        *deepep_published(),
        *hybrid_ep(),
        *deepep_on_blackwell(),
        *nccl(),
    )


def deepep_over_sms() -> Iterator[Compared]:
    """Yield DeepEP's normal kernels over SMs, tokens and sizes, by nodes."""
    table = inputs.table("deepep_normal_h100")
    for op in DIRECTIONS:
        for nodes in (1, 2, 4, 8):
            rows = [row for row in table if int(row["nodes"]) == nodes]
            where = "1 node" if nodes == 1 else f"{nodes} nodes"
            name = f"DeepEP {op}, H100, {where}, 4 to 24 SMs"
            if nodes < 8:
                yield _over_sms(name, "fitted", rows, op)
                continue
            # Ranks drift apart there, the more the longer a call takes.
            short = [row for row in rows if int(row["tokens"]) <= IN_STEP]
            long = [row for row in rows if int(row["tokens"]) > IN_STEP]
            yield _over_sms(f"{name}, up to 4,096 tokens", "check", short, op)
            yield _over_sms(f"{name}, more tokens", "check", long, op)


IN_STEP = 4096
"""Tokens up to which ranks on eight nodes of the H100 table still return at one pace."""


def _over_sms(name: str, use: str, rows: list[dict[str, str]], op: str) -> Compared:
    computed = [timed(*of_table(row, op)).seconds for row in rows]
    measured = [float(row[f"{op}_us"]) * 1e-6 for row in rows]
    return Compared(name, use, np.array(measured), np.array(computed))


def deepep_published() -> Iterator[Compared]:
    """Yield the bandwidths that DeepEP publishes, which give the rates of links."""
    tables = inputs.data("measured", "deepep").data
    v3 = Setting("h800", 1, 7168, 8, 256, "deepep", CoflowKind.DISPATCH, FP8)
    for op in DIRECTIONS:
        setting = v3._replace(op=CoflowKind(op), width=FP8 if op == "dispatch" else BF16)
        for use, key in (("links", "normal_kernels"), ("check", "validation")):
            rows = tables[key]
            ranks = " and ".join(str(row["ep"]) for row in rows)
            run = Run(4096.0, 20)
            pairs = [_against(setting, row["ep"], row[f"{op}_gb_s"], run) for row in rows]
            yield _compared(f"DeepEP V1 {op}, H800, EP {ranks}, 20 SMs", use, pairs)
        # V2 fills the same links with fewer SMs: its rates check those of links.
        rows = tables["v2_sm90"]
        ranks = " and ".join(str(row["ep"]) for row in rows)
        wide = setting._replace(gpu="h100")
        run = Run(8192.0, ENOUGH)
        pairs = [_against(wide, row["ep"], row[f"{op}_gb_s"], run) for row in rows]
        yield _compared(f"DeepEP V2 {op}, EP {ranks}, links with SMs enough", "check", pairs)


ENOUGH = 132
"""SMs with which only links bind."""


def _against(setting: Setting, ranks: int, gb_s: float, run: Run) -> tuple[float, float]:
    """Return seconds of a run, measured and computed. gb_s: as DeepEP counts."""
    nodes = max(1, ranks // setting.per_node)
    row = timed(setting._replace(nodes=nodes), run)
    return row.bytes / (gb_s * 1e9), row.seconds


def _compared(name: str, use: str, pairs: list[tuple[float, float]]) -> Compared:
    """Return a class. pairs: (measured, computed) [row] s."""
    measured, computed = zip(*pairs, strict=True)
    return Compared(name, use, np.array(measured), np.array(computed))


HYBRID = {
    "dispatch_fp8": (CoflowKind.DISPATCH, FP8),
    "dispatch_bf16": (CoflowKind.DISPATCH, BF16),
    "combine": (CoflowKind.COMBINE, BF16),
}
"""Column of HybridEP's table -> what ran, and the bytes of an element."""
TITLES = {
    "dispatch_fp8": "dispatch in FP8",
    "dispatch_bf16": "dispatch in BF16",
    "combine": "combine",
}
"""The same columns -> their names."""


def hybrid_ep() -> Iterator[Compared]:
    """Yield HybridEP's kernels alone, over SMs and ranks."""
    tables = inputs.data("measured", "hybrid_ep").data
    for column, (op, width) in HYBRID.items():
        between = Setting("h100", 2, 7168, 8, 0, "hybridep", op, width)
        pairs = []
        for row in tables["hopper"]:
            setting = between._replace(experts=8 * row["ranks"])
            run = Run(4096.0, row["sms"])
            pairs.append(_against(setting, row["ranks"], row["kernel"][column], run))
        name = f"HybridEP {TITLES[column]}"
        yield _compared(f"{name}, H100, 2 to 8 nodes, 4 to 16 SMs", "fitted", pairs)
        pairs = [_inside(row, "hybridep", column, row["kernel"]) for row in tables["blackwell"]]
        yield _compared(f"{name}, Blackwell, 8 to 32 GPUs, 16 and 32 SMs", "fitted", pairs)


def deepep_on_blackwell() -> Iterator[Compared]:
    """Yield DeepEP V1 inside one NVLink domain of Blackwell, called from Python."""
    rows = inputs.data("measured", "hybrid_ep").data["deepep_v1"]
    for column in HYBRID:
        pairs = [_inside(row, "deepep", column, row["api"]) for row in rows]
        name = f"DeepEP V1 {TITLES[column]}"
        yield _compared(f"{name}, 8 B200 and GB200, 16 to 48 SMs", "fitted", pairs)


def _inside(
    row: dict[str, Any], dispatcher: str, column: str, rates: dict[str, float]
) -> tuple[float, float]:
    """Return seconds in one NVLink domain, measured and computed."""
    op, width = HYBRID[column]
    ranks = row["ranks"]
    setting = Setting(row["gpu"], 1, 7168, 8, 8 * ranks, dispatcher, op, width, ranks)
    return _against(setting, ranks, rates[column], Run(4096.0, row["sms"]))


class _Passes(NamedTuple):
    """Rows of NCCL's that the kernel table is fitted to."""

    table: str
    """Measured table."""
    least: int
    """Smallest buffer: protocols change below it [B]."""
    ranks: str
    """GPUs of a node that took part."""


_ONE_NODE = _Passes("nccl_one_node", 16 << 20, "2, 4 and 8")
_NCCL = {
    "all_to_all": _Passes("nccl_all_to_all", NCCL_FROM, "4 and 8"),
    "all_gather": _ONE_NODE,
    "reduce_scatter": _ONE_NODE,
}


def nccl() -> Iterator[Compared]:
    """Yield NCCL's collectives that bring tokens to experts, inside one node."""
    for op, passes in _NCCL.items():
        table = inputs.table(passes.table)
        for gpus in (("h100", "h200"), ("a100",), ("b200",)):
            rows = [row for row in table if (row["op"], row["gpu"] in gpus) == (op, True)]
            large = [row for row in rows if int(row["bytes"]) >= passes.least]
            named = " and ".join(gpu.upper() for gpu in gpus)
            yield Compared(
                name=f"NCCL {op}, {passes.ranks} {named}",
                use="fitted",
                measured=np.array([float(row["us"]) * 1e-6 for row in large]),
                computed=np.array([_collective(row) for row in large]),
            )


def _collective(row: dict[str, str]) -> float:
    """Return what the dispatcher's collective takes [s]."""
    size, net = float(row["bytes"]), cluster(row["gpu"], 1)
    models = kernels(row["gpu"]).communication
    algorithm, kernel = "pairwise", models["all_to_all"]
    if row["op"] != "all_to_all":
        algorithm, kernel = "ring", models["nccl_tensor"]
    ranks = int(row["ranks"])
    asked = unit(net, algorithm, row["op"], range(ranks), kernel).scaled(size)
    enough = SmWork(1, 1, 1.0, size / ranks, 1.0, across=False)
    runs = limited(net, asked, kernel, enough).kernel
    return asked.seconds(net, runs) + runs.setup
