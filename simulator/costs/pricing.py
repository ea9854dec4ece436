"""Scenario -> costs: every layer is priced once, with every load that its experts may have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle

from simulator.collectives import CoflowKind, Communication, dispatcher_of, sms_of
from simulator.compute import Processor
from simulator.costs.blocks import (
    BlockCost,
    LoadedKey,
    Parts,
    Stages,
)
from simulator.costs.hosts import Hosts
from simulator.costs.loads import loads
from simulator.costs.offload import offloaded
from simulator.costs.pricer import Context, pricer, with_load
from simulator.costs.table import WITH_EXPERTS, Costs
from simulator.experts import Load, Loads
from simulator.hardware import Overlaps, TensorGroup
from simulator.layout import balance, cut, even, parse_stages
from simulator.model import BlockKind
from simulator.ops import Phase, Work
from simulator.precision import BYTES
from simulator.progress import doing
from simulator.scenario import Scenario

LEAST_ROWS = {"mxfp8": 32, "nvfp4": 64}
"""Format -> what rows of an expert are padded to at least: a block of 32 elements has a scale of
MXFP8, and a padded row must not share one; NVFP4's grouped casts take 64 (TransformerEngine pull
request 2351)."""


@doing("pricing kernels")
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
    context = Context(
        work=work(scenario, given.even if given else None),
        processor=_processor(scenario, pairs),
        hosts=_hosts(scenario),
        travels=scenario.layout.ep > 1,
        permutes=_permutes(scenario),
    )
    priced = pricer(context)
    # Even loads first: what does not depend on experts is taken over from there.
    kinds = dict.fromkeys(scenario.model.blocks)
    even_blocks = {kind: priced.even(kind) for kind in kinds}
    loaded: dict[LoadedKey, Parts] = {}
    for key, load in _loaded_keys(scenario.model.blocks, given):
        loaded[key] = priced.loaded(key.kind, key.load, load, key.member)
    training = scenario.workload.training
    costs = Costs(
        processor=context.processor,
        hosts=context.hosts,
        work=context.work,
        loads=given,
        stages=_stages(scenario, even_blocks),
        blocks={kind: _offloaded(scenario, kind, parts) for kind, parts in even_blocks.items()},
        loaded={key: offloaded(scenario, parts) for key, parts in loaded.items()},
    )
    if not training.recompute_layers:
        return costs
    if training.recompute_method == "uniform":
        return replace(costs, together=training.recompute_layers)
    plain = price_loads(_unrepeated(scenario), given, pairs=pairs)
    return replace(costs, plain=plain, repeated=training.recompute_layers)


def _offloaded(scenario: Scenario, kind: BlockKind, parts: Parts) -> Parts:
    """Return a block as `offloaded`; only transformer layers are."""
    return parts if kind in ("embedding", "head") else offloaded(scenario, parts)


def _unrepeated(scenario: Scenario) -> Scenario:
    """Return a scenario that recomputes nothing."""
    nothing: dict[str, object] = {"recompute": (), "recompute_layers": 0}
    training = scenario.workload.training.model_copy(update=nothing)
    workload = scenario.workload.model_copy(update={"training": training})
    return replace(scenario, workload=workload)


def _hosts(scenario: Scenario) -> Hosts:
    """Return the hosts of a run; they wait for numbers of tokens only where its dispatcher does."""
    drains = scenario.stack.host.drains
    if not dispatcher_of(scenario).synchronises:
        drains = tuple(drain for drain in drains if drain != "token_counts")
    sharded = scenario.stack.sharding.host
    return Hosts(scenario.host, drains, scenario.workload.training.cuda_graphs, sharded)


def _loaded_keys(
    blocks: Sequence[BlockKind], given: Loads | None
) -> Iterator[tuple[LoadedKey, Load]]:
    """Yield what must be priced besides even loads: each MoE block of a model under its load."""
    if given is None:
        return
    kinds = [kind for kind in blocks if kind in WITH_EXPERTS]
    # Blocks of one kind under one load are priced once; in order, so that runs are alike.
    for kind, number in dict.fromkeys(zip(kinds, cycle(given.layers), strict=False)):
        load = given.distinct[number]
        # Loads of single GPUs, or one of the busiest GPU that stands for the whole group.
        members = range(len(load.per_gpu)) if load.per_gpu else (-1,)
        for member in members:
            yield LoadedKey(kind, number, member), load


def _processor(scenario: Scenario, pairs: bool | None) -> Processor:
    """Return the GPU as GEMMs find it: without the SMs that overlapped pairs keep for exchanges."""
    paired = scenario.pipeline.overlaps if pairs is None else pairs
    own = scenario.stack.experts.kernels == "deepseek"
    reserved = 0
    # DeepSeek's GEMMs are compiled for the SMs that exchanges leave; other libraries' take all, and
    # lose those that an exchange holds while it lasts.
    if paired and own and scenario.layout.ep > 1:
        reserved = sms_of(scenario)
    return Processor(
        scenario.gpu,
        scenario.kernels,
        reserved,
        _attention(scenario),
        own_grouped=own,
        streams=scenario.stack.experts.streams,
        power_limit=scenario.topology.node.power_limit or 0.0,
    )


def _attention(scenario: Scenario) -> str:
    """Return the implementation of fused attention, "" for the kernel table's default."""
    named = scenario.workload.training.attention
    # These two need no row of their own: flash is the stack's or the table's own, unfused is
    # several ops.
    if named not in ("flash", "unfused"):
        return named
    own = scenario.stack.attention
    return own if own in scenario.kernels.attention else ""


