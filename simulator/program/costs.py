"""What each block and each stage of a scenario costs: seconds by phase, FLOPs, bytes kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import zip_longest

from simulator.compute import Processor
from simulator.layout import balance, cut, even, parse_stages
from simulator.model import BlockKind
from simulator.ops import BlockOps, Op, Work, block_ops
from simulator.precision import BYTES
from simulator.program.loads import Load, Loads, loads
from simulator.scenario import Scenario

PHASES = ("attention_f", "mlp_f", "mlp_b", "mlp_w", "side_w", "attention_b", "attention_w")
CLASSES = {"gemm": "gemm", "wgrad": "gemm", "attention": "attention", "attention_backward": "attention"}
"""op kind -> class of the breakdown; every other kind is memory-bound."""

Stages = tuple[tuple[BlockKind, ...], ...]


@dataclass(frozen=True, slots=True)
class PhaseCost:
    """One phase of one block. seconds: by class of op [s]. flops: executed, by dtype. recomputed: of those, again."""

    seconds: dict[str, float]
    flops: dict[str, float]
    recomputed: float

    @property
    def total(self) -> float:
        """Return the time of the whole phase [s]."""
        return sum(self.seconds.values())


@dataclass(frozen=True, slots=True)
class BlockCost:
    """One block: (phase, beside communication?) -> cost.

    load: which of the scenario's expert loads its exchanges carry, -1 if nothing travels. saved: bytes kept until the
    backward pass [B]. mean: what the same block costs a GPU of mean load, if this is the cost of the busiest one.
    """

    load: int
    phases: dict[tuple[str, bool], PhaseCost]
    saved: float
    mean: BlockCost | None = None

    @property
    def exchanges_experts(self) -> bool:
        """Tell whether tokens travel to the block's experts and back."""
        return self.load >= 0


@dataclass(frozen=True)
class Costs:
    """Costs of a scenario's blocks on its GPU.

    work: of a layer whose experts are equally popular. loads: of the MoE layers, None without experts. stages: kinds of
    the blocks on each stage. blocks: kind -> parts, with even loads. loaded: (kind, load) -> parts of a MoE block.
    """

    processor: Processor
    work: Work
    loads: Loads | None
    stages: Stages
    blocks: dict[BlockKind, tuple[BlockCost, ...]] = field(repr=False)
    loaded: dict[tuple[BlockKind, int], tuple[BlockCost, ...]] = field(repr=False)

    def stage(self, index: int) -> list[BlockCost]:
        """Return the blocks of a stage in forward order, an MTP module as its parts."""
        layer = sum(kind in ("moe", "mtp") for stage in self.stages[:index] for kind in stage)
        parts: list[BlockCost] = []
        for kind in self.stages[index]:
            if self.loads and kind in ("moe", "mtp"):
                parts += self.loaded[kind, self.loads.layers[layer % len(self.loads.layers)]]
                layer += 1
            else:
                parts += self.blocks[kind]
        return parts

    def saved(self, index: int) -> float:
        """Return the bytes that one micro-batch keeps on a stage [B]."""
        return sum(block.saved for block in self.stage(index))

    def parameters(self, index: int) -> tuple[int, float]:
        """Return (dense, routed) parameters that one GPU holds of a stage; routed ones are spread over ep."""
        model, kinds = self.work.model, self.stages[index]
        held = [model.block_parameters(kind) for kind in kinds]
        share = self.work.local_experts / max(1, model.n_routed_experts)
        # A tied head on another stage than the embedding holds a copy of it.
        copied = model.embedding_parameters if model.tie_word_embeddings and "head" in kinds else 0
        copied = 0 if "embedding" in kinds else copied
        return sum(dense for dense, _ in held) + copied, sum(routed for _, routed in held) * share

    def token_bytes(self, kind: str) -> float:
        """Return the bytes of all tokens of one GPU, each once, as a kind of exchange carries them [B]."""
        each = 2.0 if kind == "combine" else BYTES[self.work.recipe.dispatch]
        return self.work.tokens * self.work.model.hidden_size * each

    def activation_bytes(self) -> float:
        """Return the bytes of the residual stream of one micro-batch, BF16 [B]."""
        return self.work.tokens * self.work.model.hidden_size * 2.0


