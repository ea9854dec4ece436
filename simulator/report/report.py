"""The report of one simulated step, and of the run that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.bounds import Bound
from simulator.memory import RankMemory
from simulator.report.overlap import Overlap
from simulator.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Comparison:
    """A published figure next to the simulated one."""

    quantity: str
    """Name of the quantity, see `Report.quantities`."""
    published: float
    """What the source says, in the quantity's unit."""
    simulated: float
    """What the simulation says, in the quantity's unit."""
    source: str
    """Where it was published."""

    @property
    def error(self) -> float:
        """Return the signed relative error: simulated over published, minus one."""
        return self.simulated / self.published - 1.0


@dataclass(frozen=True)
class Report:
    """Frozen numbers of one simulated step; names as in `--json`."""

    scenario: Scenario
    """What was simulated."""
    step_time: float
    """From the first start to the last end [s]."""
    model_flops: float
    """FLOPs of the model itself in a step: causal, output head included, no recompute."""
    executed_flops: float
    """FLOPs that all GPUs execute in a step, recompute and MTP included."""
    peak_flops: float
    """Dense peak of one GPU that MFU is relative to [FLOP/s]."""
    peak_name: str
    """Which peak that is."""
    breakdown: dict[str, float]
    """Part of the step -> exposed time, mean over ranks; sums to the step [s]. See `report.parts`."""
    phases: dict[str, float]
    """Kind of chunk -> time on the compute side, mean over ranks; sums to the step [s]."""
    traffic: dict[str, tuple[float, float]]
    """Kind of traffic -> bytes that a GPU sends per step over its NIC and over NVLink, mean [B]."""
    utilisation: dict[str, float]
    """Kind of link -> busy share of its busiest link, kernel efficiency included."""
    memory: tuple[RankMemory, ...]
    """Peak memory of each pipeline index."""
    bounds: tuple[Bound, ...]
    """Closed-form lower bounds on the step."""
    stages: tuple[str, ...]
    """Blocks of each stage, as `layout.stages` writes them [stage]."""
    overlap: tuple[Overlap, ...]
    """How much communication runs while its rank computes, by class of ranks."""
    measured_share: float
    """Of the time of all GEMMs, that of shapes between measured ones on this GPU."""
    executor: str
    """Which executor was asked to run the step; their results are the same to the last bit."""
    ops: int
    """Rows of the program."""
    events: int
    """Events that the executor handled."""
    rank_classes: int
    """Classes of ranks that were simulated."""

    @property
    def tokens_per_second(self) -> float:
        """Return the cluster's tokens per second."""
        return self.scenario.tokens_per_step / self.step_time

    @property
    def flops_per_gpu(self) -> float:
        """Return the model's own FLOP/s per GPU."""
        gpus = self.scenario.topology.gpus
        return self.model_flops / self.step_time / gpus

    @property
    def mfu(self) -> float:
        """Return the model's own FLOP/s over the named peak."""
        return self.flops_per_gpu / self.peak_flops

    @property
    def hfu(self) -> float:
        """Return the executed FLOP/s, recompute and MTP included, over the named peak."""
        gpus = self.scenario.topology.gpus
        per_gpu = self.executed_flops / self.step_time / gpus
        return per_gpu / self.peak_flops

    @property
    def steps(self) -> float:
        """Return the steps of the run at this batch size."""
        return self.scenario.workload.training.tokens / self.scenario.tokens_per_step

    @property
    def wall_days(self) -> float:
        """Return the duration of the run [days]."""
        return self.steps * self.step_time / 86400.0

    @property
    def gpu_hours(self) -> float:
        """Return the GPU-hours of the run: GPUs x wall hours."""
        wall_hours = self.steps * self.step_time / 3600.0
        return wall_hours * self.scenario.topology.gpus

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
            "wall_days": self.wall_days,
            "cost_usd": self.cost,
            "parameters": float(model.parameters),
            "active_parameters": float(model.active_parameters),
            "flops_per_token": model.flops_per_token(training.seq_length),
        }

    def references(self) -> tuple[Comparison, ...]:
        """Return the published figures next to the simulated ones."""
        simulated = self.quantities()
        comparisons = []
        for row in self.scenario.workload.reference:
            comparison = Comparison(
                quantity=row.quantity,
                published=row.value,
                simulated=simulated[row.quantity],
                source=row.source,
            )
            comparisons.append(comparison)
        return tuple(comparisons)
