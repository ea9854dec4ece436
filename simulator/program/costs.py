"""What each block and each stage of a scenario costs: seconds by phase, FLOPs, bytes kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TypeAlias

from simulator.compute import Processor
from simulator.layout import balance, cut, even, parse_stages
from simulator.model import BlockKind
from simulator.ops import BlockOps, Op, Transfer, Work, block_ops, saved
from simulator.precision import BYTES
from simulator.program.loads import Load, Loads, loads
from simulator.scenario import Scenario

PHASES = (
    "attention_f",
    "mlp_f",
    "mlp_b",
    "mlp_w",
    "side_w",
    "attention_b",
    "attention_t",
    "attention_w",
)
CLASSES = {
    "gemm": "gemm",
    "wgrad": "gemm",
    "attention": "attention",
    "attention_backward": "attention",
}
"""op kind -> class of the breakdown; every other kind is memory-bound."""

READ_BY_WEIGHTS = frozenset({"norm", "swiglu"})
"""What may be recomputed and is the input of a linear layer; what attention computes again only it reads."""

Stages = tuple[tuple[BlockKind, ...], ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """Kernels that run one after another. seconds: by class of op [s]. flops: executed, by dtype.

    recomputed: of those FLOPs, what the forward pass ran before.
    """

    seconds: dict[str, float]
    flops: dict[str, float]
    recomputed: float

    @property
    def total(self) -> float:
        """Return the time of the segment [s]."""
        return sum(self.seconds.values())


@dataclass(frozen=True, slots=True)
class Hop:
    """A transfer inside a phase. beside: how many of the segments that follow do not wait for it, or ops.LATE."""

    transfer: Transfer
    beside: int


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of one block: segments of kernels, and the transfers between them."""

    items: tuple[Segment | Hop, ...]

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Return the kernels."""
        return tuple(item for item in self.items if isinstance(item, Segment))

    @property
    def total(self) -> float:
        """Return the time of the phase's kernels [s]."""
        return sum(segment.total for segment in self.segments)

    @property
    def seconds(self) -> dict[str, float]:
        """Return the time of the phase's kernels by class of op [s]."""
        sums: defaultdict[str, float] = defaultdict(float)
        for segment in self.segments:
            for name, seconds in segment.seconds.items():
                sums[name] += seconds
        return dict(sums)


Phases: TypeAlias = dict[tuple[str, bool], Phase]


@dataclass(frozen=True, slots=True)
class BlockCost:
    """One block: (phase, beside communication?) -> cost.

    load: which of the scenario's expert loads its exchanges carry, -1 if nothing travels. saved:
    bytes kept until the backward pass [B]. again: its backward pass runs the whole forward pass
    first (full recompute). transient: bytes that are there again while the backward pass computes
    them again [B]. reread: of those, what the weight gradients read, so that a backward pass that
    is split holds it until then [B]. mean: what the same block costs a GPU of mean load, if this is
    the cost of the busiest one.
    """

    load: int
    phases: Phases
    saved: float
    again: bool = False
    transient: float = 0.0
    reread: float = 0.0
    mean: BlockCost | None = None

    @property
    def exchanges_experts(self) -> bool:
        """Tell whether tokens travel to the block's experts and back."""
        return self.load >= 0


