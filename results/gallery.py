"""Entries of the gallery that change one thing at a time: each one question, one table, one figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from simulator import load, plot
from simulator.compare import simulate
from simulator.plot import SweepFigure, knee
from simulator.report import Report

V3, LLAMA = "deepseek-v3", "llama-3.1-405b"
NVLINK = (100, 200, 300, 400, 600, 900)  # [GB/s bidirectional], as workloads/sweeps/nvlink.yaml
NICS = (50.0, 40.0, 25.0, 12.5)  # [GB/s per direction]

_done: dict[str, Report] = {}
"""what was simulated already: a table and its figure share it"""


def report(site: str, workload: str = V3, sets: Mapping[str, object] | None = None) -> Report:
    """Return the report of a scenario, simulated once."""
    key = f"{site} {workload} {sets}"
    if key not in _done:
        _done[key] = simulate(load(site, workload, sets=sets), penalties=False)
    return _done[key]


def nvlink() -> str:
    """Return a V3 step over NVLink's bandwidth, with the knee."""
    rows = [(speed, at_nvlink(speed)) for speed in NVLINK]
    last = rows[-1][1].step_time
    bend = knee([(speed, found.step_time) for speed, found in rows])
    lines = ["# How much NVLink does DeepSeek-V3 need?", "",
             "2,048 H800, PP16, EP64, tokens limited to 4 nodes; only NVLink changes. NICs stay at 50 GB/s.", "",
             "| NVLink, bidirectional | step | against 900 GB/s | exposed expert traffic | NVLink busy | NIC busy |",
             "|---:|---:|---:|---:|---:|---:|"]
    lines += [f"| {speed} GB/s | {found.step_time:.2f} s | {found.step_time / last - 1:+.1%} "
              f"| {found.breakdown['expert_exposed']:.2f} s | {found.utilisation['nvlink']:.0%} "
              f"| {found.utilisation['nic']:.0%} |" for speed, found in rows]
    said = f"at {bend[0]} GB/s, from where on the step stays within 1% of the last" if bend else "none up to 900 GB/s"
    lines += ["", f"The knee: {said}.", "",
              "Dispatch and combine send a token once to a node over its NIC and there over NVLink to its experts' GPUs.",
              "At 100 GB/s NVLink is the slower of the two; from 300 GB/s on the NIC binds and the exposed traffic no",
              "longer changes: what little is left to gain is where gradients cross NVLink. Nothing here was fitted to",
              "a step; DeepEP's kernels were calibrated at 400 GB/s and their efficiency is taken to hold elsewhere.", "",
              "![step over NVLink](nvlink.png)", "",
              "Reproduce: `simulate sweep nvlink --plot nvlink.png`, which adds EP16, EP32 and EP128; one point:",
              "`simulate run h800-2048 --set 'topology.node.nvlink=100 GB/s bidirectional'`.", ""]
    return "\n".join(lines)


def at_nvlink(speed: int) -> Report:
    """Return V3 with NVLink at another speed [GB/s bidirectional]."""
    return report("h800-2048", sets={"topology.node.nvlink": f"{speed} GB/s bidirectional"})


def draw_nvlink(path: Path) -> None:
    """Draw the step over NVLink's bandwidth."""
    columns = {"point": list(NVLINK), "axis.topology.node.nvlink": [f"{speed} GB/s" for speed in NVLINK],
               "step_time_s": [at_nvlink(speed).step_time for speed in NVLINK]}
    plot.sweep(columns, [SweepFigure(kind="knee", x="topology.node.nvlink")],
               "DeepSeek-V3 on 2,048 H800, EP64; NVLink bidirectional", path)


