"""Scenario -> costs: every layer is priced once, with every load that its experts may have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest

from simulator.compute import Processor
from simulator.costs.blocks import BlockCost, LoadedKey, PhaseKey, Stages
from simulator.costs.loads import loads
from simulator.costs.phases import phase_cost
from simulator.costs.table import WITH_EXPERTS, Costs
from simulator.experts import Load, Loads
from simulator.layout import balance, cut, even, parse_stages
from simulator.model import BlockKind
from simulator.ops import BlockOps, Pass, Phase, Work, block_ops, forward_ops, saved
from simulator.scenario import Scenario

READ_BY_WEIGHTS = frozenset({"norm", "swiglu"})
"""Names of `training.recompute` whose output a linear layer's weight gradient reads; what attention
recomputes only attention reads."""


def price(scenario: Scenario, *, pairs: bool | None = None) -> Costs:
    """Return the costs of a scenario's blocks and its map from blocks to stages.

    pairs: see `price_loads`.
    """
    return price_loads(scenario, loads(scenario), pairs=pairs)


def price_loads(scenario: Scenario, given: Loads | None, *, pairs: bool | None = None) -> Costs:
    """Return the costs of blocks whose experts carry other loads than the scenario says.

    pairs: forward and backward passes overlap, so that GEMMs leave SMs to the exchanges; None: as
    the schedule has it.
    """
    pricer = _Pricer(scenario, _processor(scenario, pairs))
    even_blocks = {kind: pricer.even(kind, given) for kind in dict.fromkeys(scenario.model.blocks)}
    loaded: dict[LoadedKey, tuple[BlockCost, ...]] = {}
    for key, load in _loaded_keys(even_blocks, given):
        loaded[key] = pricer.loaded(key, load, even_blocks[key.kind])
    return Costs(
        pricer.processor,
        work(scenario, given.even if given else None),
        given,
        _stages(scenario, even_blocks),
        even_blocks,
        loaded,
    )


def _loaded_keys(
    blocks: dict[BlockKind, tuple[BlockCost, ...]], given: Loads | None
) -> Iterator[tuple[LoadedKey, Load]]:
    """Yield what must be priced besides even loads: each MoE block under each load."""
    kinds = [kind for kind in blocks if kind in WITH_EXPERTS]
    for number, load in enumerate(given.distinct if given else ()):
        members = range(len(load.per_gpu)) if load.per_gpu else (-1,)
        for kind in kinds:
            for member in members:
                yield LoadedKey(kind, number, member), load


def _processor(scenario: Scenario, pairs: bool | None) -> Processor:
    """Return the GPU as GEMMs find it: without the SMs that overlapped pairs keep for exchanges."""
    paired = scenario.pipeline.overlaps if pairs is None else pairs
    reserved = scenario.workload.experts.sms if paired and scenario.layout.ep > 1 else 0
    attention = scenario.workload.training.attention
    implementation = "" if attention in ("flash", "unfused") else attention
    return Processor(scenario.gpu, scenario.kernels, reserved, implementation)


def work(scenario: Scenario, load: Load | None, member: int = -1) -> Work:
    """Return what one micro-batch asks of a layer with a load on one GPU.

    member: of its expert group, -1: any.
    """
    model, layout, config = scenario.model, scenario.layout, scenario.workload.layout
    training = scenario.workload.training
    tokens = scenario.tokens_per_micro_batch // layout.cp
    own = tokens / layout.tp if config.sequence_parallel else float(tokens)
    rows, received = load.of(member) if load else (0.0, 0.0)
    experts = model.n_routed_experts + scenario.workload.experts.redundant_experts
    return Work(
        model=model,
        recipe=scenario.recipe,
        tokens=tokens,
        seq_length=training.seq_length,
        expert_rows=own * rows * layout.etp,
        received=own * received,
        local_experts=experts // layout.ep,
        recompute=frozenset(["full"] if "full" in training.recompute else training.recompute),
        tp=layout.tp,
        cp=layout.cp,
        etp=layout.etp,
        sequence_parallel=config.sequence_parallel,
        tp_overlap=config.tp_comm_overlap,
        cp_gather=config.cp_comm == "all_gather",
        unfused=training.attention == "unfused",
    )


@dataclass(frozen=True, slots=True)
class _Pricer:
    """Prices blocks of one scenario on one processor."""

    scenario: Scenario
    processor: Processor

    @property
    def travels(self) -> bool:
        """Tell whether tokens leave their GPU for experts."""
        return self.scenario.layout.ep > 1

    def even(self, kind: BlockKind, given: Loads | None) -> tuple[BlockCost, ...]:
        """Return a block's parts with equally popular experts."""
        work_ = work(self.scenario, given.even if given else None)
        ops = block_ops(kind, work_)
        load = 0 if self.travels else -1
        memory = self._memory(kind, work_, ops)
        return tuple(
            self._block(part, load, held, None) for part, held in zip(ops, memory, strict=True)
        )

    def loaded(
        self, key: LoadedKey, load: Load, even_parts: tuple[BlockCost, ...]
    ) -> tuple[BlockCost, ...]:
        """Return a block's parts under a load.

        even_parts: the same with equally popular experts.
        """
        work_ = work(self.scenario, load, key.member)
        ops = block_ops(key.kind, work_)
        number = key.load if self.travels else -1
        memory = self._memory(key.kind, work_, ops)
        return tuple(
            self._block(part, number, held, known)
            for part, held, known in zip_longest(ops, memory, even_parts)
        )

    def _block(
        self, ops: BlockOps, load: int, memory: _Memory, known: BlockCost | None
    ) -> BlockCost:
        """Return what one part of a block costs.

        load: number of its load, which counts where the part has experts. known: the same part with
        equally popular experts, whose other phases cost the same.
        """
        phases = {}
        for phase in Phase:
            for overlapped in (False, True):
                key = PhaseKey(phase, overlapped)
                if known and not phase.depends_on_load:
                    phases[key] = known.phases[key]
                else:
                    phases[key] = phase_cost(ops[phase], self.processor, overlapped=overlapped)
        return BlockCost(
            load if ops.exchanges_experts else -1,
            phases,
            memory.saved,
            memory.recompute,
            memory.transient,
            memory.reread,
            known,
        )

    def _memory(
        self, kind: BlockKind, work_: Work, ops: tuple[BlockOps, ...]
    ) -> tuple[_Memory, ...]:
        """Return what each part of a block keeps for its backward pass, and what it recomputes."""
        full = "full" in work_.recompute and kind not in ("embedding", "head")
        nothing_recomputed = forward_ops(kind, replace(work_, recompute=frozenset()))
        # What is left if nothing that weight gradients read is recomputed.
        by_others = work_.recompute - READ_BY_WEIGHTS
        inputs_kept = forward_ops(kind, replace(work_, recompute=by_others))
        layer_input = 2.0 * work_.own * work_.model.hidden_size
        parts = []
        for part, whole, unread in zip(ops, nothing_recomputed, inputs_kept, strict=True):
            kept = layer_input if full else saved(part.forward)
            transient = max(0.0, saved(whole) - kept)
            # Of a layer that is recomputed as a whole nearly everything is some linear layer's
            # input: an upper end.
            reread = transient if full else max(0.0, saved(unread) - kept)
            parts.append(_Memory(kept, full, transient, reread))
        return tuple(parts)


@dataclass(frozen=True, slots=True)
class _Memory:
    """What a part of a block keeps; fields as in `BlockCost`."""

    saved: float
    recompute: bool
    transient: float
    reread: float


def block_seconds(parts: tuple[BlockCost, ...]) -> float:
    """Return forward plus full backward of one micro-batch without its communication [s].

    Full recompute is counted.
    """
    total = 0.0
    for part in parts:
        for phase in Phase:
            seconds = part.phases[PhaseKey(phase, False)].total
            twice = part.recompute and phase.computes == Pass.FORWARD
            total += seconds * (2 if twice else 1)
    return total


def _stages(scenario: Scenario, blocks: dict[BlockKind, tuple[BlockCost, ...]]) -> Stages:
    """Return the map from blocks to stages: the workload's own, or by its rule."""
    rule, model = scenario.workload.layout.stages, scenario.model
    count = scenario.pipeline.stages
    if not isinstance(rule, str):
        return parse_stages(rule, count, model)
    if rule == "even":
        return cut(model.blocks, even(model, count))
    seconds = [block_seconds(blocks[kind]) for kind in model.blocks]
    return cut(model.blocks, balance(seconds, count))