@dataclass(frozen=True)
class Costs:
    """Costs of a scenario's blocks on its GPU.

    work: of a layer whose experts are equally popular. loads: of the MoE layers, None without
    experts. stages: kinds of the blocks on each stage. blocks: kind -> parts, with even loads.
    loaded: (kind, load, member) -> parts of a MoE block; member: of the expert group where every
    GPU has its own load, else -1.
    """

    processor: Processor
    work: Work
    loads: Loads | None
    stages: Stages
    blocks: dict[BlockKind, tuple[BlockCost, ...]] = field(repr=False)
    loaded: dict[tuple[BlockKind, int, int], tuple[BlockCost, ...]] = field(repr=False)

    @property
    def apart(self) -> bool:
        """Tell whether the GPUs of an expert group have loads of their own."""
        return any(member >= 0 for _, _, member in self.loaded)

    @property
    def members(self) -> tuple[int, ...]:
        """Return the members of an expert group that have costs of their own; -1 alone where all share theirs."""
        return tuple(sorted({member for _, _, member in self.loaded})) or (-1,)

    def stage(self, index: int, member: int = -1) -> list[BlockCost]:
        """Return the blocks of a stage in forward order, an MTP module as its parts. member: of the expert group."""
        return [part for _, part in self.parts(index, member)]

    def parts(self, index: int, member: int = -1) -> list[tuple[int, BlockCost]]:
        """Return the blocks of a stage as `stage`, each with the number of the model's block that it is part of."""
        member = max(member, 0) if self.apart else -1
        layer = sum(kind in ("moe", "mtp") for stage in self.stages[:index] for kind in stage)
        parts: list[tuple[int, BlockCost]] = []
        for number, kind in enumerate(self.stages[index]):
            found = self.blocks[kind]
            if self.loads and kind in ("moe", "mtp"):
                found = self.loaded[kind, self.loads.layers[layer % len(self.loads.layers)], member]
                layer += 1
            parts += [(number, part) for part in found]
        return parts

    def saved(self, index: int) -> float:
        """Return the bytes that one micro-batch keeps on a stage [B]."""
        return sum(block.saved for block in self.stage(index))

    def held(self, kinds: Iterable[BlockKind]) -> tuple[float, float]:
        """Return (dense, routed) parameters that one GPU holds of some blocks, before any sharding by ZeRO.

        Norms, routers and MLA's compressions, which every tensor parallel GPU holds whole, are
        counted as cut.
        """
        model, kinds = self.work.model, tuple(kinds)
        held = [model.block_parameters(kind) for kind in kinds]
        share = self.work.local_experts / max(1, model.n_routed_experts) / self.work.etp
        # A tied head on another stage than the embedding holds a copy of it.
        copied = model.embedding_parameters if model.tie_word_embeddings and "head" in kinds else 0
        copied = 0 if "embedding" in kinds else copied
        dense = sum(dense for dense, _ in held) + copied
        return dense / self.work.tp, sum(routed for _, routed in held) * share

    def parameters(self, index: int) -> tuple[float, float]:
        """Return (dense, routed) parameters that one GPU holds of a stage; routed ones are spread over ep."""
        return self.held(self.stages[index])

    def token_bytes(self, kind: str) -> float:
        """Return the bytes of all tokens of one GPU, each once, as a kind of exchange carries them [B]."""
        each = 2.0 if kind == "combine" else BYTES[self.work.recipe.dispatch]
        return self.work.own * self.work.model.hidden_size * each

    def activation_bytes(self) -> float:
        """Return the bytes of the residual stream of one micro-batch on one GPU, BF16 [B].

        Without sequence parallelism too a GPU sends 1/tp of it over its NIC; the rest follows over
        NVLink, which is not counted (scatter/gather optimisation, arXiv 2104.04473, section 4.1).
        """
        return self.work.tokens / self.work.tp * self.work.model.hidden_size * 2.0


def costs(scenario: Scenario, *, pairs: bool | None = None) -> Costs:
    """Return the costs of a scenario's blocks and its map from blocks to stages. pairs: see `costs_of`."""
    return costs_of(scenario, loads(scenario), pairs=pairs)


def work(scenario: Scenario, load: Load | None, member: int = -1) -> Work:
    """Return what one micro-batch asks of a layer with a load on one GPU. member: of its expert group, -1: any."""
    model, layout, config = scenario.model, scenario.layout, scenario.workload.layout
    training, seen = scenario.workload.training, scenario.tokens_per_micro_batch // layout.cp
    tokens = seen / layout.tp if config.sequence_parallel else float(seen)
    rows, received = load.of(member) if load else (0.0, 0.0)
    return Work(
        model=model,
        recipe=scenario.recipe,
        tokens=seen,
        seq_length=training.seq_length,
        expert_rows=tokens * rows * layout.etp,
        received=tokens * received,
        local_experts=(model.n_routed_experts + scenario.workload.experts.redundant_experts)
        // layout.ep,
        recompute=frozenset(["full"] if "full" in training.recompute else training.recompute),
        tp=layout.tp,
        cp=layout.cp,
        etp=layout.etp,
        sequence_parallel=config.sequence_parallel,
        tp_overlap=config.tp_comm_overlap,
        cp_gather=config.cp_comm == "all_gather",
        unfused=training.attention == "unfused",
    )


