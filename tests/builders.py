"""Small clusters, small models and programs written by hand, for the tests above them.

`scenario` takes changes by the path of a key, dots as two underscores: `scenario(nodes=4,
layout__ep=4)`.
"""

import copy
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np

from simulator.collectives import tuner
from simulator.costs import Launches, price
from simulator.costs.hosts import AT_ONCE
from simulator.engine import run
from simulator.hardware import Tuner, TunerLimits
from simulator.inputs import Document
from simulator.program import STREAMS, Coflow, Program, lower, lower_schedule
from simulator.report import Report
from simulator.scenario import Scenario, build
from simulator.schedules import Action, Schedule
from simulator.timeline import Timeline
from simulator.topology import network
from simulator.whatif import study

CLUSTER = {
    "name": "small",
    "gpu": "h800",
    "nodes": 2,
    "node": {
        "gpus": 4,
        "nvlink": "400 GB/s bidirectional",
        "nics": 4,
        "nic": "50 GB/s per direction",
    },
    "fabric": {
        "kind": "rail_optimised",
        "switch_ports": 8,
        "latency": "3.7 us",
        "leaf_latency": "2.8 us",
    },
    "price": "2 USD per GPU-hour",
}

# One dense layer, then MoE layers of 8 experts of which a token picks 2.
MODEL = {
    "vocab_size": 4096,
    "hidden_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 4096,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 1024,
    "first_k_dense_replace": 1,
}

TRAINING = {
    "name": "tiny",
    "model": MODEL,
    "layout": {"pp": 2, "ep": 2, "zero": 1, "stages": "even"},
    "schedule": {"name": "1f1b"},
    "training": {
        "global_batch_size": 16,
        "micro_batch_size": 1,
        "seq_length": 2048,
        "tokens": 1e9,
        "loss": "fused",
    },
    "precision": {"recipe": "bf16"},
}

_HOMES = {
    "nodes": CLUSTER,
    "node": CLUSTER,
    "fabric": CLUSTER,
    "gpu": CLUSTER,
    "price": CLUSTER,
    "faults": CLUSTER,
    "jitter": CLUSTER,
    "spread": CLUSTER,
}


def documents(**changes: object) -> tuple[Document, Document]:
    """Return the topology and the workload of the small cluster with some keys replaced."""
    cluster, training = copy.deepcopy(CLUSTER), copy.deepcopy(TRAINING)
    for path, value in changes.items():
        *groups, key = path.split("__")
        node: Any = cluster if path.split("__")[0] in _HOMES else training
        for group in groups:
            node = node.setdefault(group, {})
        node[key] = value
    # What most tests count are DeepEP's exchanges; on one expert rank there are none.
    if training["layout"].get("ep", 1) > 1:
        training.setdefault("experts", {}).setdefault("dispatcher", "deepep")
    return Document("mine.yaml", cluster, {}), Document("tiny.yaml", training, {})


def scenario(**changes: object) -> Scenario:
    """Return a scenario whose hosts launch everything in no time, as tests of GPUs and links want it."""
    return host_free(hosted(**changes))


def hosted(**changes: object) -> Scenario:
    """Return a scenario with the hosts of its stack, which on so small a model bind all the time."""
    return build(*documents(**changes))


def host_free(one: Scenario) -> Scenario:
    """Return a scenario with hosts that take no time, wait for nothing and sum nothing small."""
    waits = one.stack.host.model_copy(update={"drains": ()})
    sharding = one.stack.sharding.model_copy(update={"host": 0.0})
    changed = {"host": waits, "sharding": sharding, "step_sums": ()}
    stack = one.stack.model_copy(update=changed)
    return replace(one, host=AT_ONCE.config, stack=stack)


def dense(**changes: object) -> Scenario:
    """Return a scenario whose model has no experts."""
    return scenario(
        **{
            "model__n_routed_experts": 0,
            "model__num_experts_per_tok": 0,
            "layout__ep": 1,
            **changes,
        }
    )


def lone(**changes: object) -> Scenario:
    """Return a scenario of one GPU, which nothing has to be sent to."""
    alone = {"nodes": 1, "node__gpus": 1, "node__nics": 1, "fabric__kind": "single_node"}
    return dense(**{**alone, "layout__pp": 1, "training__global_batch_size": 4, **changes})


def simulated(one: Scenario, *, folded: bool = True):
    with _tuned_for(one):
        program = lower(one, folded=folded)
    return run(program)


def studied(one: Scenario) -> tuple[Timeline, Report]:
    """Return the timeline and the report of a scenario, without what other scenarios say of it."""
    result = study(one, penalties=False)
    return result.timeline, result.report


