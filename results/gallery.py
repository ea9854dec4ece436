"""Entries of the gallery that change one thing at a time: each one question, one table, one figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from simulator import inputs, load, plot, run, summarise
from simulator.plot import SweepFigure, knee
from simulator.plot.sweep_values import Point
from simulator.program import lower
from simulator.report import Report
from simulator.scenario import Scenario
from simulator.topology import FABRICS
from simulator.whatif import simulate

HOURS = "run.gpu_hours"
V3, LLAMA = "deepseek-v3", "llama-3.1-405b"
NVLINK = (100, 200, 300, 400, 600, 900)  # [GB/s bidirectional], as workloads/sweeps/nvlink.yaml
NICS = (50.0, 40.0, 25.0, 12.5)  # [GB/s per direction]

_done: dict[str, Report] = {}
"""what was simulated already: a table and its figure share it"""


def report(site: str, workload: str = V3, sets: Mapping[str, object] | None = None) -> Report:
    """Return the report of a scenario, simulated once."""
    key = f"{site} {workload} {sets}"
    if key not in _done:
        _done[key] = simulate(load(site, workload, sets=sets))
    return _done[key]


def nvlink() -> str:
    """Return a V3 step over NVLink's bandwidth, with the knee."""
    rows = [(speed, at_nvlink(speed)) for speed in NVLINK]
    last = rows[-1][1].step_time
    bend = knee([Point(speed, found.step_time) for speed, found in rows])
    lines = [
        "# How much NVLink does DeepSeek-V3 need?",
        "",
        "2,048 H800, PP16, EP64, tokens limited to 4 nodes; only NVLink changes. NICs stay at 50 GB/s.",
        "",
        "| NVLink, bidirectional | step | against 900 GB/s | exposed expert traffic | NVLink busy | NIC busy |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {speed} GB/s | {found.step_time:.2f} s | {found.step_time / last - 1:+.1%} "
        f"| {found.breakdown['expert_exposed']:.2f} s | {found.utilisation['nvlink']:.0%} "
        f"| {found.utilisation['nic']:.0%} |"
        for speed, found in rows
    ]
    said = (
        f"at {bend[0]} GB/s, from where on the step stays within 1% of the last"
        if bend
        else "none up to 900 GB/s"
    )
    lines += [
        "",
        f"The knee: {said}.",
        "",
        "Dispatch and combine send a token once to a node over its NIC, then over NVLink to its experts' GPUs.",
        "At 100 GB/s NVLink is the slower of the two; from 300 GB/s on the NIC binds and the exposed traffic no",
        "longer changes: what little is left to gain is where gradients cross NVLink. Nothing here was fitted to",
        "a step; DeepEP's kernels were calibrated at 400 GB/s, and their efficiency is taken to hold elsewhere.",
        "",
        "![step over NVLink](nvlink.png)",
        "",
        "Reproduce: `simulate sweep nvlink --plot nvlink.png`, which adds EP16, EP32 and EP128; one point:",
        "`simulate run h800-2048 --set 'topology.node.nvlink=100 GB/s bidirectional'`.",
        "",
    ]
    return "\n".join(lines)


def at_nvlink(speed: int) -> Report:
    """Return V3 with NVLink at another speed [GB/s bidirectional]."""
    return report("h800-2048", sets={"topology.node.nvlink": f"{speed} GB/s bidirectional"})


def draw_nvlink(path: Path) -> None:
    """Draw the step over NVLink's bandwidth."""
    columns = {
        "point": list(NVLINK),
        "axis.topology.node.nvlink": [f"{speed} GB/s" for speed in NVLINK],
        "step_time_s": [at_nvlink(speed).step_time for speed in NVLINK],
    }
    plot.sweep(
        columns,
        [SweepFigure(kind="knee", x="topology.node.nvlink")],
        "DeepSeek-V3 on 2,048 H800, EP64; NVLink bidirectional",
        path,
    )


