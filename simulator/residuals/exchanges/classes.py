"""Measured exchanges, class by class, with what the simulator says of each row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from simulator import inputs
from simulator.collectives import CoflowKind
from simulator.residuals.exchanges.benchmark import (
    BF16,
    FP8,
    Run,
    Setting,
    of_table,
    timed,
)
from simulator.residuals.exchanges.curves import DIRECTIONS
from simulator.residuals.links import calls
from simulator.residuals.rows import Compared

NCCL_FROM = 8 << 20
"""Buffers of NCCL's collectives that are compared hold at least this [B]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanges(Compared):
    """One class of exchanges of tokens."""

    use: str
    """`fitted`: constants come from these rows; `links`: from these rates; `check`."""


def exchanges() -> tuple[Exchanges, ...]:
    """Return every class of exchange that was measured, with what the simulator says of it."""
    return (
        *deepep_over_sms(),
        *deepep_published(),
        *hybrid_ep(),
        *deepep_on_blackwell(),
        *nccl(),
    )


def deepep_over_sms() -> Iterator[Exchanges]:
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


def _over_sms(name: str, use: str, rows: list[dict[str, str]], op: str) -> Exchanges:
    pairs = []
    for row in rows:
        us = float(row[f"{op}_us"])
        computed = timed(*of_table(row, op))
        pairs.append(_Pair(us * 1e-6, computed.seconds))
    return _compared(name, use, pairs)


def deepep_published() -> Iterator[Exchanges]:
    """Yield the bandwidths that DeepEP publishes, which give the rates of links."""
    tables = inputs.data("measured", "deepep").data
    v3 = Setting("h800", 1, 7168, 8, 256, "deepep", CoflowKind.DISPATCH, FP8)
    for op in DIRECTIONS:
        width = FP8 if op == "dispatch" else BF16
        setting = v3._replace(op=CoflowKind(op), width=width)
        for use, key in (("links", "normal_kernels"), ("check", "validation")):
            rows = tables[key]
            name = f"DeepEP V1 {op}, H800, EP {_ranks(rows)}, 20 SMs"
            yield _compared(name, use, _rated(setting, rows, op, Run(4096.0, 20)))
        # V2 fills the same links with fewer SMs: its rates check those of links.
        rows = tables["v2_sm90"]
        wide = setting._replace(gpu="h100")
        name = f"DeepEP V2 {op}, EP {_ranks(rows)}, links with SMs enough"
        yield _compared(name, "check", _rated(wide, rows, op, Run(8192.0, ENOUGH)))


ENOUGH = 132
"""SMs with which only links bind."""


def _ranks(rows: list[dict[str, Any]]) -> str:
    return " and ".join(str(row["ep"]) for row in rows)


def _rated(setting: Setting, rows: list[dict[str, Any]], op: str, run: Run) -> list[_Pair]:
    """Return runs of which DeepEP publishes the rates."""
    return [_against(setting, row["ep"], row[f"{op}_gb_s"], run) for row in rows]


class _Pair(NamedTuple):
    """One exchange."""

    measured: float
    """Published time [s]."""
    computed: float
    """Time by the tables [s]."""


def _against(setting: Setting, ranks: int, gb_s: float, run: Run) -> _Pair:
    """Return a run next to its published rate. gb_s: as DeepEP counts."""
    nodes = max(1, ranks // setting.per_node)
    row = timed(setting._replace(nodes=nodes), run)
    return _Pair(measured=row.bytes / (gb_s * 1e9), computed=row.seconds)


def _compared(name: str, use: str, pairs: list[_Pair]) -> Exchanges:
    """Return a class of exchanges."""
    measured = np.array([pair.measured for pair in pairs])
    computed = np.array([pair.computed for pair in pairs])
    return Exchanges(name=name, use=use, measured=measured, computed=computed)


class Column(NamedTuple):
    """What ran in a column of HybridEP's table."""

    op: CoflowKind
    """Dispatch or combine."""
    width: float
    """Bytes of an element."""


HYBRID = {
    "dispatch_fp8": Column(CoflowKind.DISPATCH, FP8),
    "dispatch_bf16": Column(CoflowKind.DISPATCH, BF16),
    "combine": Column(CoflowKind.COMBINE, BF16),
}
"""Column of HybridEP's table -> what ran."""
TITLES = {
    "dispatch_fp8": "dispatch in FP8",
    "dispatch_bf16": "dispatch in BF16",
    "combine": "combine",
}
"""The same columns -> their names."""


def hybrid_ep() -> Iterator[Exchanges]:
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


def deepep_on_blackwell() -> Iterator[Exchanges]:
    """Yield DeepEP V1 inside one NVLink domain of Blackwell, called from Python."""
    rows = inputs.data("measured", "hybrid_ep").data["deepep_v1"]
    for column in HYBRID:
        pairs = [_inside(row, "deepep", column, row["api"]) for row in rows]
        name = f"DeepEP V1 {TITLES[column]}"
        yield _compared(f"{name}, 8 B200 and GB200, 16 to 48 SMs", "fitted", pairs)


def _inside(row: dict[str, Any], dispatcher: str, column: str, rates: dict[str, float]) -> _Pair:
    """Return a run in one NVLink domain next to its published rate."""
    op, width = HYBRID[column]
    ranks = row["ranks"]
    setting = Setting(row["gpu"], 1, 7168, 8, 8 * ranks, dispatcher, op, width, ranks)
    return _against(setting, ranks, rates[column], Run(4096.0, row["sms"]))


def nccl() -> Iterator[Exchanges]:
    """Yield NCCL's collectives that bring tokens to experts, inside one node."""
    for op in ("all_to_all", "all_gather", "reduce_scatter"):
        for gpus in (("h100", "h200"), ("a100",), ("b200",)):
            large = [call for call in calls(gpus, (op,)) if call.bytes >= NCCL_FROM]
            pairs = [_Pair(call.measured, call.computed) for call in large]
            named = " and ".join(gpu.upper() for gpu in gpus)
            yield _compared(f"NCCL {op}, 2, 4 and 8 {named}", "fitted", pairs)
