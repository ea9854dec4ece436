"""The product rules of a layout: which one a configuration breaks, and what would fit."""

from __future__ import annotations

import math
from collections.abc import Iterable

from simulator.errors import LayoutError, leave_out
from simulator.layout.config import LayoutConfig
from simulator.layout.ranks import Layout
from simulator.layout.zero import ZeroStage
from simulator.model import ModelConfig


def resolve(config: LayoutConfig, gpus: int, model: ModelConfig) -> Layout:
    """Return the layout on a cluster.

    Errors: LayoutError with the rule that broke and the nearest legal value.
    """
    # From the outermost rule to the innermost: what a rule divides, the ones before have checked.
    dp = _replicas(config, gpus)
    _check_tensor(config, model)
    _check_stages(config, model)
    etp = config.etp
    if not etp:
        etp = config.tp if model.n_routed_experts else 1
    layout = Layout(
        gpus=gpus,
        tp=config.tp,
        pp=config.pp,
        ep=config.ep,
        dp=dp,
        zero=ZeroStage(config.zero),
        cp=config.cp,
        vpp=config.vpp,
        etp=etp,
        shard=config.shard,
        order=tuple(config.order.split("-")),
    )
    _check_experts(layout, model)
    _check_shards(layout, model)
    _check_order(layout, model)
    return layout


def _replicas(config: LayoutConfig, gpus: int) -> int:
    """Return dp, what is left of the cluster."""
    product = config.tp * config.cp * config.pp
    if gpus % product == 0:
        return gpus // product
    key = _odd_degree(config, gpus)
    value = getattr(config, key)
    others = product // value  # the product of the other degrees
    # None where the others do not divide the cluster either.
    legal = [n for n in _divisors(gpus) if gpus % (n * others) == 0]
    remedy = "Choose smaller tp or cp too."
    if legal:
        remedy = f"The nearest that do: {_nearest(value, legal)}."
    raise LayoutError(
        f"does not divide {gpus} GPUs: tp {config.tp} x cp {config.cp} x pp {config.pp} x dp "
        f"must be {gpus}",
        key=f"layout.{key}",
        value=value,
        remedy=remedy,
    )


def _odd_degree(config: LayoutConfig, gpus: int) -> str:
    """Return the last degree that does not divide what the others leave; pp if several are wrong."""
    product = config.tp * config.cp * config.pp
    for key in ("pp", "cp", "tp"):
        others = product // getattr(config, key)
        if gpus % others == 0:
            return key
    return "pp"


def _check_stages(config: LayoutConfig, model: ModelConfig) -> None:
    """Refuse more stages than the model has blocks."""
    stages = config.pp * config.vpp
    blocks = len(model.blocks)
    if stages > blocks:
        key = "vpp" if config.vpp > 1 else "pp"
        raise LayoutError(
            f"makes {stages} stages of the model's {blocks} blocks: layers, embedding, head, MTP",
            key=f"layout.{key}",
            value=getattr(config, key),
            remedy="Every stage needs one: choose fewer stages.",
        )


def _check_tensor(config: LayoutConfig, model: ModelConfig) -> None:
    """Refuse tensor parallel degrees that cut heads or widths unevenly."""
    broken = _uneven(config.tp, model)
    if broken:
        heads = model.num_attention_heads
        legal = [n for n in _divisors(heads) if not _uneven(n, model)]
        raise LayoutError(
            broken,
            key="layout.tp",
            value=config.tp,
            remedy=f"The nearest that fit: {_nearest(config.tp, legal)}.",
        )
    if config.tp > 1 and model.n_routed_experts and not config.sequence_parallel:
        raise LayoutError(
            "cannot be combined with tensor parallelism and routed experts",
            key="layout.sequence_parallel",
            value=False,
            remedy="Write sequence_parallel: true, which Megatron requires there too.",
        )


def _uneven(tp: int, model: ModelConfig) -> str:
    """Return the rule that a tensor parallel degree breaks, empty if it breaks none."""
    if model.num_attention_heads % tp:
        return f"does not divide {model.num_attention_heads} attention heads"
    # Where there are more ranks than key-value heads, several hold a copy of the same one.
    kv = model.kv_heads
    if not model.is_mla and kv % tp and tp % kv:
        return f"neither divides {kv} key-value heads nor is a multiple of them"
    if model.intermediate_size % tp:
        return f"does not divide intermediate_size {model.intermediate_size}"
    if model.shared_expert_width % tp:
        return f"does not divide the shared experts' width {model.shared_expert_width}"
    return ""