def pair_program(layers: int = 1, *, kinds: tuple[str, ...] = (), **changes: object) -> Program:
    """Return an overlapped pair of MoE layers, between the forward and backward that it needs.

    In DeepSeek's stack, unless changed.
    """
    small = {"layout__pp": 1, "layout__ep": 4, "training__global_batch_size": 16}
    one = scenario(**{**small, "stack": "deepseek", **changes})
    costs = price(one, pairs=True)
    order = (Action("F", 0, 0), Action("FB", 1, 0, 0, 0), Action("B", 1, 0))
    stages = (kinds or ("moe",) * layers,)
    return lower_schedule(one, Schedule("pair", 1, 2, (order,)), replace(costs, stages=stages))


# Programs by hand


HOST_FREE = {"host": 0.0, "lead": 0.0, "lag": 0.0, "drains": False}
"""Columns of a row that its host launches in no time."""
INSENSITIVE = {"sms": 0.0, "hbm": 0.0, "both": 0.0}
"""Columns of a row that no transfer slows."""


def lag(launches: Launches, speed: float) -> float:
    """Return when the last of a row's kernels ends, were the GPU free, from when its host begins [s]."""
    launched = end = 0.0
    for host, seconds in zip(launches.host, launches.kernels, strict=True):
        launched += host
        end = max(launched, end) + seconds / speed
    return end


def kernel(
    rank: int,
    seconds: float,
    *after: int,
    stream: str = "compute",
    label: str = "kernel",
    sensitive: tuple[float, float] = (0.0, 0.0),
) -> dict[str, Any]:
    """Return a row that computes. after: rows that it waits for, besides its stream's order.

    sensitive: to SMs that transfers hold, and to HBM bandwidth that they take.
    """
    sms, hbm = sensitive
    return {
        "rank": rank,
        "stream": stream,
        "label": label,
        "seconds": seconds,
        "coflow": -1,
        "instance": -1,
        **HOST_FREE,
        "sms": sms,
        "hbm": hbm,
        "both": sms * hbm,
        "after": after,
    }


def transfer(
    rank: int,
    coflow: int,
    *after: int,
    instance: int = -1,
    stream: str = "communication",
    label: str = "transfer",
) -> dict[str, Any]:
    """Return a row that takes part in a coflow. instance: by default the coflow's only one."""
    number = 1000 + coflow if instance < 0 else instance
    return {
        "rank": rank,
        "stream": stream,
        "label": label,
        "seconds": 0.0,
        "coflow": coflow,
        "instance": number,
        **HOST_FREE,
        **INSENSITIVE,
        "after": after,
    }


def flow(
    size: float,
    *members: int,
    links: tuple[tuple[int, float], ...] = ((0, 1.0),),
    rate: float = 50e9,
    beside: float = 1.0,
    latency: float = 0.0,
    takes: tuple[float, float] = (0.0, 0.0),
) -> Coflow:
    """Return a coflow of `size` bytes on its slowest link, link 0 unless said.

    takes: shares of its members' SMs and, at its rate, of their HBM bandwidth.
    """
    return Coflow(
        ("dispatch", 0), "expert", members, links, size, rate, beside, latency, (size, 0.0), *takes
    )


def program(
    rows: list[dict[str, Any]],
    coflows: tuple[Coflow, ...] = (),
    capacity: tuple[float, ...] = (50e9,),
) -> Program:
    """Return rows as a Program: each waits for its `after` and for the row before on its stream."""
    last: dict[tuple[int, str], int] = {}
    waits = []
    for number, row in enumerate(rows):
        due = set(row["after"])
        place = (row["rank"], row["stream"])
        if place in last and row["stream"] != "send":
            due.add(last[place])
        last[place] = number
        waits.append(sorted(due))
    labels = tuple(dict.fromkeys(row["label"] for row in rows))
    ranks = max(row["rank"] for row in rows) + 1
    nothing: Any = None
    return Program(
        scenario=nothing,
        costs=nothing,
        schedule=nothing,
        labels=labels,
        rank=_ints(row["rank"] for row in rows),
        stream=_ints(STREAMS.index(row["stream"]) for row in rows),
        label=_ints(labels.index(row["label"]) for row in rows),
        seconds=np.array([row["seconds"] for row in rows]),
        sms=np.array([row["sms"] for row in rows]),
        hbm=np.array([row["hbm"] for row in rows]),
        both=np.array([row["both"] for row in rows]),
        host=np.array([row["host"] for row in rows]),
        lead=np.array([row["lead"] for row in rows]),
        lag=np.array([row["lag"] for row in rows]),
        drains=np.array([row["drains"] for row in rows]),
        coflow=_ints(row["coflow"] for row in rows),
        instance=_ints(row["instance"] for row in rows),
        action=_ints(0 for _ in rows),
        wait_ptr=_ints([0, *itertools.accumulate(len(due) for due in waits)]),
        wait=_ints(row for due in waits for row in due),
        actions=((0, 0, "F"),),
        coflows=coflows,
        capacity=np.array(capacity),
        link_names=tuple(f"link{n}" for n in range(len(capacity))),
        link_kinds=("nic",) * len(capacity),
        first_rank=np.arange(ranks),
        multiplicity=np.ones(ranks, dtype=np.int64),
        class_seconds=({},) * ranks,
        flops=({},) * ranks,
        recomputed=(0.0,) * ranks,
    )


