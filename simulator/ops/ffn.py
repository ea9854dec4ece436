"""The FFN half of a layer: dense, shared and routed experts, forward, input and weight gradient.

The kernels and their order are those of DeepSeek's published profile (github
deepseek-ai/profile-data, train.json). Dense and shared FFNs are cut over the tensor parallel group,
routed experts over the expert tensor group.
"""

from __future__ import annotations

from typing import NamedTuple

from simulator.ops import expert_kernels, parallel, router
from simulator.ops.attention import dropout_backward, residual
from simulator.ops.op import (
    Op,
    Ops,
    Work,
    by_channel,
    coded,
    gemm,
    moved,
    norm,
    quantise,
    recomputed,
    transpose,
    wgrad,
)
from simulator.precision import BYTES


class Ffn(NamedTuple):
    """Gate, up and down projection of rows, or of groups of rows with their own weights each."""

    work: Work
    """The micro-batch that the rows belong to."""
    rows: float
    """Rows of all groups together: tokens, or (token, expert) pairs."""
    width: int
    """Of the activation's output on this GPU."""
    groups: int = 1
    """Equal groups of rows: the experts on this GPU."""
    launches: int = 1
    """Kernels of each of its GEMMs and casts."""

    @property
    def rows_per_group(self) -> float:
        """Return the rows that meet the same weights."""
        return self.rows / self.groups

    @property
    def first_width(self) -> int:
        """Return the outputs of the first layer: gate and up together, or one matrix if ungated."""
        return 2 * self.width if self.work.model.gated else self.width

    @property
    def activation(self) -> str:
        """Return the kind of the activation's kernel."""
        return "activation" if self.work.model.gated else "bias_gelu"


class Gradient(NamedTuple):
    """The input gradient of an FFN, in two parts."""

    inner: Ops
    """From the FFN's output to the input of its activation."""
    outer: Ops
    """The first layer's input gradient, which tensor parallel GPUs add up."""


class Forward(NamedTuple):
    """The forward pass of an FFN, in two parts."""

    inner: Ops
    """The first layer and the activation."""
    outer: Ops
    """The second layer, whose output tensor parallel GPUs add up."""

    @property
    def ops(self) -> Ops:
        """Return both parts."""
        return (*self.inner, *self.outer)


