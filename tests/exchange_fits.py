"""The constants of exchanges, computed again from measured kernels and links."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from calibration import processor
from scipy.optimize import least_squares

from simulator import inputs
from simulator.collectives import DISPATCHERS, Batch, CoflowKind
from simulator.experts import worst_load
from simulator.experts.survey import of_routing
from simulator.residuals.exchanges import BF16, FP8, HYBRID, NVLINK, Setting, cluster, routing_of

NIC = 50e9
TOKENS = 4096.0  # of the published tables
WIDTH = {"dispatch": FP8, "combine": BF16}


class Copies(NamedTuple):
    """What one token of a benchmark asks of links and SMs."""

    nic: float
    """Copies on the busiest NIC in one direction."""
    nvlink: float
    """Copies on the busiest NVLink port in one direction."""
    sms: float
    """Copies that SMs make."""
    counted: float
    """Copies in DeepEP's convention."""
    latency: float
    """Of the way [s]."""


@lru_cache(maxsize=64)
def copies(setting):
    model, routing = routing_of(setting._replace(op=CoflowKind.DISPATCH, width=0.0))
    row = DISPATCHERS[setting.dispatcher]
    load = worst_load(of_routing(routing, model), way=row.way)
    net = cluster(setting.gpu, setting.nodes, setting.per_node)
    members = tuple(range(setting.nodes * setting.per_node))
    asked = row.demand(Batch(net, members, load, setting.op, None, ""))
    return Copies(
        nic=load.over_nic if setting.nodes > 1 else 0.0,
        nvlink=load.over_nvlink,
        sms=row.copied(load),
        counted=routing.nodes if setting.nodes > 1 else routing.gpus,
        latency=asked.latency,
    )


class Point(NamedTuple):
    """One measured exchange."""

    copies: Copies
    hidden: float
    token: float
    tokens: float
    sms: float
    line: float
    """Of NVLink in one direction [B/s]."""
    seconds: float


def point(setting, tokens, sms, seconds=0.0):
    return Point(
        copies=copies(setting._replace(width=0.0)),
        hidden=setting.hidden,
        token=setting.hidden * setting.width,
        tokens=tokens,
        sms=sms,
        line=NVLINK[setting.gpu] * 1e9,
        seconds=seconds,
    )


def at_rate(setting, sms, gb_s, tokens=TOKENS):
    """Return a point from a published bandwidth."""
    found = point(setting, tokens, sms)
    return found._replace(seconds=found.copies.counted * found.token * tokens / (gb_s * 1e9))


def computed(points, nic, nvlink, sm, overhead, fill):
    """Return the seconds of a model by its constants. fill: of each point [s]."""
    moving = []
    for p in points:
        links = max(
            p.copies.nic * p.token / (nic * NIC),
            p.copies.nvlink * p.token / (nvlink * p.line),
        )
        copying = p.copies.sms * (p.token + overhead) / (sm * p.sms)
        moving.append(p.tokens * max(links, copying))
    latency = np.array([p.copies.latency for p in points])
    return latency + fill + np.array(moving)


def measured(points):
    return np.array([p.seconds for p in points])


# DeepEP V1 on Hopper: H100 over SMs gives what SMs copy and the time to fill, the README's rates on
# H800 give links.