def work(scenario: Scenario, load: Load | None, member: int = -1) -> Work:
    """Return what one micro-batch asks of a layer with a load on one GPU.

    member: of its expert group, -1: any.
    """
    model, layout = scenario.model, scenario.layout
    config = scenario.workload.layout
    training = scenario.workload.training
    tokens = scenario.tokens_per_micro_batch // layout.cp
    experts = model.n_routed_experts + scenario.workload.experts.redundant_experts
    # A layer that is recomputed as a whole has nothing left that could be recomputed by name.
    recompute = training.recompute
    if "full" in recompute:
        recompute = ("full",)
    without = Work(
        model=model,
        recipe=scenario.recipe,
        tokens=tokens,
        seq_length=training.seq_length,
        local_experts=experts // layout.ep,
        expert_kernels=scenario.stack.experts.kernels,
        router_kernels=scenario.stack.experts.router,
        router_kernels_backward=scenario.stack.experts.router_backward,
        mapping_kernels=scenario.stack.experts.mapping,
        norm=scenario.stack.norm,
        layers=scenario.stack.layers,
        row_multiple=_row_multiple(scenario),
        recompute=frozenset(recompute),
        tp=layout.tp,
        cp=layout.cp,
        etp=layout.etp,
        sequence_parallel=config.sequence_parallel,
        tp_overlap=_overlaps(scenario),
        tp_pass=_pass_seconds(scenario),
        cp_gather=scenario.cp_comm == "all_gather",
        cp_heads=scenario.cp_comm == "a2a" and layout.cp > 1,
        code=scenario.stack.code,
        loss=_loss(scenario),
        unfused=training.attention == "unfused",
    )
    return with_load(without, load, member, permutes=_permutes(scenario))


def _permutes(scenario: Scenario) -> bool:
    """Tell whether the dispatcher of a run copies tokens before it sends them."""
    return scenario.layout.ep > 1 and dispatcher_of(scenario).permutes


def _loss(scenario: Scenario) -> str:
    """Return how the loss is computed: as the run says, or as its software stack does."""
    asked = scenario.workload.training.loss
    return scenario.stack.loss if asked == "stack" else asked


def _row_multiple(scenario: Scenario) -> int:
    """Return what the rows of an expert are padded to."""
    if not scenario.recipe.quantised:
        return 1
    least = LEAST_ROWS.get(scenario.recipe.gemm, 1)
    multiple = scenario.stack.experts.row_multiple
    return max(multiple, least) if multiple > 1 else 1


def _overlaps(scenario: Scenario) -> Overlaps:
    """Return how GEMMs overlap the collectives of tensor parallelism; nothing where they do not.

    Without sequence parallelism there is nothing that would: what is summed has no parts to pass
    on, and Megatron turns the overlap off.
    """
    config = scenario.workload.layout
    wanted = config.tp_comm_overlap and config.sequence_parallel
    if not wanted or scenario.layout.tp == 1:
        return {}
    group = TensorGroup(
        architecture=scenario.gpu.kernels,
        hidden_size=scenario.model.hidden_size,
        tp=scenario.layout.tp,
        fp8=BYTES[scenario.recipe.gemm] == 1,
    )
    return scenario.stack.tensor_overlap.of(group)


def _pass_seconds(scenario: Scenario) -> float:
    """Return the time of a byte that userbuffers pass round a tensor parallel group, alone [s].

    Over NVLink, and over NICs where the group is larger than a node. 0 where nothing overlaps.
    """
    if not _overlaps(scenario):
        return 0.0
    members = scenario.layout.ranks(0, "tp")[0].tolist()
    plan = Communication.of(scenario).plan(CoflowKind.USERBUFFERS, members, 1.0)
    asked = plan.unit(members)
    return asked.seconds(scenario.network, plan.kernel) - asked.latency


def block_seconds(parts: tuple[BlockCost, ...]) -> float:
    """Return forward plus full backward of one micro-batch without its communication [s].

    Full recompute is counted.
    """
    total = 0.0
    for part in parts:
        for phase in Phase:
            seconds = part.phases[phase].total
            # What is recomputed as a whole runs once more, in front of the backward pass.
            total += seconds * (2 if part.repeats(phase) else 1)
    return total


def _stages(scenario: Scenario, blocks: dict[BlockKind, Parts]) -> Stages:
    """Return the map from blocks to stages: the workload's own, or by its rule."""
    rule = scenario.workload.layout.stages
    model = scenario.model
    count = scenario.pipeline.stages
    if not isinstance(rule, str):
        return parse_stages(rule, count, model)
    if rule == "even":
        return cut(model.blocks, even(model, count))
    # Balanced by time with even loads: a layer's experts vary from step to step, its stage does not.
    of_kind = {kind: block_seconds(parts) for kind, parts in blocks.items()}
    seconds = [of_kind[kind] for kind in model.blocks]  # [block] s
    return cut(model.blocks, balance(seconds, count))