def spans(*given_rows: Any, **keys: Any) -> list[tuple[float, float]]:
    """Return (start, end) of every row of a program by hand, rounded to the picosecond."""
    timeline = run(program(*given_rows, **keys))
    ends = zip(timeline.start.tolist(), timeline.end.tolist(), strict=True)
    return [(round(start, 12), round(end, 12)) for start, end in ends]


def _ints(values: Any) -> np.ndarray:
    return np.array(list(values), dtype=np.int64)


# Configurations that laws and bounds run over


def configurations() -> list[dict[str, object]]:
    """Return changes to the small cluster: schedules, layouts, links, recipes, experts or none."""
    layouts = [
        {"layout__pp": 2, "layout__ep": 2},
        {"layout__pp": 2, "layout__ep": 4},
        {"layout__pp": 4, "layout__ep": 2},
        {"nodes": 4, "layout__pp": 2, "layout__ep": 8, "training__global_batch_size": 64},
        {"layout__pp": 1, "layout__ep": 8, "schedule__name": "1f1b"},
        {
            "layout__pp": 2,
            "layout__ep": 1,
            "model__n_routed_experts": 0,
            "model__num_experts_per_tok": 0,
        },
    ]
    links = [
        {},
        {"node__nic": "5 GB/s per direction"},
        {"node__nvlink": "20 GB/s bidirectional", "node__nics": 2},
    ]
    runs = [
        {"schedule__name": "1f1b", "precision__recipe": "bf16"},
        {"schedule__name": "dualpipe", "precision__recipe": "fp8_block"},
    ]
    every = [{**run_, **link, **layout} for layout in layouts for link in links for run_ in runs]
    extra = [
        {"layout__zero": 0},
        {"fabric__switch_ports": 4, "nodes": 2, "node__gpus": 2, "node__nics": 2},
        {"layout__stages": "balanced", "layout__pp": 4},
        {"training__recompute": ["norm", "swiglu"]},
        {"model__num_nextn_predict_layers": 1},
        {"training__micro_batch_size": 2, "training__global_batch_size": 32},
        {"layout__zero": 3, "stack": "fsdp1"},
        {"layout__zero": 3, "stack": "fsdp2"},
    ]
    return every + [
        {**one, "schedule__name": name} for one in extra for name in ("1f1b", "dualpipe")
    ]


def configuration_name(changes: dict[str, object]) -> str:
    """Return changes as a test's id: `pp=2,ep=4`."""
    return (
        ",".join(
            f"{path.split('__')[-1]}={value}".replace(" ", "") for path, value in changes.items()
        )
        or "as is"
    )


# Faster hardware


def _measured(model, k):
    """Return the links that a kernel was measured on, k times as fast: that is a rate too."""
    if model.measured_on is None:
        return None
    return model.measured_on.model_copy(
        update={"nic": k * model.measured_on.nic, "nvlink": k * model.measured_on.nvlink}
    )