def slow_nic() -> str:
    """Return what slow NICs cost V3, all of them and a single one."""
    base = at_nic(50.0).step_time
    lines = [
        "# What does a slow NIC cost DeepSeek-V3?",
        "",
        "2,048 H800, one NIC for each GPU, PP16, EP64. The last columns drop the limit of 4 nodes per token.",
        "",
        "| every NIC, per direction | step | against 50 GB/s | exposed expert traffic | NIC busy "
        "| no node limit | the limit saves |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for speed in NICS:
        found, free = at_nic(speed), at_nic(speed, 8)
        lines.append(
            f"| {speed:g} GB/s | {found.step_time:.2f} s | {found.step_time / base - 1:+.1%} "
            f"| {found.breakdown['expert_exposed']:.2f} s | {found.utilisation['nic']:.0%} "
            f"| {free.step_time:.2f} s | {1 - found.step_time / free.step_time:.1%} |"
        )
    one, every = one_slow_nic().step_time, at_nic(25.0).step_time
    lines += [
        "",
        "| NICs at 25 GB/s | step | against none |",
        "|---|---:|---:|",
        f"| the NIC of one GPU of 2,048 | {one:.2f} s | {one / base - 1:+.1%} |",
        f"| every NIC | {every:.2f} s | {every / base - 1:+.1%} |",
        "",
        f"One NIC in 2,048 costs {(one - base) / (every - base):.0%} of what slowing all of them costs: its "
        "group of experts waits",
        "for it at every exchange, and its pipeline and everybody's gradients wait for that group. Down to",
        "25 GB/s the overlapped pairs hide most of the traffic; at 12.5 GB/s a pair's exchanges take longer than",
        "its compute, and all that is beyond shows.",
        "",
        "![step over NIC](slow-nic.png)",
        "",
        "Reproduce: `simulate compare h800-2048 --set 'topology.node.nic=[50 GB/s per direction, 25 GB/s per",
        "direction]'`, `simulate sweep nic`, and `simulate run h800-2048 --set 'topology.faults=[{nic: [0, 0],",
        "bandwidth: 25 GB/s per direction}]'`.",
        "",
    ]
    return "\n".join(lines)


def at_nic(speed: float, groups: int = 4) -> Report:
    """Return V3 with all NICs at another speed [GB/s per direction] and tokens limited to some groups of experts."""
    limit = {} if groups == 4 else {"model.topk_group": groups}
    return report("h800-2048", sets={"topology.node.nic": f"{speed:g} GB/s per direction", **limit})


def one_slow_nic() -> Report:
    """Return V3 with one GPU's NIC at half its speed."""
    return report(
        "h800-2048",
        sets={"topology.faults": [{"nic": [0, 0], "bandwidth": "25 GB/s per direction"}]},
    )


def draw_slow_nic(path: Path) -> None:
    """Draw the step over the NICs' bandwidth, with and without the limit of nodes per token."""
    points = [(groups, speed) for groups in (4, 8) for speed in NICS]
    columns = {
        "point": list(range(len(points))),
        "axis.topology.node.nic": [f"{speed:g} GB/s" for _, speed in points],
        "axis.model.topk_group": [{4: "4, as V3", 8: "all 8"}[groups] for groups, _ in points],
        "step_time_s": [at_nic(speed, groups).step_time for groups, speed in points],
    }
    plot.sweep(
        columns,
        [SweepFigure(kind="knee", x="topology.node.nic", by="model.topk_group")],
        "DeepSeek-V3 on 2,048 H800, EP64; NIC per direction",
        path,
    )


def bars(
    rows: Sequence[tuple[str, float]], value: str, axis: str, caption: str, path: Path
) -> None:
    """Draw a bar for each row. value: column as plot.sweep_values knows it, in SI units. axis: what the names are."""
    columns = {
        "point": list(range(len(rows))),
        f"axis.{axis}": [name for name, _ in rows],
        value: [figure for _, figure in rows],
    }
    plot.sweep(columns, [SweepFigure(kind="bars", x=axis, value=value)], caption, path)


def clos(leaf: int, pod: int) -> dict[str, object]:
    """Return the keys of a three-layer Clos with pods of 512 GPUs. leaf, pod: oversubscription."""
    return {
        "topology.fabric.kind": "clos_3",
        "topology.fabric.pod_gpus": 512,
        "topology.fabric.oversubscription": [leaf, pod],
    }


FABRIC_ROWS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("multi-plane, 8 planes", "h800-2048-mpft", {}),
    ("rails under shared spines", "h800-2048", {}),
    ("rails, spread freely", "h800-2048", {"topology.fabric.kind": "multi_rail"}),
    ("fat tree, 2 layers", "h800-2048", {"topology.fabric.kind": "fat_tree_2"}),
    ("fat tree, 3 layers", "h800-2048", {"topology.fabric.kind": "fat_tree_3"}),
    ("Clos, 1:7 above pods", "h800-2048", clos(1, 7)),
    ("Clos, 1:2 above leaves", "h800-2048", clos(2, 1)),
    ("Clos, 1:4 above leaves", "h800-2048", clos(4, 1)),
)
"""name, topology file, keys"""


