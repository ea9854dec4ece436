"""Summaries: what a step and a run cost, why, beside bounds and published figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.bounds import Bound, bounds, link_seconds, model_flops, traffic
from simulator.layout import print_stages
from simulator.memory import CATEGORIES, RankMemory, memory
from simulator.program import Program
from simulator.report.attribution import breakdown, phases
from simulator.report.overlap import Overlap, mean_share, overlap
from simulator.report.parts import TRAFFIC_KINDS
from simulator.scenario import Scenario
from simulator.timeline import Timeline

SCHEMA_VERSION = 1
TRAFFIC = tuple(kind.name for kind in TRAFFIC_KINDS)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A published figure beside the simulated one. error: simulated over published, minus one."""

    quantity: str
    published: float
    simulated: float
    source: str

    @property
    def error(self) -> float:
        """Return the signed relative error."""
        return self.simulated / self.published - 1.0


@dataclass(frozen=True)
class Report:
    """Frozen numbers of one simulated step and the run that it belongs to. SI units; names as in `--json`."""

    scenario: Scenario
    step_time: float
    model_flops: float
    executed_flops: float
    peak_flops: float
    peak_name: str
    breakdown: dict[str, float]
    phases: dict[str, float]
    traffic: dict[str, tuple[float, float]]
    utilisation: dict[str, float]
    memory: tuple[RankMemory, ...]
    bounds: tuple[Bound, ...]
    stages: tuple[str, ...]
    executor: str
    ops: int
    events: int
    rank_classes: int
    overlap: tuple[Overlap, ...]

    @property
    def tokens_per_second(self) -> float:
        """Return the cluster's tokens per second."""
        return self.scenario.tokens_per_step / self.step_time

    @property
    def flops_per_gpu(self) -> float:
        """Return the model's own FLOP/s per GPU."""
        return self.model_flops / self.step_time / self.scenario.topology.gpus

    @property
    def mfu(self) -> float:
        """Return the model's own FLOP/s over the named peak."""
        return self.flops_per_gpu / self.peak_flops

    @property
    def hfu(self) -> float:
        """Return the executed FLOP/s, recompute and MTP included, over the named peak."""
        return self.executed_flops / self.step_time / self.scenario.topology.gpus / self.peak_flops

    @property
    def steps(self) -> float:
        """Return the steps of the run at this batch size."""
        return self.scenario.workload.training.tokens / self.scenario.tokens_per_step

    @property
    def gpu_hours(self) -> float:
        """Return the GPU-hours of the run: GPUs x wall hours."""
        return self.steps * self.step_time / 3600.0 * self.scenario.topology.gpus

    @property
    def cost(self) -> float:
        """Return the price of the run [USD]."""
        return self.gpu_hours * self.scenario.topology.price

    @property
    def worst_memory(self) -> RankMemory:
        """Return the pipeline index with the highest peak."""
        return max(self.memory, key=lambda rank: rank.peak)

    @property
    def fits(self) -> bool:
        """Tell whether every rank's peak fits its GPU."""
        return self.worst_memory.peak <= self.scenario.gpu.memory.capacity

    def quantities(self) -> dict[str, float]:
        """Return what published figures can be compared with, by the name that workloads use."""
        model, training = self.scenario.model, self.scenario.workload.training
        return {
            "step_time_s": self.step_time,
            "tokens_per_second": self.tokens_per_second,
            "tokens_per_second_per_gpu": self.tokens_per_second / self.scenario.topology.gpus,
            "tokens_per_day": self.tokens_per_second * 86400.0,
            "tflops_per_gpu": self.flops_per_gpu / 1e12,
            "gpu_hours": self.gpu_hours,
            "gpu_hours_per_trillion_tokens": self.gpu_hours / training.tokens * 1e12,
            "wall_days": self.steps * self.step_time / 86400.0,
            "cost_usd": self.cost,
            "parameters": float(model.parameters),
            "active_parameters": float(model.active_parameters),
            "flops_per_token": model.flops_per_token(training.seq_length),
        }

    def references(self) -> tuple[Comparison, ...]:
        """Return the published figures beside the simulated ones."""
        known = self.quantities()
        return tuple(
            Comparison(row.quantity, row.value, known[row.quantity], row.source)
            for row in self.scenario.workload.reference
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the report as `simulate run --json` writes it."""
        scenario, quantities = self.scenario, self.quantities()
        return {
            "schema_version": SCHEMA_VERSION,
            "topology": scenario.topology.name,
            "workload": scenario.workload.name,
            "gpus": scenario.topology.gpus,
            "model": {
                "name": scenario.model.name,
                "parameters": scenario.model.parameters,
                "active_parameters": scenario.model.active_parameters,
                "flops_per_token": quantities["flops_per_token"],
            },
            "step_time_s": self.step_time,
            "tokens_per_step": scenario.tokens_per_step,
            "tokens_per_second": self.tokens_per_second,
            "tokens_per_day": quantities["tokens_per_day"],
            "model_flops_per_step": self.model_flops,
            "tflops_per_gpu": quantities["tflops_per_gpu"],
            "mfu": self.mfu,
            "hfu": self.hfu,
            "mfu_peak_flops": self.peak_flops,
            "mfu_peak": self.peak_name,
            "bubble_fraction": self.breakdown["bubble"] / self.step_time,
            "breakdown_s": self.breakdown,
            "phases_s": self.phases,
            "traffic_bytes": {
                kind: dict(zip(("nic", "nvlink"), self.traffic.get(kind, (0.0, 0.0)), strict=True))
                for kind in TRAFFIC
            },
            "link_utilisation": self.utilisation,
            "overlap": self._overlap(),
            "stages": list(self.stages),
            "memory": self._memory(),
            "bounds": [
                {"name": b.name, "seconds": b.seconds, "formula": b.formula} for b in self.bounds
            ],
            "run": {
                "tokens": scenario.workload.training.tokens,
                "steps": self.steps,
                "wall_days": quantities["wall_days"],
                "gpu_hours": self.gpu_hours,
                "cost_usd": self.cost,
            },
            "reference_is_this_run": scenario.as_published,
            "reference": [
                {
                    "quantity": row.quantity,
                    "published": row.published,
                    "simulated": row.simulated,
                    "error_percent": 100.0 * row.error,
                    "source": row.source,
                }
                for row in self.references()
            ],
            "engine": {
                "executor": self.executor,
                "ops": self.ops,
                "events": self.events,
                "rank_classes": self.rank_classes,
            },
        }

    def _overlap(self) -> dict[str, Any]:
        return {
            "communication_beside_compute": mean_share(self.overlap),
            "by_rank": [
                {
                    "rank": one.rank,
                    "pipeline_index": one.pipeline_index,
                    "ranks": one.ranks,
                    "communication_s": one.communication,
                    "hidden_s": one.hidden,
                    "share": one.share,
                }
                for one in self.overlap
            ],
        }

    def _memory(self) -> dict[str, Any]:
        worst = self.worst_memory
        return {
            "peak_bytes": worst.peak,
            "capacity_bytes": self.scenario.gpu.memory.capacity,
            "fits": self.fits,
            "by_category": {name: worst.by_category[name] for name in CATEGORIES},
            "by_stage": [
                {
                    "pipeline_index": rank.pipeline_index,
                    "stages": list(rank.stages),
                    "peak_bytes": rank.peak,
                    **rank.by_category,
                }
                for rank in self.memory
            ],
        }


def summarise(timeline: Timeline) -> Report:
    """Return the report of an executed step."""
    program = timeline.program
    scenario = program.scenario
    # DeepSeek names the BF16 peak for its FP8 run too (arXiv 2505.09343), so that runs of all
    # formats compare.
    peak_name = "bf16"
    return Report(
        scenario=scenario,
        step_time=timeline.step_time,
        model_flops=model_flops(program),
        executed_flops=_executed(program),
        peak_flops=scenario.gpu.peak[peak_name],
        peak_name=f"{scenario.gpu.name} dense {peak_name.upper()}",
        breakdown=breakdown(timeline),
        phases=phases(timeline),
        traffic=traffic(program),
        utilisation=_utilisation(timeline),
        overlap=overlap(timeline),
        memory=memory(program),
        bounds=bounds(program),
        stages=print_stages(program.costs.stages),
        executor=timeline.executor,
        ops=len(program.rank),
        events=timeline.events,
        rank_classes=program.ranks,
    )


def _executed(program: Program) -> float:
    each = np.array([sum(flops.values()) for flops in program.flops])
    return program.mean(each) * program.scenario.topology.gpus


def _utilisation(timeline: Timeline) -> dict[str, float]:
    """Return the busy share of the busiest link of each kind, kernel efficiency included."""
    program = timeline.program
    shares: dict[str, float] = {}
    for kind, busy in zip(program.link_kinds, link_seconds(program).tolist(), strict=True):
        shares[kind] = max(shares.get(kind, 0.0), busy / timeline.step_time)
    return dict(sorted(shares.items()))