def faster(one: Scenario, k: float, *, links: bool = True) -> Scenario:
    """Return a scenario on hardware of k times every rate and a k-th of every fixed time.

    links: those of the network too; else compute alone.
    """
    kernels = one.kernels
    gemms = {
        kind: {
            dtype: model.model_copy(
                update={
                    "tile": model.tile / k,
                    "ramp": model.ramp / k,
                    "measured": {name: _sped_up(part, k) for name, part in model.measured.items()},
                }
            )
            for dtype, model in getattr(kernels, kind).items()
        }
        for kind in ("gemm", "wgrad")
    }
    grouped = {
        kind: {
            dtype: model.model_copy(update={"tile": model.tile / k, "ramp": model.ramp / k})
            for dtype, model in getattr(kernels, kind).items()
        }
        for kind in ("grouped", "grouped_wgrad")
    }
    attention = {
        name: model.model_copy(
            update={
                way: {
                    width: {at: rate * k for at, rate in table.items()}
                    for width, table in getattr(model, way).items()
                }
                for way in ("forward", "backward")
            }
        )
        for name, model in kernels.attention.items()
    }
    setups = {
        name: model.model_copy(
            update={
                "setup": model.setup / k,
                "setups": _sooner(model.setups, k),
                "nic_overhead": model.nic_overhead / k,
                "ramp": model.ramp and model.ramp.model_copy(update={"most": model.ramp.most / k}),
                "cast": model.cast * k,
                "own_part": model.own_part * k,
                "channel": model.channel * k,
                "measured_on": _measured(model, k),
                "copies": _copied_faster(model.copies, k),
            }
        )
        if links
        else model
        for name, model in kernels.communication.items()
    }
    memory = one.gpu.memory.model_copy(update={"bandwidth": one.gpu.memory.bandwidth * k})
    gpu = one.gpu.model_copy(
        update={"peak": {dtype: rate * k for dtype, rate in one.gpu.peak.items()}, "memory": memory}
    )
    table = kernels.model_copy(
        update={
            **gemms,
            **grouped,
            "attention": attention,
            "gap": kernels.gap / k,
            "shortest": kernels.shortest / k,
            "start": {kind: seconds / k for kind, seconds in kernels.start.items()},
            "communication": setups,
        }
    )
    if links:
        table = table.model_copy(update={"nccl": _faster_limits(kernels.nccl, k)})
    site = _quicker(one, k) if links else one.topology
    return replace(one, gpu=gpu, kernels=table, topology=site, network=network(site))


class _FasterLimits(TunerLimits):
    """What NCCL takes GPUs to be capable of, and how many times as fast all is that it knows."""

    faster: float


def _faster_limits(limits: TunerLimits, k: float) -> _FasterLimits:
    rates = {
        "ll": limits.ll * k,
        "ll128": limits.ll128 * k,
        "wide_nic": limits.wide_nic * k,
        "tree": tuple(rate * k for rate in limits.tree),
    }
    values = {**limits.model_dump(), **rates, "faster": k}
    return _FasterLimits.model_construct(**values)  # floats of SI units, which files may not hold


@contextmanager
def _tuned_for(one: Scenario) -> Iterator[None]:
    """Let NCCL's estimates, whose constants all GPUs share, follow hardware that `faster` made.

    Its choices stay as they are then: sizes at which they change are latencies times rates.
    """
    limits = one.kernels.nccl
    known = tuner.constants()
    if isinstance(limits, _FasterLimits):
        known = _faster_tuner(known, limits.faster)
    with mock.patch.object(tuner, "constants", lambda: known):
        yield


def _faster_tuner(known: Tuner, k: float) -> Tuner:
    latencies = {
        level: {
            algorithm: tuple(seconds / k for seconds in by_protocol)
            for algorithm, by_protocol in getattr(known, level).items()
        }
        for level in ("base", "nvlink", "network")
    }
    rates = {
        name: tuple(rate * k for rate in getattr(known, name))
        for name in ("ll_across", "nvls_tree_channel")
    }
    calls = {name: getattr(known.pat, name) / k for name in ("base", "rank")}
    others = {"overhead": known.overhead / k, "pat": known.pat.model_copy(update=calls)}
    return known.model_copy(update={**latencies, **rates, **others})


def _copied_faster(copies, k: float):
    """Return the SMs' copies of a dispatcher at k times their rate; none where it has none."""
    if copies is None:
        return None
    ways = {
        way: getattr(copies, way).model_copy(
            update={"sm": getattr(copies, way).sm * k, "fill": getattr(copies, way).fill / k}
        )
        for way in ("inside", "across")
    }
    return copies.model_copy(update=ways)


def _sooner(setups, k: float):
    """Return what precedes a kernel by ranks in 1/k of the time; none where it has none."""
    if setups is None:
        return None
    ways = {
        way: {ranks: seconds / k for ranks, seconds in getattr(setups, way).items()}
        for way in ("inside", "across")
    }
    return setups.model_copy(update=ways)


def _sped_up(measured, k: float):
    burst = {length / k: rate for length, rate in measured.burst.items()}
    return measured.model_copy(update={"speed": measured.speed * k, "burst": burst})


def _quicker(one: Scenario, k: float):
    site = one.topology
    node = site.node.model_copy(
        update={
            "nvlink": site.node.nvlink * k,
            "nic": site.node.nic * k,
            "nvlink_latency": site.node.nvlink_latency / k,
        }
    )
    fabric = site.fabric.model_copy(
        update={"latency": site.fabric.latency / k, "leaf_latency": site.fabric.leaf_latency / k}
    )
    return site.model_copy(update={"node": node, "fabric": fabric})