def v3_on_h800(op, ranks):
    nodes = max(1, ranks // 8)
    return Setting("h800", nodes, 7168, 8, 256, "deepep", CoflowKind(op), WIDTH[op])


def link_shares(op, fill):
    """Return the shares of NVLink and of the NIC behind the README's rates.

    fill: inside and across nodes [s], with the latency of the way, which the rates count as bytes.
    """
    rows = {row["ep"]: row for row in inputs.data("measured", "deepep").data["normal_kernels"]}
    inside = at_rate(v3_on_h800(op, 8), 20, rows[8][f"{op}_gb_s"])
    across = at_rate(v3_on_h800(op, 64), 20, rows[64][f"{op}_gb_s"])
    near = inside.copies.nvlink * inside.token * TOKENS
    far = across.copies.nic * across.token * TOKENS
    nvlink = near / (inside.seconds - inside.copies.latency - fill[0]) / inside.line
    nic = far / (across.seconds - across.copies.latency - fill[1]) / NIC
    return nvlink, nic


LEFT_OUT = (2, 12)
"""Nodes and SMs of rows that no fit takes: dispatch with 12 SMs takes there 1.8 times as long as
with 16 and hardly less than with 8, its notification five times as long as with either."""


@lru_cache(maxsize=4)
def deepep_points(op, across):
    points = []
    for row in inputs.table("deepep_normal_h100"):
        nodes, sms = int(row["nodes"]), int(row["sms"])
        if nodes == 8 or (nodes > 1) != across or (nodes, sms) == LEFT_OUT:
            continue
        setting = Setting(
            "h100",
            nodes,
            int(row["hidden"]),
            int(row["top_k"]),
            int(row["experts"]),
            "deepep",
            CoflowKind(op),
            WIDTH[op],
        )
        points.append(point(setting, float(row["tokens"]), sms, float(row[f"{op}_us"]) * 1e-6))
    return tuple(points)


def evenly(ratio):
    """Return signed squares of logarithms: least squares of them spare the worst row."""
    error = np.log(ratio)
    return np.sign(error) * error**2


class Deepep(NamedTuple):
    """The constants of one direction."""

    nvlink: float
    nic: float
    sm: tuple[float, float]
    """Inside and across nodes [B/s]."""
    overhead: float
    """[B]"""
    fill: tuple[float, float]
    """Inside and across nodes, of a token of 7,168 elements [s]."""


@lru_cache(maxsize=2)
def deepep(op):
    """Fit all constants of a direction by least fourth powers of logarithms.

    Combine has no overhead, its fill grows with the token; dispatch the other way round.
    """
    inside, across = deepep_points(op, across=False), deepep_points(op, across=True)
    grows = op == "combine"
    scale = {
        part: np.array([p.hidden / 7168 if grows else 1.0 for p in part])
        for part in (inside, across)
    }
    fill, overhead = (50e-6, 100e-6), 0.0
    for _ in range(6):
        nvlink, nic = link_shares(op, fill)

        def near(q, nvlink=nvlink, nic=nic):
            over = 0.0 if grows else q[2] * 1e3
            took = computed(inside, nic, nvlink, q[1] * 1e9, over, q[0] * 1e-6 * scale[inside])
            return evenly(took / measured(inside))

        first = least_squares(near, (50.0, 20.0) if grows else (50.0, 20.0, 1.0)).x
        overhead = 0.0 if grows else first[2] * 1e3

        def far(q, nvlink=nvlink, nic=nic, over=overhead):
            took = computed(across, nic, nvlink, q[1] * 1e9, over, q[0] * 1e-6 * scale[across])
            return evenly(took / measured(across))

        second = least_squares(far, (100.0, 15.0)).x
        fill = (first[0] * 1e-6, second[0] * 1e-6)
    return Deepep(nvlink, nic, (first[1] * 1e9, second[1] * 1e9), overhead, fill)


def deepep_on_blackwell(op, nvlink):
    """Return (SM rate, overhead, fill) of DeepEP V1 on 8 GPUs. nvlink: share of its rate."""
    points = []
    for row in inputs.data("measured", "hybrid_ep").data["deepep_v1"]:
        for column, (kind, width) in HYBRID.items():
            setting = Setting(row["gpu"], 1, 7168, 8, 64, "deepep", kind, width)
            if kind == op:
                points.append(at_rate(setting, row["sms"], row["api"][column]))

    def errors(q):
        over = q[2] * 1e3 if op == "dispatch" else 0.0
        took = computed(points, 1.0, nvlink, q[0] * 1e9, over, q[1] * 1e-6)
        return np.log(took / measured(points))

    start = (20.0, 80.0, 1.0) if op == "dispatch" else (20.0, 80.0)
    found = least_squares(errors, start).x
    return found[0] * 1e9, found[2] * 1e3 if op == "dispatch" else 0.0, found[1] * 1e-6


# HybridEP

FITTED_RANKS = 16
"""GPUs of an NVLink domain whose rows are fitted; FP8 with 16 SMs is half as fast on 32."""


def hybrid_points(op, where):
    """Return the kernels alone: hopper, between nodes, or blackwell, inside an NVLink domain."""
    points = []
    for row in inputs.data("measured", "hybrid_ep").data[where]:
        if where == "blackwell" and row["ranks"] > FITTED_RANKS:
            continue
        for column, (kind, width) in HYBRID.items():
            if kind != op:
                continue
            if where == "hopper":
                setting = Setting(
                    "h100", row["ranks"] // 8, 7168, 8, 8 * row["ranks"], "hybridep", kind, width
                )
            else:
                ranks = row["ranks"]
                setting = Setting(row["gpu"], 1, 7168, 8, 8 * ranks, "hybridep", kind, width, ranks)
            points.append(at_rate(setting, row["sms"], row["kernel"][column]))
    return tuple(points)


def hybrid_across(op):
    """Return (share of the NIC, SM rate, overhead, fill) between nodes of H100."""
    points = hybrid_points(op, "hopper")

    def errors(q):
        over = q[3] * 1e3 if op == "dispatch" else 0.0
        took = computed(points, q[0], 1.0, q[1] * 1e9, over, q[2] * 1e-6)
        return np.log(took / measured(points))

    start = (0.9, 20.0, 100.0, 1.0) if op == "dispatch" else (0.9, 20.0, 100.0)
    found = least_squares(errors, start).x
    return found[0], found[1] * 1e9, found[3] * 1e3 if op == "dispatch" else 0.0, found[2] * 1e-6


def hybrid_inside(op):
    """Return (share of NVLink, SM rate, overhead, fill) inside an NVLink domain of Blackwell."""
    points = hybrid_points(op, "blackwell")

    def errors(q):
        over = q[2] * 1e3 if op == "dispatch" else 0.0
        took = computed(points, 1.0, q[0], q[1] * 1e9, over, 0.0)
        return np.log(took / measured(points))

    start = (0.7, 40.0, 1.0) if op == "dispatch" else (0.7, 40.0)
    found = least_squares(errors, start).x
    return found[0], found[1] * 1e9, found[2] * 1e3 if op == "dispatch" else 0.0


def hybrid_setups(op, where):
    """Return what precedes the kernels by ranks [s]: calls from Python less kernels and copies.

    A call copies what the kernel has received out of the library's buffer, or what it sends into
    it; in a step the permutes of tokens to experts do so (`dispatch_with_permute`), which are ops
    of their own. Between nodes a call copies its own tokens into the buffer of the NIC as well,
    which stays. where: as `hybrid_points`. Median over formats and SMs.
    """
    part = processor("h100" if where == "hopper" else "b200")
    copying = part.gpu.memory.bandwidth * part.kernels.memory["copy"]
    copying *= part.kernels.overlap_slowdown.memory  # nothing else runs
    found = {}
    for row in inputs.data("measured", "hybrid_ep").data[where]:
        ranks, gpu = row["ranks"], row.get("gpu", "h100")
        nodes = ranks // 8 if where == "hopper" else 1
        for column, (kind, width) in HYBRID.items():
            if kind != op:
                continue
            setting = Setting(
                gpu, nodes, 7168, 8, 8 * ranks, "hybridep", kind, width, ranks // nodes
            )
            call, alone = (
                at_rate(setting, row["sms"], row[what][column]).seconds
                for what in ("api", "kernel")
            )
            _, routing = routing_of(setting._replace(op=CoflowKind.DISPATCH, width=0.0))
            copied = 2 * TOKENS * routing.gpus * 7168 * width  # read and written
            found.setdefault(ranks, []).append(call - alone - copied / copying)
    return {ranks: float(np.median(left)) for ranks, left in found.items()}