def fabrics() -> str:
    """Return a V3 step on other fabrics between the same nodes and NICs."""
    found = [(name, report(site, sets=sets)) for name, site, sets in FABRIC_ROWS]
    base = found[0][1].step_time
    lines = [
        "# Multi-plane or fat tree for DeepSeek-V3?",
        "",
        "256 nodes of 8 H800 with a 400 Gb/s NIC each and 64-port switches; only the fabric between them changes.",
        "",
        "| fabric | switches | cables between switches | step | against multi-plane | busiest cable |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, one in found:
        built = FABRICS[one.scenario.topology.fabric.kind].build(one.scenario.topology)
        lines.append(
            f"| {name} | {len(built.graph):,} | {built.cables:,} | {one.step_time:.3f} s "
            f"| {one.step_time / base - 1:+.2%} | {one.utilisation['fabric']:.0%} |"
        )
    lines += [
        "",
        "For this traffic a plane is as good as a tree: DeepEP's exchange goes to the GPU of the same number on",
        "the other node and turns to its neighbours over NVLink, so it never has to cross planes. The tree with",
        "full bisection carries the same bytes through its spines at the same rate. What multi-plane buys is",
        "size: 16,384 endpoints from two layers of switches ([topologies.md](topologies.md)). What costs is",
        "oversubscription: above pods of 512 GPUs little, for groups of 64 GPUs that share experts stay inside;",
        "at the leaves much.",
        "",
        "Traffic is spread ideally here. Hashed ECMP (`--set topology.fabric.routing=ecmp`), by whose collisions",
        "a tree may lose, takes many minutes to simulate at this size and is not in the table.",
        "",
        "![step on each fabric](fabrics.png)",
        "",
        "Reproduce: `simulate compare h800-2048-mpft h800-2048`, `simulate run h800-2048 --set",
        "topology.fabric.kind=fat_tree_2`, and `simulate run h800-2048 --set topology.fabric.kind=clos_3 --set",
        "topology.fabric.pod_gpus=512 --set 'topology.fabric.oversubscription=[4, 1]'`.",
        "",
    ]
    return "\n".join(lines)


def draw_fabrics(path: Path) -> None:
    """Draw the step on each fabric."""
    rows = [(name, report(site, sets=sets).step_time) for name, site, sets in FABRIC_ROWS]
    bars(rows, "step_time_s", "fabric", "DeepSeek-V3 on 2,048 H800, ideal spreading", path)


BRIDGE: dict[
    str, object
] = {  # Megatron-Bridge's layout for 1,024 H100: simulator/data/cases/megatron_bridge_h100.yaml
    "layout.cp": 2,
    "layout.pp": 8,
    "layout.vpp": 8,
    "layout.zero": 1,
    "layout.cp_comm": "p2p",
    "layout.tp_comm_overlap": True,
    "training.global_batch_size": 512,
}
PRECISIONS: tuple[tuple[str, str, str, dict[str, object], tuple[str, ...]], ...] = (
    ("DeepSeek-V3, 2,048 H800", "h800-2048", V3, {}, ("bf16", "fp8_block", "fp8_tensor")),
    ("Llama 405B, 16,384 H100, as trained", "h100-16384", LLAMA, {}, ("bf16", "fp8_tensor")),
    ("Llama 405B, 1,024 H100, Megatron-Bridge", "h100-1024", LLAMA, BRIDGE, ("bf16", "fp8_tensor")),
)
"""name, topology, workload, keys, recipes"""


def fused_norms(scenario: Scenario) -> Scenario:
    """Return a scenario whose norms are as fast as a training stack's one-pass kernels."""
    memory = scenario.kernels.memory
    fast = {kind: memory[f"fused_{kind}"] for kind in ("norm", "norm_backward")}
    return replace(
        scenario, kernels=scenario.kernels.model_copy(update={"memory": {**memory, **fast}})
    )


def precision() -> str:
    """Return steps and memory in BF16 and in FP8."""
    lines = [
        "# FP8 or BF16?",
        "",
        "| | recipe | step | against BF16 | GEMMs | memory-bound | idle | peak memory | fits |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, site, workload, sets, recipes in PRECISIONS:
        found = {
            recipe: report(site, workload, {**sets, "precision.recipe": recipe})
            for recipe in recipes
        }
        if workload == V3:
            found["fp8_block, fused norms"] = summarise(run(lower(fused_norms(load(site)))))
        lines += [precision_row(name, recipe, one, found["bf16"]) for recipe, one in found.items()]
    cases = inputs.data("cases", "megatron_bridge_h100").data["cases"]
    known = [case["published"] for case in cases if case["workload"] == LLAMA]
    bridge = report("h100-1024", LLAMA, {**BRIDGE, "precision.recipe": "fp8_tensor"}).step_time
    lines += [
        "",
        "Read with the tables' sources in mind:",
        "",
        "- `fp8_block` is DeepSeek's: GEMMs from DeepGEMM, norms, quantisation and the rest from DeepSeek's own",
        "  profile. Those norms reach a third of HBM's bandwidth; `bf16` and `fp8_tensor` get a training stack's fused",
        "  norms, twice as fast. The row with fused norms takes that difference out: it is small. What else FP8 spends",
        "  on memory is mostly casting.",
        "- `fp8_tensor`'s GEMMs rest on five medians of one benchmark; `fp8_current` reads every tensor once more for",
        f"  its scale. Megatron-Bridge published {' and '.join(f'{step:.1f} s' for step in known)} for the "
        f"last row; simulated {bridge:.1f} s.",
        "  Read FP8 per tensor as the most that it can save. That it beats `fp8_block` is no finding either.",
        "- `bf16` and `fp8_tensor` send tokens to their experts in BF16, twice the bytes of FP8.",
        "- FP8 in blocks keeps activations in 8 bits: V3 fits with it, and not without it in this layout.",
        "- At 16,384 GPUs and 16 sequences a replica much of 405B's step moves gradients and parameters. They stay as",
        "  large as in BF16 while the GEMMs that hide them shrink, so FP8 saves less than half of what the GEMMs save.",
        "",
        "![the parts of V3's step](fp8-or-bf16.png)",
        "",
        "Reproduce: `simulate compare h800-2048 --set 'precision.recipe=[bf16, fp8_block, fp8_tensor]'`, `simulate",
        "compare h100-16384 -w llama-3.1-405b --set 'precision.recipe=[bf16, fp8_tensor]'`.",
        "",
    ]
    return "\n".join(lines)


def precision_row(name: str, recipe: str, one: Report, base: Report) -> str:
    """Return a row of the table of precisions."""
    parts, peak = one.breakdown, one.worst_memory.peak
    idle = sum(
        seconds
        for part, seconds in parts.items()
        if part.endswith(("exposed", "waiting", "bubble"))
    )
    fits = "yes" if peak <= one.scenario.gpu.memory.capacity else "no"
    return (
        f"| {name} | {recipe} | {one.step_time:.2f} s | {one.step_time / base.step_time - 1:+.1%} "
        f"| {parts['gemm']:.2f} s | {parts['memory_bound']:.2f} s | {idle:.2f} s | {peak / 1e9:.1f} GB | {fits} |"
    )


def draw_precision(path: Path) -> None:
    """Draw the parts of V3's step in each precision."""
    plot.comparison(
        [report("h800-2048", sets={"precision.recipe": recipe}) for recipe in PRECISIONS[0][-1]],
        path,
    )


SLOWER = ({"precision.recipe": "bf16"}, {"schedule.name": "1f1b"}, {"model.topk_group": 8})
"""what V3 does without in the waterfall: FP8, DualPipe, the limit of 4 nodes per token"""


def without(count: int) -> Report:
    """Return V3 without the first `count` of SLOWER."""
    return report(
        "h800-2048", sets={key: value for keys in SLOWER[:count] for key, value in keys.items()}
    )


def published_hours(one: Report) -> float:
    """Return the GPU-hours of the run that the source gives."""
    return next(row.published for row in one.references() if row.quantity == "gpu_hours")


def waterfall() -> list[tuple[str, float, str]]:
    """Return GPU-hours from Llama 405B's run to DeepSeek-V3's, one change at a time: (change, hours, what it is)."""
    llama, v3 = report("h100-16384", LLAMA), without(0)
    model = v3.scenario.model
    flops, sparse = (one.quantities()["flops_per_token"] for one in (llama, v3))
    dense = sparse + 6.0 * (model.parameters - model.active_parameters)
    tokens = (
        llama.gpu_hours
        * v3.scenario.workload.training.tokens
        / llama.scenario.workload.training.tokens
    )
    return [
        ("Llama 405B, published", published_hours(llama), "16,384 H100, 15.6 T tokens, BF16"),
        (
            "bookkeeping taken off",
            llama.gpu_hours,
            "the simulated run: every step at full batch, nothing breaks",
        ),
        ("14.8 T tokens", tokens, "V3's instead of 15.6 T"),
        (
            "V3's size, dense",
            tokens * dense / flops,
            f"{dense / 1e9:,.0f} GFLOPs per token instead of {flops / 1e9:,.0f}, at 405B's FLOP/s",
        ),
        (
            "sparsity",
            tokens * sparse / flops,
            f"{sparse / 1e9:,.0f} GFLOPs per token, at 405B's FLOP/s",
        ),
        (
            "its kernels, H800, EP64",
            without(3).gpu_hours,
            "simulated: BF16, 1F1B, any 8 experts; small GEMMs, exposed expert traffic, bubble; does not fit 80 GB",
        ),
        (
            "at most 4 nodes per token",
            without(2).gpu_hours,
            "network: fewer bytes over the NICs; does not fit either",
        ),
        (
            "DualPipe",
            without(1).gpu_hours,
            "schedule: dispatch and combine overlapped with compute; does not fit either",
        ),
        ("FP8", v3.gpu_hours, "precision: faster GEMMs, half the bytes of dispatch, fits"),
        ("V3, published", published_hours(v3), "what the simulated run leaves out is put back"),
    ]


def gpu_hours() -> str:
    """Return the GPU-hours of V3's and of Llama 405B's run, why they differ, and where each run's go."""
    lines = [
        "# GPU-hours of DeepSeek-V3's and Llama 3.1 405B's runs",
        "",
        "From the one to the other, one change at a time. Rows 3 to 5 scale by arithmetic what was simulated,",
        "with 6 FLOPs for each parameter that a token uses; rows 2 and 6 to 9 are simulated. The order matters:",
        "FP8 saves what it does under DualPipe, DualPipe what it does in BF16.",
        "",
        "| | GPU-hours | this change | what it is |",
        "|---|---:|---:|---|",
    ]
    before = 0.0
    for name, hours, what in waterfall():
        change = f"x {hours / before:.3f}" if before else ""
        lines.append(f"| {name} | {hours / 1e6:.2f} M | {change} | {what} |")
        before = hours
    lines += [
        "",
        "![GPU-hours after each change](gpu-hours.png)",
        "",
        *where(),
        *bookkeeping(),
        "Reproduce: `simulate run h100-16384 -w llama-3.1-405b`, `simulate run h800-2048`, and `simulate run",
        "h800-2048 --set precision.recipe=bf16 --set schedule.name=1f1b --set model.topk_group=8` with fewer and",
        "fewer of them.",
        "",
    ]
    return "\n".join(lines)


def where() -> list[str]:
    """Return where the simulated GPU-hours of both runs go."""
    found = {"DeepSeek-V3": without(0), "Llama 405B": report("h100-16384", LLAMA)}
    lines = [
        "## Where they go",
        "",
        f"| simulated, M GPU-hours | {' | '.join(found)} |",
        "|---|---:|---:|",
    ]
    ideal = [one.mfu * one.gpu_hours for one in found.values()]
    lines.append(
        f"| (the model's FLOPs at the BF16 peak) | {' | '.join(f'({hours / 1e6:.3f})' for hours in ideal)} |"
    )
    parts = dict.fromkeys(part for one in found.values() for part in one.breakdown)
    rows = {
        part.replace("_", " "): [
            one.gpu_hours * one.breakdown.get(part, 0.0) / one.step_time for one in found.values()
        ]
        for part in parts
    }
    rows["the whole"] = [one.gpu_hours for one in found.values()]
    return [
        *lines,
        *(
            f"| {part} | {' | '.join(f'{hours / 1e6:.3f}' for hours in row)} |"
            for part, row in rows.items()
            if max(row) >= 500.0
        ),
        "",
    ]


def bookkeeping() -> list[str]:
    """Return what published hours hold beyond the simulated steps, as far as the sources give it."""
    llama, v3 = report("h100-16384", LLAMA), without(0)
    long = load("h100-16384", f"{LLAMA}-128k")
    tokens, length = long.workload.training.tokens, long.workload.training.seq_length
    rate = (
        next(row.value for row in long.workload.reference if row.quantity == "tflops_per_gpu")
        * 1e12
    )
    more = tokens * (
        long.model.flops_per_token(length) / rate / 3600
        - llama.gpu_hours / llama.scenario.workload.training.tokens
    )
    ramp = report("h800-2048", sets={"training.global_batch_size": 4096}).gpu_hours - v3.gpu_hours
    share = 469e9 / v3.scenario.workload.training.tokens
    gaps = [published_hours(one) - one.gpu_hours for one in (llama, v3)]
    slower = next(
        row.simulated / row.published for row in llama.references() if row.quantity == "step_time_s"
    )
    return [
        "## What the published hours also hold",
        "",
        "| | M GPU-hours |",
        "|---|---:|",
        f"| Llama 405B: published less simulated | {gaps[0] / 1e6:+.2f} |",
        f"| - {tokens / 1e9:.0f} B of its tokens at 128K, at the published {rate / 1e12:.0f} TFLOP/s "
        f"| {more / 1e6:+.2f} |",
        f"| - interruptions, if effective time was 90% (above it, says the paper) | {llama.gpu_hours / 9 / 1e6:+.2f} |",
        f"| DeepSeek-V3: published less simulated | {gaps[1] / 1e6:+.3f} |",
        f"| - batch ramp, at most: the first 469 B tokens all at 4,096 sequences | {ramp * share / 1e6:+.3f} |",
        "",
        "V3's published total is 180 K GPU-hours per trillion tokens times 14.8, so it says nothing of its ramp or its",
        "interruptions: the gap is the step's own, item by item in [deepseek-v3-ledger.md](deepseek-v3-ledger.md).",
        "For 405B long context and interruptions together are more than the gap, as they should be: the simulated",
        f"step is {slower - 1:.0%} slower than the one that the paper's 400 TFLOP/s give.",
        "",
    ]


def draw_hours(path: Path) -> None:
    """Draw the GPU-hours after each change."""
    bars(
        [(name, hours) for name, hours, _ in waterfall()],
        HOURS,
        "each with all above it",
        "From Llama 3.1 405B's run to DeepSeek-V3's, one change at a time",
        path,
    )


TABLES: dict[str, Callable[[], str]] = {
    "nvlink.md": nvlink,
    "slow-nic.md": slow_nic,
    "fabrics.md": fabrics,
    "fp8-or-bf16.md": precision,
    "gpu-hours.md": gpu_hours,
}
"""file -> what it should hold"""
FIGURES: dict[str, Callable[[Path], None]] = {
    "nvlink.md": draw_nvlink,
    "slow-nic.md": draw_slow_nic,
    "fabrics.md": draw_fabrics,
    "fp8-or-bf16.md": draw_precision,
    "gpu-hours.md": draw_hours,
}
"""file -> what draws the figure of the same name"""
