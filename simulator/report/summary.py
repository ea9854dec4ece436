"""Timeline -> Report."""

from __future__ import annotations

import numpy as np

from simulator.bounds import bounds, link_seconds, model_flops, traffic
from simulator.costs import coverage
from simulator.layout import print_stages
from simulator.memory import memory
from simulator.program import Program
from simulator.progress import doing
from simulator.report.breakdown import breakdown
from simulator.report.overlap import overlap
from simulator.report.phases import phases
from simulator.report.report import Report
from simulator.report.rows import rank_rows
from simulator.timeline import Timeline

# DeepSeek names the BF16 peak for its FP8 run too (arXiv 2505.09343), so that runs of all formats
# compare.
PEAK = "bf16"


@doing("summarising")
def summarise(timeline: Timeline) -> Report:
    """Return the report of an executed step."""
    program = timeline.program
    scenario = program.scenario
    of_ranks = rank_rows(program)
    return Report(
        scenario=scenario,
        step_time=timeline.step_time,
        model_flops=model_flops(program),
        executed_flops=_executed(program),
        peak_flops=scenario.gpu.peak[PEAK],
        peak_name=f"{scenario.gpu.name} dense {PEAK.upper()}",
        breakdown=breakdown(timeline, of_ranks),
        phases=phases(timeline, of_ranks),
        traffic=traffic(program),
        utilisation=_utilisation(timeline),
        overlap=overlap(timeline),
        memory=memory(program),
        bounds=bounds(program),
        stages=print_stages(program.costs.stages),
        measured_share=coverage(program.costs).share,
        executor=timeline.executor,
        ops=len(program.rank),
        events=timeline.events,
        rank_classes=program.ranks,
    )


def _executed(program: Program) -> float:
    """Return the FLOPs that all GPUs execute in a step."""
    sums = [sum(flops.values()) for flops in program.flops]
    of_rank = np.array(sums)  # [rank class]
    return program.mean(of_rank) * program.scenario.topology.gpus


def _utilisation(timeline: Timeline) -> dict[str, float]:
    """Return the busy share of the busiest link of each kind, kernel efficiency included."""
    program = timeline.program
    # The busiest, not the mean: one full link holds up a step whose other links idle.
    shares: dict[str, float] = {}
    seconds = link_seconds(program).tolist()  # [link class]
    for kind, busy in zip(program.link_kinds, seconds, strict=True):
        share = busy / timeline.step_time
        shares[kind] = max(shares.get(kind, 0.0), share)
    return dict(sorted(shares.items()))