def slow_nic() -> str:
    """Return what slow NICs cost V3, all of them and a single one."""
    base = at_nic(50.0).step_time
    lines = ["# What does a slow NIC cost DeepSeek-V3?", "",
             "2,048 H800, one NIC for each GPU, PP16, EP64. The last columns drop the limit of 4 nodes per token.", "",
             "| every NIC, per direction | step | against 50 GB/s | exposed expert traffic | NIC busy "
             "| no node limit | the limit saves |", "|---:|---:|---:|---:|---:|---:|---:|"]
    for speed in NICS:
        found, free = at_nic(speed), at_nic(speed, 8)
        lines.append(f"| {speed:g} GB/s | {found.step_time:.2f} s | {found.step_time / base - 1:+.1%} "
                     f"| {found.breakdown['expert_exposed']:.2f} s | {found.utilisation['nic']:.0%} "
                     f"| {free.step_time:.2f} s | {1 - found.step_time / free.step_time:.1%} |")
    one, every = one_slow_nic().step_time, at_nic(25.0).step_time
    lines += ["", "| NICs at 25 GB/s | step | against none |", "|---|---:|---:|",
              f"| the NIC of one GPU of 2,048 | {one:.2f} s | {one / base - 1:+.1%} |",
              f"| every NIC | {every:.2f} s | {every / base - 1:+.1%} |", "",
              f"One NIC in 2,048 costs {(one - base) / (every - base):.0%} of what slowing all of them costs: its group of "
              "experts waits for",
              "it at every exchange, and its pipeline and the gradients of all wait for that group. Down to 25 GB/s the",
              "overlapped pairs hide most of the traffic; at 12.5 GB/s a pair's exchanges take longer than its compute,",
              "and all that is beyond shows.",
              "", "![step over NIC](slow-nic.png)", "",
              "Reproduce: `simulate compare h800-2048 --set 'topology.node.nic=[50 GB/s per direction, 25 GB/s per",
              "direction]'`, `simulate sweep nic`, and `simulate run h800-2048 --set 'topology.faults=[{nic: [0, 0],",
              "bandwidth: 25 GB/s per direction}]'`.", ""]
    return "\n".join(lines)


def at_nic(speed: float, groups: int = 4) -> Report:
    """Return V3 with all NICs at another speed [GB/s per direction] and tokens limited to some groups of experts."""
    limit = {} if groups == 4 else {"model.topk_group": groups}
    return report("h800-2048", sets={"topology.node.nic": f"{speed:g} GB/s per direction", **limit})


def one_slow_nic() -> Report:
    """Return V3 with one GPU's NIC at half its speed."""
    return report("h800-2048", sets={"topology.faults": [{"nic": [0, 0], "bandwidth": "25 GB/s per direction"}]})


def draw_slow_nic(path: Path) -> None:
    """Draw the step over the NICs' bandwidth, with and without the limit of nodes per token."""
    points = [(groups, speed) for groups in (4, 8) for speed in NICS]
    columns = {"point": list(range(len(points))),
               "axis.topology.node.nic": [f"{speed:g} GB/s" for _, speed in points],
               "axis.model.topk_group": [{4: "4, as V3", 8: "all 8"}[groups] for groups, _ in points],
               "step_time_s": [at_nic(speed, groups).step_time for groups, speed in points]}
    plot.sweep(columns, [SweepFigure(kind="knee", x="topology.node.nic", by="model.topk_group")],
               "DeepSeek-V3 on 2,048 H800, EP64; NIC per direction", path)


def bars(rows: Sequence[tuple[str, float]], value: str, axis: str, caption: str, path: Path) -> None:
    """Draw a bar for each row. value: column as plot.sweeps knows it, in SI units. axis: what the names are."""
    columns = {"point": list(range(len(rows))), f"axis.{axis}": [name for name, _ in rows],
               value: [figure for _, figure in rows]}
    plot.sweep(columns, [SweepFigure(kind="bars", x=axis, value=value)], caption, path)


TABLES: dict[str, Callable[[], str]] = {"nvlink.md": nvlink, "slow-nic.md": slow_nic}
"""file -> what it should hold"""
FIGURES: dict[str, Callable[[Path], None]] = {"nvlink.md": draw_nvlink, "slow-nic.md": draw_slow_nic}
"""file -> what draws the figure of the same name"""
