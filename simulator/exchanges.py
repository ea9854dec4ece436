"""Measured exchanges of tokens compared with what the simulator says of them, class by class.

Kernels that ran alone, with their SMs: the figures of results/dispatch.md. None is of a training
step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator import inputs
from simulator.collectives import (
    DISPATCHERS,
    CoflowKind,
    Row,
    Timed,
    exchange_row,
    unit,
)
from simulator.collectives.sms import SmWork, limited
from simulator.experts import Routing
from simulator.experts.survey import of_routing
from simulator.hardware import GpuConfig, KernelConfig
from simulator.model import ModelConfig
from simulator.scenario import workload_of
from simulator.topology import Network, TopologyConfig, network

Floats = NDArray[np.float64]

FP8, BF16 = 1.0 + 4 / 128, 2.0
"""Bytes of an element that travels: FP8 with an FP32 scale per 128, BF16."""
DIRECTIONS = ("dispatch", "combine")
NVLINK = {"h100": 450, "h200": 450, "h800": 200, "a100": 300, "b200": 900, "gb200": 900}
"""GPU -> NVLink's bandwidth in one direction [GB/s]."""
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


class Setting(NamedTuple):
    """A benchmark of dispatch or combine."""

    gpu: str
    """GPUs, eight on a node."""
    nodes: int
    """Nodes of the group."""
    hidden: int
    """Elements of a token."""
    top_k: int
    """Experts of a token."""
    experts: int
    """Of the group."""
    dispatcher: str
    """Row of `DISPATCHERS`."""
    op: CoflowKind
    """Dispatch or combine."""
    width: float
    """Bytes of an element."""
    per_node: int = 8
    """GPUs that NVLink joins."""


class Run(NamedTuple):
    """How often and with what it ran."""

    tokens: float
    """Of each GPU."""
    sms: int
    """SMs of the kernel."""


@lru_cache(maxsize=32)
def cluster(gpu: str, nodes: int, per_node: int = 8) -> Network:
    """Return nodes with a NIC of 400 Gb/s for each GPU."""
    site: dict[str, Any] = {
        "name": gpu,
        "gpu": gpu,
        "nodes": nodes,
        "price": "2 USD per GPU-hour",
        "node": {
            "gpus": per_node,
            "nvlink": f"{NVLINK[gpu]} GB/s per direction",
            "nics": per_node,
            "nic": "50 GB/s per direction",
        },
        "fabric": {
            "kind": "rail_optimised" if nodes > 1 else "single_node",
            "switch_ports": 64,
            "latency": "3.7 us",
        },
    }
    return network(TopologyConfig.model_validate(site))


@lru_cache(maxsize=32)
def routing_of(setting: Setting) -> tuple[ModelConfig, Routing]:
    """Return the model of a benchmark, and where its tokens go."""
    _, v3 = workload_of("deepseek-v3")
    sizes = {
        "hidden_size": setting.hidden,
        "num_experts_per_tok": setting.top_k,
        "n_routed_experts": setting.experts,
    }
    model = v3.model_copy(update=sizes)
    routes = DISPATCHERS[setting.dispatcher].benchmark
    ranks = setting.nodes * setting.per_node
    return model, routes(model, ranks, setting.per_node, 0)


@lru_cache(maxsize=16)
def kernels(gpu: str) -> KernelConfig:
    """Return the kernel table of a GPU."""
    sheet = inputs.validate(inputs.data("gpus", gpu), GpuConfig)
    return inputs.validate(inputs.data("kernels", sheet.kernels), KernelConfig)


def timed(setting: Setting, run: Run) -> Row:
    """Return the row of a kernel alone, without what precedes it on its stream."""
    model, routing = routing_of(setting._replace(op=CoflowKind.DISPATCH, width=0.0))
    dispatcher = DISPATCHERS[setting.dispatcher]
    kernel = dispatcher.kernels(kernels(setting.gpu)).models[setting.op]
    call = Timed(
        network=cluster(setting.gpu, setting.nodes, setting.per_node),
        op=setting.op,
        dispatcher=dispatcher,
        name=setting.dispatcher,
        kernel=kernel.model_copy(update={"setup": 0.0}),
        tokens=run.tokens,
        token=setting.hidden * setting.width,
        sms=run.sms,
    )
    return exchange_row(call, routing, of_routing(routing, model))


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
    computed = [timed(*_of_table(row, op)).seconds for row in rows]
    measured = [float(row[f"{op}_us"]) * 1e-6 for row in rows]
    return Compared(name, use, np.array(measured), np.array(computed))


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
            setting, _ = _of_table(rows[0], op)
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


def _of_table(row: dict[str, str], op: str) -> tuple[Setting, Run]:
    setting = Setting(
        gpu="h100",
        nodes=int(row["nodes"]),
        hidden=int(row["hidden"]),
        top_k=int(row["top_k"]),
        experts=int(row["experts"]),
        dispatcher="deepep",
        op=CoflowKind(op),
        width=FP8 if op == "dispatch" else BF16,
    )
    return setting, Run(float(row["tokens"]), int(row["sms"]))


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