def _dense(work: Work) -> Ffn:
    return Ffn(work, work.tokens, work.model.intermediate_size // work.tp)


def _shared(work: Work) -> Ffn | None:
    """Return the shared experts as one FFN, None where the model has none."""
    width = work.model.shared_expert_width // work.tp
    return Ffn(work, work.tokens, width) if width else None


def _routed(work: Work) -> Ffn:
    width = work.model.moe_intermediate_size // work.etp
    rows = expert_kernels.padded_rows(work)
    return Ffn(work, rows, width, work.local_experts, expert_kernels.launches(work))


def forward(ffn: Ffn) -> Forward:
    """Return the first layer, the activation and the second layer, over rows [rows, h]."""
    return Forward(
        *(expert_kernels.repeated(ffn.work.recipe, ffn.launches, part) for part in _forward(ffn))
    )


def _forward(ffn: Ffn) -> Forward:
    work = ffn.work
    recipe = work.recipe
    h = work.model.hidden_size
    wide = ffn.first_width
    # DeepSeek-V3 keeps the activation's inputs in FP8 (arXiv 2412.19437, section 3.3.3).
    input_bytes = recipe.activation if recipe.keeps_coded else 2.0
    kept_input = input_bytes * ffn.rows * wide
    kept_output = 0.0
    if "swiglu" not in work.recompute:
        kept_output = recipe.activation * ffn.rows * ffn.width
    # It reads the first layer's output in BF16 and writes the second layer's input: DeepSeek's
    # kernel writes FP8, and so needs no cast behind it.
    written = 1.0 if recipe.keeps_coded else 2.0
    activation = moved(
        "activation",
        ffn.activation,
        ffn.rows * ffn.width,
        2.0 * wide / ffn.width + written,
        kept_input + kept_output,
    )
    cast = () if recipe.keeps_coded else quantise(recipe, ffn.rows * ffn.width)
    first = gemm("gate+up", ffn.rows_per_group, wide, h, recipe.gemm, ffn.groups)
    inner = (first, activation)
    outer = (
        *cast,
        gemm("down", ffn.rows_per_group, h, ffn.width, recipe.gemm, ffn.groups),
        *coded(recipe, ffn.rows * wide),
    )
    return Forward(inner, outer)


def backward(ffn: Ffn) -> Gradient:
    """Return the input gradient of `forward`, with the casts that weight gradients read."""
    return Gradient(
        *(expert_kernels.repeated(ffn.work.recipe, ffn.launches, part) for part in _backward(ffn))
    )


def _backward(ffn: Ffn) -> Gradient:
    work = ffn.work
    recipe = work.recipe
    h = work.model.hidden_size
    wide = ffn.first_width
    weights = ffn.groups * ffn.width * h
    first_weights = ffn.groups * wide * h
    inner = (
        *coded(recipe, ffn.rows * wide),  # back to BF16
        *transpose(recipe, weights),
        gemm("down dgrad", ffn.rows_per_group, ffn.width, h, recipe.gemm, ffn.groups),
        *_recompute_activation(ffn),
        # Reads the gradient and the inputs, writes their gradients.
        moved(
            "activation backward",
            ffn.activation,
            ffn.rows * ffn.width,
            2.0 + 4.0 * wide / ffn.width,
        ),
        *by_channel(recipe, ffn.rows * ffn.width),
        *transpose(recipe, first_weights),
    )
    outer = (
        *quantise(recipe, ffn.rows * wide),
        gemm("gate+up dgrad", ffn.rows_per_group, h, wide, recipe.gemm, ffn.groups),
        *by_channel(recipe, ffn.rows * wide),
    )
    return Gradient(inner, outer)


def _recompute_activation(ffn: Ffn) -> Ops:
    """Return the activation once more, where it is recomputed."""
    if "swiglu" not in ffn.work.recompute:
        return ()
    bytes_per_element = 2.0 * ffn.first_width / ffn.width + 2.0
    activation = moved("activation", ffn.activation, ffn.rows * ffn.width, bytes_per_element)
    return recomputed((activation,))


def weights(ffn: Ffn) -> Ops:
    """Return the weight gradients of both layers.

    In DeepSeek's stack they are one kernel after another, one per group as its profile shows.
    """
    h = ffn.work.model.hidden_size
    dtype = ffn.work.recipe.gemm
    if ffn.work.expert_kernels != "deepseek" and ffn.groups > 1:
        rows = ffn.rows_per_group
        grouped = (
            wgrad("down wgrad", h, ffn.width, rows, dtype, ffn.groups),
            wgrad("gate+up wgrad", ffn.first_width, h, rows, dtype, ffn.groups),
        )
        return expert_kernels.repeated(ffn.work.recipe, ffn.launches, grouped)
    down = wgrad("down wgrad", h, ffn.width, ffn.rows_per_group, dtype)
    first = wgrad("gate+up wgrad", ffn.first_width, h, ffn.rows_per_group, dtype)
    return (down,) * ffn.groups + (first,) * ffn.groups


def dense_forward(work: Work) -> Ops:
    """Return a dense FFN with the addition to the residual stream."""
    inner, outer = forward(_dense(work))
    first = (*_dense_input(work), *inner)
    return (
        *parallel.gathered(work, "fc1_fprop", first),
        *parallel.scatter(work, outer, "fc2_fprop"),
        residual(work),
    )


def _dense_input(work: Work) -> Ops:
    """Return the cast of a dense FFN's input and its gather."""
    if work.model.parallel_residual:  # the attention has gathered it already
        return quantise(work.recipe, work.tokens * work.model.hidden_size)
    return parallel.cast_and_gather(work)


def dense_backward(work: Work) -> Ops:
    """Return the input gradient of a dense FFN."""
    inner, outer = backward(_dense(work))
    # A parallel FFN's gradient is added to the attention's before both are summed over the group.
    if not work.model.parallel_residual:
        outer = parallel.input_gradient(work, outer, "fc1_dgrad")
    second = (
        *parallel.gather_gradient(work),
        *by_channel(work.recipe, work.tokens * work.model.hidden_size),
        # The weight gradient of the first layer reads the norm's output.
        *_norm_recomputed(work),
        *inner,
    )
    return (
        *dropout_backward(work),
        *parallel.gathered(work, "fc2_dgrad", second),
        *parallel.transpose_gradient(work),
        *outer,
    )


def dense_wgrad(work: Work) -> Ops:
    """Return the weight gradients of a dense FFN."""
    return _cut_weights(_dense(work))


def _cut_weights(ffn: Ffn) -> Ops:
    """Return `weights` of an FFN that is cut: the sum of its input's gradient travels meanwhile."""
    down, first = weights(ffn)
    if ffn.work.tp == 1:
        return down, first
    return parallel.weight_gradients(ffn.work, "fc1_wgrad", first, (down,))


def _cast_received(work: Work) -> Ops:
    """Return the cast of the experts' input, where tokens travel in another format."""
    if router.travels_cast(work):
        return ()
    casts = quantise(work.recipe, expert_kernels.padded_rows(work) * work.model.hidden_size)
    return expert_kernels.per_expert(work, casts)


def experts_forward(work: Work) -> Ops:
    """Return the shared and routed experts of a MoE layer, between dispatch and combine."""
    model = work.model
    h = model.hidden_size
    # An expert tensor group gathers what each of its members received, and each of them computes
    # its part of all rows.
    rows = work.expert_rows
    received = work.received * work.etp
    weight = work.local_experts * model.expert_parameters / work.etp
    dispatched = BYTES[work.recipe.dispatch]
    return (
        *_shared_forward(work),
        *parallel.gather_tokens(work, "gather received tokens"),
        moved("count and map", "mapping", work.own * model.n_routed_experts, 1.0)._replace(
            launches=expert_kernels.MAPPING
        ),
        # One copy of a token comes for all experts of this GPU; each gets its own. Of an all-gather
        # most copies are for others, and are not read.
        moved("expand", "permute", (min(received, rows) + rows) * h, dispatched),
        *expert_kernels.pad(work, "pad"),
        *_cast_received(work),
        *transpose(work.recipe, weight),
        *forward(_routed(work)).ops,
        *expert_kernels.pad(work, "remove padding"),
        moved("reduce", "permute", (rows + received) * h, 2.0),
        *parallel.scatter_tokens(work, "scatter results"),
        # Runs behind combine, after which this block has no phase left.
        *router.permute(work, "unpermute results", 2.0),
        # The weight gradients read what dispatch brought, or the rows that were picked from it.
        Op("received tokens", "copy", saved=dispatched * min(received, rows) * h),
    )


def experts_backward(work: Work) -> Ops:
    """Return the input gradient of the shared and routed experts."""
    h = work.model.hidden_size
    rows = work.expert_rows
    received = work.received * work.etp
    inner, outer = backward(_routed(work))
    dispatched = BYTES[work.recipe.dispatch]
    return (
        *_shared_backward(work),
        *router.permute(work, "permute result gradients", dispatched),
        *parallel.gather_tokens(work, "gather result gradients"),
        moved("expand gradients", "permute", (min(received, rows) + rows) * h, dispatched),
        *expert_kernels.pad(work, "pad gradients"),
        *_cast_received(work),
        *inner,
        *outer,
        *expert_kernels.pad(work, "remove padding of gradients"),
        *_norm_recomputed(work),
        moved("reduce gradients", "permute", (rows + received) * h, 2.0),
        *parallel.scatter_tokens(work, "scatter token gradients"),
    )


def experts_wgrad(work: Work) -> tuple[Ops, Ops]:
    """Return the weight gradients as (compute stream, side stream).

    Every other kernel of the routed experts goes to the side.
    """
    rows = expert_kernels.padded_rows(work) * work.model.hidden_size
    casts = expert_kernels.per_expert(work, by_channel(work.recipe, rows, rows))
    shared = _shared(work)
    routed = weights(_routed(work))
    on_compute: Ops = routed
    on_side: Ops = ()
    if work.expert_kernels == "deepseek":
        # Alternate kernels run next to each other: halves of equal length on two streams.
        on_compute, on_side = routed[0::2], routed[1::2]
    if shared is not None:
        on_compute = (*_cut_weights(shared), *on_compute)
    return (*casts, *on_compute), on_side


def _shared_forward(work: Work) -> Ops:
    shared = _shared(work)
    if shared is None:
        return ()
    inner, outer = forward(shared)
    first = (*_shared_input(work), *inner)
    return (
        *parallel.gathered(work, "fc1_fprop", first),
        *parallel.scatter(work, outer, "fc2_fprop"),
    )


def _shared_input(work: Work) -> Ops:
    """Return the cast of what shared experts read, and its gather."""
    # What was cast before it travels to routed experts serves the shared ones too.
    if router.travels_cast(work):
        return parallel.gather(work)
    return parallel.cast_and_gather(work)


def _shared_gradient(work: Work) -> Ops:
    """Return the cast of the gradient of the shared experts' output, and its gather."""
    if router.travels_cast(work):
        return parallel.gather(work, parallel.GRADIENT)
    return parallel.gather_gradient(work)


def _shared_backward(work: Work) -> Ops:
    """Return the input gradient of the shared experts.

    The sum over their group is waited for with the routed experts' gradients.
    """
    shared = _shared(work)
    if shared is None:
        return ()
    inner, outer = backward(shared)
    second = (*_shared_gradient(work), *inner)
    return (
        *parallel.gathered(work, "fc2_dgrad", second),
        *parallel.transpose_gradient(work),
        *parallel.input_gradient(work, outer, "fc1_dgrad"),
    )


def _norm_recomputed(work: Work) -> Ops:
    """Return the second norm and the cast of its output once more, where they are recomputed."""
    if "norm" not in work.recompute:
        return ()
    width = work.own * work.model.hidden_size
    post_norm = norm(work.recipe, "post norm", width)
    return recomputed((post_norm, *quantise(work.recipe, width)))