def _check_experts(layout: Layout, model: ModelConfig) -> None:
    """Refuse expert groups that do not fit. Errors: LayoutError."""
    if not model.n_routed_experts:
        _check_no_experts(layout)
        return
    _check_expert_tensor(layout, model)
    ranks = layout.per_stage
    experts = model.n_routed_experts
    broken = ""
    if experts % layout.ep:
        broken = f"does not divide {experts} routed experts"
    elif ranks % (layout.ep * layout.etp):
        broken = (
            f"x etp {layout.etp} does not divide {_ranks(layout)} "
            f"(= {layout.gpus} GPUs / pp {layout.pp})"
        )
    if broken:
        # What is left of the ranks has been checked to be whole: etp divides them.
        legal = _divisors(math.gcd(experts, ranks // layout.etp))
        raise LayoutError(
            broken,
            key="layout.ep",
            value=layout.ep,
            remedy=f"The nearest that fit: {_nearest(layout.ep, legal)}.",
        )


def _check_no_experts(layout: Layout) -> None:
    """Refuse degrees of experts where the model has none. Errors: LayoutError."""
    for key in ("ep", "etp"):
        degree = getattr(layout, key)
        if degree > 1:
            raise LayoutError(
                "must be 1: the model has no routed experts",
                key=f"layout.{key}",
                value=degree,
                remedy=leave_out(f"layout.{key}"),
            )


def _check_expert_tensor(layout: Layout, model: ModelConfig) -> None:
    """Refuse tensor parallel degrees of experts that cut their width or the ranks unevenly."""
    width = model.moe_intermediate_size
    ranks = layout.per_stage
    broken = ""
    if width % layout.etp:
        broken = f"does not divide the experts' width {width}"
    elif ranks % layout.etp:
        broken = f"does not divide {_ranks(layout)}"
    if broken:
        legal = [n for n in _divisors(ranks) if width % n == 0]
        raise LayoutError(
            broken,
            key="layout.etp",
            value=layout.etp,
            remedy=f"The nearest that fit: {_nearest(layout.etp, legal)}.",
        )


def _ranks(layout: Layout) -> str:
    """Return the ranks of a pipeline index with the product that makes them."""
    product = f"tp {layout.tp} x cp {layout.cp} x dp {layout.dp}"
    return f"{product} = {layout.per_stage} ranks"


def _check_shards(layout: Layout, model: ModelConfig) -> None:
    """Refuse runs of `layout.shard` ranks that do not part those that hold the same parameters."""
    if not layout.shard:
        return
    dense = f"cp {layout.cp} x dp {layout.dp} ranks that share parameters"
    shared = {dense: layout.cp * layout.dp}  # which ranks -> how many
    if model.n_routed_experts and layout.edp > layout.shard:  # fewer are one run
        shared[f"{layout.edp} ranks that share routed experts"] = layout.edp
    # One length of the runs serves both, so that it divides their common divisors.
    legal = _divisors(math.gcd(*shared.values()))
    for what, ranks in shared.items():
        if ranks % layout.shard:
            raise LayoutError(
                f"does not divide the {what}",
                key="layout.shard",
                value=layout.shard,
                remedy=f"The nearest that do: {_nearest(layout.shard, legal)}.",
            )


def _check_order(layout: Layout, model: ModelConfig) -> None:
    """Refuse orders in which the two grids of ranks put different numbers on a pipeline index."""
    # Otherwise a rank would be on one stage for attention and on another one for its experts.
    dense = layout.inner("dense")
    expert = layout.inner("expert")
    if model.n_routed_experts and dense != expert:
        raise LayoutError(
            f"puts {dense} ranks of the dense grid but {expert} of the experts' before the next "
            "pipeline index",
            key="layout.order",
            value="-".join(layout.order),
            remedy="Put pp last.",
        )


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _nearest(value: int, legal: Iterable[int]) -> str:
    """Return the nearest legal value below and the nearest above, as text."""
    known = sorted(legal)
    below = [n for n in known if n < value]
    above = [n for n in known if n > value]
    nearest = below[-1:] + above[:1]
    return " and ".join(map(str, nearest))