def costs(scenario: Scenario) -> Costs:
    """Return the costs of a scenario's blocks and its map from blocks to stages."""
    return costs_of(scenario, loads(scenario))


def work(scenario: Scenario, load: Load | None) -> Work:
    """Return what one micro-batch asks of a layer with a load on one GPU."""
    model, layout = scenario.model, scenario.layout
    tokens = scenario.tokens_per_micro_batch
    return Work(
        model=model,
        recipe=scenario.recipe,
        tokens=tokens,
        seq_length=scenario.workload.training.seq_length,
        expert_rows=tokens * load.rows if load else 0.0,
        received=tokens * load.received if load else 0.0,
        local_experts=(model.n_routed_experts + scenario.workload.experts.redundant_experts) // layout.ep,
        recompute=frozenset(scenario.workload.training.recompute),
    )


def costs_of(scenario: Scenario, asked: Loads | None) -> Costs:
    """Return the costs of blocks whose experts carry other loads than the scenario says."""
    reserved = scenario.workload.experts.sms if scenario.model.n_routed_experts and scenario.layout.ep > 1 else 0
    processor = Processor(scenario.gpu, scenario.kernels, reserved)
    kinds = dict.fromkeys(scenario.model.blocks)
    travels = 0 if scenario.layout.ep > 1 else -1

    def price(kind: BlockKind, load: Load | None, number: int) -> tuple[BlockCost, ...]:
        known = blocks.get(kind, ())  # a load changes nothing but the experts' own phases
        parts = zip_longest(block_ops(kind, work(scenario, load)), known)
        return tuple(_block(ops, processor, number, like) for ops, like in parts)

    even = asked.even if asked else None
    blocks: dict[BlockKind, tuple[BlockCost, ...]] = {}
    for kind in kinds:
        blocks[kind] = price(kind, even, travels)
    loaded: dict[tuple[BlockKind, int], tuple[BlockCost, ...]] = {
        (kind, number): price(kind, load, number if travels == 0 else -1)
        for number, load in enumerate(asked.distinct if asked else ())
        for kind in kinds
        if kind in ("moe", "mtp")
    }
    return Costs(processor, work(scenario, even), asked, _stages(scenario, blocks), blocks, loaded)


def _block(ops: BlockOps, processor: Processor, load: int, like: BlockCost | None) -> BlockCost:
    """Return what a block costs.

    load: see `BlockCost`; it counts where the block has experts. like: the same block with another load, if known.
    """
    phases = {
        (phase, beside): like.phases[phase, beside]
        if like and phase.startswith("attention")
        else _phase(getattr(ops, phase), processor, beside=beside)
        for phase in PHASES
        for beside in (False, True)
    }
    return BlockCost(load if ops.exchanges_experts else -1, phases, sum(op.saved for op in ops.forward), like)


def _phase(ops: Iterable[Op], processor: Processor, *, beside: bool) -> PhaseCost:
    seconds: defaultdict[str, float] = defaultdict(float)
    flops: defaultdict[str, float] = defaultdict(float)
    recomputed = 0.0
    for op in ops:
        if op.flops or op.bytes:
            seconds[CLASSES.get(op.kind, "memory_bound")] += processor.kernel(op, beside=beside)
            seconds["kernel_gaps"] += processor.kernels.gap
        flops[op.dtype] += op.flops
        recomputed += op.flops if op.recompute else 0.0
    return PhaseCost(dict(seconds), dict(flops), recomputed)


def block_seconds(parts: Iterable[BlockCost]) -> float:
    """Return forward plus full backward of one micro-batch, communication apart [s]."""
    return sum(part.phases[phase, False].total for part in parts for phase in PHASES)


def _stages(scenario: Scenario, blocks: dict[BlockKind, tuple[BlockCost, ...]]) -> Stages:
    rule, pp, model = scenario.workload.layout.stages, scenario.schedule.stages, scenario.model
    if not isinstance(rule, str):
        return parse_stages(rule, pp, model)
    if rule == "even":
        return cut(model.blocks, even(model, pp))
    return cut(model.blocks, balance([block_seconds(blocks[kind]) for kind in model.blocks], pp))
