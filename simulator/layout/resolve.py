"""The product rules, checked once: every message has all terms and the nearest legal values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from simulator.errors import LayoutError
from simulator.layout.config import LayoutConfig
from simulator.layout.ranks import Layout
from simulator.layout.zero import ZeroStage
from simulator.model import ModelConfig


def resolve(config: LayoutConfig, gpus: int, model: ModelConfig) -> Layout:
    """Return the layout on a cluster. Errors: LayoutError with all terms of the product and the nearest legal value."""
    dp = _replicas(config, gpus)
    _check_tensor(config, model)
    etp = config.etp or (config.tp if model.n_routed_experts else 1)
    _check_experts(config, model, (gpus, dp, etp))
    stages = config.pp * config.vpp
    if stages > len(model.blocks):
        key = "layout.vpp" if config.vpp > 1 else "layout.pp"
        raise LayoutError(
            f"makes {stages} stages of the model's {len(model.blocks)} blocks: layers, embedding, head, MTP",
            key=key,
            value=config.vpp if config.vpp > 1 else config.pp,
            remedy="Every stage needs one: choose fewer stages.",
        )
    layout = Layout(
        gpus,
        config.tp,
        config.pp,
        config.ep,
        dp,
        ZeroStage(config.zero),
        config.cp,
        config.vpp,
        etp,
        config.shard,
        tuple(config.order.split("-")),
    )
    _check_shards(layout, model)
    if model.n_routed_experts and layout.inner("dense") != layout.inner("expert"):
        raise LayoutError(
            f"puts {layout.inner('dense')} ranks of the dense grid but {layout.inner('expert')} of the experts' before "
            "the next pipeline index",
            key="layout.order",
            value=config.order,
            remedy="Put pp last.",
        )
    return layout


def _check_shards(layout: Layout, model: ModelConfig) -> None:
    """Refuse runs of `layout.shard` ranks that do not part those that hold the same parameters."""
    shared = {f"cp {layout.cp} x dp {layout.dp} ranks that share parameters": layout.cp * layout.dp}
    if model.n_routed_experts and layout.edp > layout.shard:  # fewer are one run
        shared[f"{layout.edp} ranks that share routed experts"] = layout.edp
    for what, ranks in shared.items():
        if layout.shard and ranks % layout.shard:
            legal = [
                n for n in _divisors(ranks) if all(other % n == 0 for other in shared.values())
            ]
            raise LayoutError(
                f"does not divide the {what}",
                key="layout.shard",
                value=layout.shard,
                remedy=f"The nearest that do: {_nearest(layout.shard, legal)}.",
            )


def _replicas(config: LayoutConfig, gpus: int) -> int:
    """Return dp, what is left of the cluster."""
    product = config.tp * config.cp * config.pp
    if gpus % product == 0:
        return gpus // product
    for key in ("pp", "cp", "tp"):  # blame the last that does not divide what the others leave
        rest = product // getattr(config, key)
        if gpus % rest == 0:
            value, legal = getattr(config, key), _divisors(gpus // rest)
            break
    else:
        key, value, legal = (
            "pp",
            config.pp,
            [n for n in _divisors(gpus) if gpus % (n * config.tp * config.cp) == 0],
        )
    raise LayoutError(
        f"does not divide {gpus} GPUs: tp {config.tp} x cp {config.cp} x pp {config.pp} x dp must be {gpus}",
        key=f"layout.{key}",
        value=value,
        remedy=f"The nearest that do: {_nearest(value, legal)}."
        if legal
        else "Choose smaller tp or cp too.",
    )


def _check_tensor(config: LayoutConfig, model: ModelConfig) -> None:
    """Refuse tensor parallel degrees that cut heads or widths unevenly."""
    tp, heads, kv = config.tp, model.num_attention_heads, model.kv_heads
    widths = [
        model.intermediate_size,
        *([model.shared_expert_width] if model.shared_expert_width else []),
    ]
    legal = [
        n
        for n in _divisors(heads)
        if all(width % n == 0 for width in widths) and (model.is_mla or kv % n == 0 or n % kv == 0)
    ]
    if tp not in legal:
        raise LayoutError(
            f"does not divide {heads} heads, {kv} key-value heads (or the reverse) and the widths "
            f"{', '.join(str(width) for width in widths)}",
            key="layout.tp",
            value=tp,
            remedy=f"The nearest that do: {_nearest(tp, legal)}.",
        )
    if tp > 1 and model.n_routed_experts and not config.sequence_parallel:
        raise LayoutError(
            "is off beside routed experts and tensor parallelism",
            key="layout.sequence_parallel",
            value=False,
            remedy="Write sequence_parallel: true, which Megatron requires there too.",
        )


def _check_experts(config: LayoutConfig, model: ModelConfig, sizes: tuple[int, int, int]) -> None:
    """Refuse expert groups that do not fit. sizes: GPUs, dp, etp."""
    gpus, dp, etp = sizes
    experts, ranks = model.n_routed_experts or 1, config.tp * config.cp * dp
    if not model.n_routed_experts and (config.ep > 1 or config.etp > 1):
        key, value = ("layout.ep", config.ep) if config.ep > 1 else ("layout.etp", config.etp)
        raise LayoutError(
            "must be 1: the model has no routed experts",
            key=key,
            value=value,
            remedy="Leave ep and etp out.",
        )
    if ranks % etp or (model.n_routed_experts and model.moe_intermediate_size % etp):
        legal = [n for n in _divisors(ranks) if model.moe_intermediate_size % n == 0]
        raise LayoutError(
            f"must divide tp {config.tp} x cp {config.cp} x dp {dp} = {ranks} and the experts' width "
            f"{model.moe_intermediate_size}",
            key="layout.etp",
            value=etp,
            remedy=f"The nearest that do: {_nearest(etp, legal)}.",
        )
    if ranks % (config.ep * etp) or experts % config.ep:
        legal = [n for n in _divisors(experts) if ranks % (n * etp) == 0]
        raise LayoutError(
            f"must divide {experts} routed experts, and times etp {etp} it must divide tp {config.tp} x cp {config.cp} "
            f"x dp {dp} = {ranks} (= {gpus} GPUs / pp {config.pp})",
            key="layout.ep",
            value=config.ep,
            remedy=f"The nearest that do: {_nearest(config.ep, legal)}.",
        )


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _nearest(value: int, legal: Sequence[int] | Iterable[int]) -> str:
    known = sorted(legal)
    below = [n for n in known if n < value][-1:]
    above = [n for n in known if n > value][:1]
    return " and ".join(str(n) for n in below + above)