def costs_of(scenario: Scenario, asked: Loads | None, *, pairs: bool | None = None) -> Costs:
    """Return the costs of blocks whose experts carry other loads than the scenario says.

    pairs: forward and backward passes overlap, so that GEMMs leave SMs to the exchanges; None: as
    the schedule has it.
    """
    paired = scenario.schedule.overlaps if pairs is None else pairs
    reserved = scenario.workload.experts.sms if paired and scenario.layout.ep > 1 else 0
    chosen = scenario.workload.training.attention
    processor = Processor(
        scenario.gpu, scenario.kernels, reserved, "" if chosen in ("flash", "unfused") else chosen
    )
    kinds = dict.fromkeys(scenario.model.blocks)
    travels = 0 if scenario.layout.ep > 1 else -1

    def price(
        kind: BlockKind, load: Load | None, number: int, member: int = -1
    ) -> tuple[BlockCost, ...]:
        known = blocks.get(kind, ())  # a load changes nothing but the experts' own phases
        asks = work(scenario, load, member)
        again = _again(kind, asks)
        # What the same parts keep if nothing is computed again, and if nothing that weight
        # gradients read is.
        fewer = (frozenset[str](), asks.recompute - READ_BY_WEIGHTS)
        kept = zip(
            *(
                [saved(ops.forward) for ops in block_ops(kind, replace(asks, recompute=names))]
                for names in fewer
            ),
            strict=True,
        )
        return tuple(
            _block(ops, processor, (number, *sizes), like, again=again)
            for ops, sizes, like in zip_longest(block_ops(kind, asks), kept, known)
        )

    even = asked.even if asked else None
    blocks: dict[BlockKind, tuple[BlockCost, ...]] = {}
    for kind in kinds:
        blocks[kind] = price(kind, even, travels)
    loaded: dict[tuple[BlockKind, int, int], tuple[BlockCost, ...]] = {
        (kind, number, member): price(kind, load, number if travels == 0 else -1, member)
        for number, load in enumerate(asked.distinct if asked else ())
        for kind in kinds
        if kind in ("moe", "mtp")
        for member in (range(len(load.each)) if load.each else (-1,))
    }
    return Costs(processor, work(scenario, even), asked, _stages(scenario, blocks), blocks, loaded)


def _again(kind: BlockKind, asks: Work) -> float | None:
    """Return what full recompute keeps of a layer, its input [B]; None for other blocks, and without it."""
    if "full" not in asks.recompute or kind in ("embedding", "head"):
        return None
    return 2.0 * asks.own * asks.model.hidden_size


def _block(
    ops: BlockOps,
    processor: Processor,
    known: tuple[int, float, float],
    like: BlockCost | None,
    *,
    again: float | None,
) -> BlockCost:
    """Return what a block costs.

    known: its load, see `BlockCost`, which counts where the block has experts; bytes that it keeps
    if nothing is recomputed, and if nothing that weight gradients read is. like: the same block
    with another load, if known. again: bytes that full recompute keeps of it, None without.
    """
    load, whole, unread = known
    phases = {
        (phase, beside): like.phases[phase, beside]
        if like and phase.startswith("attention")
        else _phase(getattr(ops, phase), processor, beside=beside)
        for phase in PHASES
        for beside in (False, True)
    }
    kept = saved(ops.forward) if again is None else again
    transient = max(0.0, whole - kept)
    # Of a whole layer that is run again nearly everything is some linear layer's input: an upper
    # end.
    reread = max(0.0, unread - kept) if again is None else transient
    return BlockCost(
        load if ops.exchanges_experts else -1,
        phases,
        kept,
        again is not None,
        transient,
        reread,
        like,
    )


def _phase(ops: Iterable[Op | Transfer], processor: Processor, *, beside: bool) -> Phase:
    """Return ops as segments; a segment ends where a transfer begins, or where ops wait for one that ran beside."""
    items: list[Segment | Hop] = []
    run: list[Op] = []
    due: list[int] = []  # ops until somebody waits

    def close() -> None:
        if run:
            items.append(_segment(run, processor, beside=beside))
            run.clear()

    for op in ops:
        if isinstance(op, Transfer):
            close()
            items.append(Hop(op, min(op.beside, 1)))  # what runs beside is one segment
            due += [op.beside] if op.beside > 0 else []
            continue
        if 0 in due:
            close()
            due = [left for left in due if left]
        run.append(op)
        due = [left - 1 for left in due]
    close()
    return Phase(tuple(items))


def _segment(ops: Iterable[Op], processor: Processor, *, beside: bool) -> Segment:
    seconds: defaultdict[str, float] = defaultdict(float)
    flops: defaultdict[str, float] = defaultdict(float)
    recomputed = 0.0
    for op in ops:
        if op.flops or op.bytes:
            seconds[CLASSES.get(op.kind, "memory_bound")] += processor.kernel(op, beside=beside)
            seconds["kernel_gaps"] += processor.kernels.gap
        flops[op.dtype] += op.flops
        recomputed += op.flops if op.recompute else 0.0
    return Segment(dict(seconds), dict(flops), recomputed)


def block_seconds(parts: Iterable[BlockCost]) -> float:
    """Return forward plus full backward of one micro-batch, full recompute included, communication apart [s]."""
    return sum(
        part.phases[phase, False].total * (2 if part.again and phase.endswith("_f") else 1)
        for part in parts
        for phase in PHASES
    )


def _stages(scenario: Scenario, blocks: dict[BlockKind, tuple[BlockCost, ...]]) -> Stages:
    rule, model = scenario.workload.layout.stages, scenario.model
    count = scenario.schedule.stages
    if not isinstance(rule, str):
        return parse_stages(rule, count, model)
    if rule == "even":
        return cut(model.blocks, even(model, count))
    return cut(model.blocks, balance([block_seconds(blocks[kind]) for kind in model.blocks], count))
