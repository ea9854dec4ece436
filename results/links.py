"""NCCL's collectives, computed beside measured: `links.md`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cells import row

from simulator import inputs
from simulator.collectives import BUS_FACTORS, Kernels, choices, chosen, of_nccl
from simulator.residuals.links import LINES, calls, links
from simulator.residuals.rows import processor
from simulator.topology import TopologyConfig, network

SHOWN = (65536, 2**20, 2**22, 2**25, 2**28)
"""Sizes of the table row by row [B]."""
MIB = 2.0**20
H800 = {"h800": 200e9}
"""NVLink of a GPU whose collectives in a node nobody published by size [B/s]."""


class Cluster(NamedTuple):
    """A published measurement across nodes."""

    op: str
    """What ran."""
    nodes: int
    """Of 8 GPUs."""
    bytes: float
    """Size that was stated, or 4 GiB [B]."""
    bus: float
    """Measured bus bandwidth [GB/s]."""
    transport: str
    """What carried it."""
    source: str
    """Where it was published."""


def page() -> str:
    """Return how well the tables describe collectives, by class, row by row and across nodes."""
    lines = [
        "# Collectives of NCCL, computed and measured",
        "",
        "NCCL chooses algorithm and protocol by its own estimate (`simulator/data/nccl/tuner.yaml`); how long the",
        "choice takes is fitted, protocol by protocol, to the 960 collectives of 2, 4 and 8 GPUs of one node in",
        "NVIDIA AIConfigurator (nccl-tests, NCCL 2.27.3 and 2.29.2). An error is computed over measured, less one.",
        "",
        "| GPU | class | rows | bias | rms | worst |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for one in links():
        cells = (f"{one.bias:+.1%}", f"{one.rms:.1%}", f"{one.worst:+.1%}")
        lines.append(row(one.gpu.upper(), one.name, str(len(one.measured)), *cells))
    lines += ["", "## Some of them", "", *single(), "", "## Across nodes", "", *across()]
    lines += ["", "## Two nodes of 8 H100", "", *two_nodes()]
    lines += [
        "",
        "- Fitted to what crosses nodes: the rate of a NIC, the pipeline of NVLSTree (13 all-reduces of 2 x 8 H100",
        "  over EFA; either half of the sizes predicts the other within 8%), the channels of lone sends. Overheads of",
        "  rounds are NCCL's estimates.",
        "- Reduce-scatters (NVIDIA/nccl issue 1229) state no size: 4 GiB, one rule for all. Rounds, and LL128 from",
        "  64 nodes on, make their rate fall; what was measured falls a tenth more.",
        "- Below 4 MiB trees run over EFA, a quarter to a third faster than measured: 20 us a message and 3 us for its",
        "  completion are all that aws-ofi-nccl says of it, and its own choice of algorithms is not known.",
        "- All-to-alls between nodes post their messages one after another, at NCCL's own overhead of a step; without",
        "  it the one of 64 H800 would take 40% less than measured.",
        "- NCCL gives a send between nodes two channels of 18 GB/s, and one where two would crowd the group's",
        "  (GH200, NVIDIA/nccl issue 1272): a lone pair reaches 36 GB/s of a NIC's 50, all pairs at once 47.",
        "- Gathers and scatters of one GPU a node take parallel aggregated trees (PAT) while latency counts, at NCCL's",
        "  own estimate: nobody has published their times.",
        "- All-reduces of 5 and more Hopper or Blackwell GPUs run in the NVSwitch, whose chunks grow with the buffer.",
        "- Two all-to-alls of 16 and 32 KiB on 8 H100 took twice as long as under the other version of NCCL.",
        "",
        "Sources: `simulator/data/measured/nccl_one_node.csv`, `nccl_two_nodes.csv`, `nccl_across_nodes.csv`.",
        "Reproduce: `python results/make.py links.md`.",
        "",
    ]
    return "\n".join(lines)


def single() -> Iterator[str]:
    """Yield rows of one node: time measured and computed."""
    yield "| GPU | op | GPUs | size | by | measured | computed | error |"
    yield "|---|---|---:|---:|---|---:|---:|---:|"
    seen = set()
    for call in calls():
        key = (call.gpu, call.op, call.ranks, call.bytes)
        if call.bytes not in SHOWN or key in seen:
            continue
        seen.add(key)
        size = f"{call.bytes / MIB:g} MiB"
        way = f"{call.way.algorithm}, {call.way.protocol}"
        times = (f"{call.measured * 1e6:.1f} us", f"{call.computed * 1e6:.1f} us")
        error = f"{call.computed / call.measured - 1:+.0%}"
        op = call.op.replace("_", "-")
        yield row(call.gpu.upper(), op, str(call.ranks), size, way, *times, error)


def across() -> Iterator[str]:
    """Yield rows of several nodes: bus bandwidth measured and computed."""
    yield "| op | nodes of 8 GPUs | over | size | by | measured | computed | error | source |"
    yield "|---|---:|---|---:|---|---:|---:|---:|---|"
    for text in inputs.table("nccl_across_nodes"):
        one = Cluster(
            op=text["op"],
            nodes=int(text["nodes"]),
            bytes=float(text["bytes"]),
            bus=float(text["busbw_gb_s"]),
            transport=text["transport"],
            source=text["source"],
        )
        found = bus(one, text["gpu"])
        yield row(
            one.op.replace("_", "-"),
            str(one.nodes),
            one.transport,
            f"{one.bytes / MIB:,.0f} MiB",
            found[0],
            f"{one.bus:.0f} GB/s",
            f"{found[1]:.0f} GB/s",
            f"{found[1] / one.bus - 1:+.0%}",
            one.source,
        )


def two_nodes() -> Iterator[str]:
    """Yield all-reduces on two nodes by size: time measured and computed."""
    yield "| over | size | by | measured | computed | error |"
    yield "|---|---:|---|---:|---:|---:|"
    for text in inputs.table("nccl_two_nodes"):
        size, measured = float(text["bytes"]), float(text["us"])
        one = Cluster("all_reduce", 2, size, 0.0, text["transport"], "")
        way, rate = bus(one, text["gpu"])
        computed = size * BUS_FACTORS["all_reduce"](16) / rate / 1e3  # us
        yield row(
            one.transport,
            f"{size / MIB:g} MiB",
            way,
            f"{measured:,.0f} us",
            f"{computed:,.0f} us",
            f"{computed / measured - 1:+.0%}",
        )


def bus(one: Cluster, gpu: str) -> tuple[str, float]:
    """Return the way that NCCL takes, and its bus bandwidth [GB/s]."""
    described = {
        "name": gpu,
        "gpu": gpu,
        "nodes": one.nodes,
        "node": {
            "gpus": 8,
            "nvlink": f"{(LINES | H800)[gpu] / 1e9} GB/s per direction",
            "nics": 8,
            "nic": "50 GB/s per direction",
        },
        "fabric": {
            "kind": "rail_optimised",
            "switch_ports": 1024,
            "transport": one.transport,
        },
        "price": "1 USD per GPU-hour",
    }
    site, ranks = TopologyConfig.model_validate(described), 8 * one.nodes
    net = network(site)
    kernels = Kernels.of(processor(gpu).kernels.over(site.fabric.carrier))
    best = chosen(choices(net, range(ranks), kernels, one.op, of_nccl(one.op)), one.bytes)
    rate = one.bytes / best.seconds(one.bytes) * BUS_FACTORS[one.op](ranks) / 1e9
    return f"{best.algorithm}, {best.protocol}", rate
