"""What the intervals of results are made from: the errors of published runs, and of kernels by class."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean

import numpy as np
import published
from cells import row

from simulator.residuals import residuals
from simulator.trust import published_runs
from simulator.trust.conformal import coverage, judged
from simulator.trust.resolution import limits
from simulator.validate import Check
from simulator.validate.case import StepCase, files
from simulator.validate.check import RATES

PUBLICATIONS = {
    "more_steps/megascale-megatron": "megascale",
    "megascale_baseline": "megascale",
    "more_steps/zerobubble": "zero_bubble",
    "more_steps/dgxc": "dgxc",
    "dgxc_h100": "dgxc",
    "more_steps/mbridge": "megatron_bridge",
    "megatron_bridge_h100": "megatron_bridge",
    "more_steps/automodel": "automodel",
    "more_steps/pfold": "moe_parallel_folding",
    "more_steps/megascalemoe": "megascale_moe",
    "more_steps/simumax": "simumax",
    "user_measurements/qwen3-235b": "moe_model_zoo",
    "user_measurements/qwen3-30b": "megatron_bridge_recipes",
    "user_measurements/moonlight": "megatron_bridge_recipes",
    "user_measurements/mpt": "llm_foundry",
    "user_measurements/llama31": "torchtitan",
}
"""How the name of a case begins -> who measured it; of others it is their file."""
CLASSES = {
    "GEMM": "gemm",
    "grid of GEMMs": "gemm",
    "grouped GEMM": "gemm",
    "attention": "attention",
    "memory-bound": "memory_bound",
    "link": "links",
}
"""Group of residuals -> part of a step."""
HEADS = (
    *("case", "publication", "twins", "gpu", "model", "precision", "stack", "gpus"),
    *("topology", "workload", "cost", "ratio"),
    *("hosts_low", "hosts_high", "assumed_low", "assumed_high"),
)


def page() -> str:
    """Return how many published runs lie in their intervals, by kind, and what can be told apart."""
    found = judged(published_runs())
    lines = [
        "# How far to trust a result",
        "",
        "Every published run with the interval that the others give it, its own publication left out. An interval is",
        "meant to hold 80% of the runs; near-twins count once. Nothing is simulated here: the errors are those of",
        "[published.md](published.md).",
        "",
        f"**{coverage(found):.0%} of {len(found)} runs lie inside.**",
        "",
        "| kind | runs | inside | mean interval on the step |",
        "|---|---:|---:|---:|",
    ]
    for kind in sorted({one.run.kind for one in found}):
        own = [one for one in found if one.run.kind == kind]
        low, high = (
            math.exp(fmean(math.log(end) for end in ends)) - 1.0
            for ends in ([one.low for one in own], [one.high for one in own])
        )
        lines.append(
            row(str(kind), str(len(own)), f"{coverage(own):.0%}", f"{low:+.0%} to {high:+.0%}")
        )
    lines += [
        "",
        "## Differences",
        "",
        "Of two runs that one publication measured, the errors differ by less than this in 80% of the pairs: a smaller",
        "simulated difference cannot be told apart.",
        "",
        "| two runs | pairs | told apart from |",
        "|---|---:|---:|",
    ]
    for close, limit in limits(published_runs()).items():
        lines.append(row(close.value, str(limit.pairs), f"{math.expm1(limit.size):.1%}"))
    return "\n".join([*lines, "", "Reproduce: `python results/make.py trust.md`.", ""])


def table() -> str:
    """Return the errors of every published run that counts, as the package holds them. Takes minutes."""
    cases = {case.case: case for file in files().values() for case in file.cases}
    return cases_table(
        (check, cases[check.case]) for check in published.checks() if check.case in cases
    )


def cases_table(pairs: Iterable[tuple[Check, StepCase]]) -> str:
    """Return published runs as a table: what each is, and simulated over published time."""
    lines = [
        "# Every published step and run that counts: simulated over published time, and the factors by which the",
        "# simulated step moves over the measured paces of hosts and over the alternatives to what was not published.",
        "# cost: time of one GPU that a token takes as published, in seconds.",
        "# source: simulator/data/cases, one publication each. Written by python results/make.py.",
        ",".join(HEADS),
    ]
    lines += [_line(check, case) for check, case in pairs if check.kind and check.scored]
    return "\n".join([*lines, ""])


def _line(check: Check, case: StepCase) -> str:
    assert check.kind is not None
    cells = [
        check.case,
        publication(check.case),
        check.group,
        *check.kind,
        str(check.gpus),
        case.topology,
        case.workload,
        f"{check.published_cost:.5g}",
        f"{1.0 + check.slower:.5f}",
        *_factors(check, check.hosts),
        *_factors(check, check.span),
    ]
    return ",".join(cells)


def _factors(check: Check, values: tuple[float, ...]) -> tuple[str, str]:
    """Return the least and the largest step over some figures, as factors of the simulated one."""
    # A rate goes the other way than the time that it stands for.
    power = -1.0 if check.quantity in RATES else 1.0
    steps = [1.0, *((value / check.simulated) ** power for value in values)]
    return f"{min(steps):.4f}", f"{max(steps):.4f}"


def publication(case: str) -> str:
    """Return who measured a case."""
    for begin, name in PUBLICATIONS.items():
        if case.startswith(begin):
            return name
    return case.partition("/")[0]


def kernels() -> str:
    """Return how far the kernel tables are off, by class of op and GPU."""
    rows: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for one in residuals():
        rows[CLASSES[one.group], one.gpu].extend(one.errors.tolist())
    lines = [
        "# How far the kernel tables are off, root of the mean square over all measured rows of a class.",
        "# source: simulator/residuals, figures of simulator/data/measured. Written by python results/make.py.",
        "class,gpu,rows,rms",
    ]
    for (name, gpu), errors in sorted(rows.items()):
        rms = float(np.sqrt(np.mean(np.square(errors))))
        lines.append(f"{name},{gpu},{len(errors)},{rms:.3f}")
    return "\n".join([*lines, ""])
