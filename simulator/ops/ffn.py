"""The FFN half of a layer, forward, input and weight gradient; experts: `shared` and `routed`.

The kernels and their order are those of DeepSeek's published profile (github
deepseek-ai/profile-data, train.json). Dense and shared FFNs are cut over the tensor parallel group,
routed experts over the expert tensor group.
"""

from __future__ import annotations

from typing import NamedTuple

from simulator.ops import expert_kernels, linear, parallel
from simulator.ops import weights as layer_weights
from simulator.ops.attention import dropout_backward, residual
from simulator.ops.op import (
    Ops,
    Work,
    by_channel,
    coded,
    gemm,
    moved,
    norm,
    quantise,
    recast,
    recomputed,
    unkept,
    wgrad,
)


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
    repeats: str = ""
    """What the backward pass recomputes of it: nothing, its activation, or all."""

    @property
    def rows_per_group(self) -> float:
        """Return the rows that meet the same weights."""
        return self.rows / self.groups

    @property
    def first_width(self) -> int:
        """Return the outputs of the first layer: gate and up together, or one matrix if ungated."""
        return 2 * self.width if self.work.model.gated else self.width

    @property
    def layers(self) -> layer_weights.Layers:
        """Return the layers that read the input: gate and up may be apart."""
        outputs: tuple[int, ...] = (self.first_width,)
        if self.work.model.gated and not self.work.code.joined:
            outputs = (self.width, self.width)
        h = self.work.model.hidden_size
        return layer_weights.Layers("gate+up", self.rows_per_group, outputs, h, self.groups)

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
    width = work.model.intermediate_size // work.tp
    return Ffn(work, work.tokens, width, repeats=repeats(work, "swiglu", "mlp"))


def repeats(work: Work, activation: str, whole: str) -> str:
    """Return what is recomputed of an FFN. activation, whole: names of its parts."""
    # What a MoE layer recomputes as a whole it does not recompute by parts.
    names = work.recompute
    if whole in names or (whole == "shared_experts" and "moe" in names):
        return "all"
    return "activation" if activation in names else ""


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
    if ffn.repeats != "activation":
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
    first = layer_weights.products(work, ffn.layers)
    inner = (*layer_weights.cast(work, ffn.groups * wide * h), *first, activation)
    outer = (
        *cast,
        *layer_weights.cast(work, ffn.groups * ffn.width * h),
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
        *layer_weights.transposed(work, weights),
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
        *layer_weights.transposed(work, first_weights),
    )
    outer = (
        *quantise(recipe, *(ffn.rows * width for width in ffn.layers.outputs)),
        *layer_weights.input_gradients(work, ffn.layers),
        *by_channel(recipe, ffn.rows * wide),
    )
    return Gradient(inner, outer)


def _recompute_activation(ffn: Ffn) -> Ops:
    """Return the activation and the cast of its output once more, where they are recomputed."""
    if ffn.repeats != "activation":
        return ()
    bytes_per_element = 2.0 * ffn.first_width / ffn.width + 2.0
    elements = ffn.rows * ffn.width
    activation = moved("activation", ffn.activation, elements, bytes_per_element)
    return recomputed((activation, *recast(ffn.work.recipe, elements)))


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
            *layer_weights.gradients(ffn.work, ffn.layers),
        )
        return expert_kernels.repeated(ffn.work.recipe, ffn.launches, grouped)
    down = wgrad("down wgrad", h, ffn.width, ffn.rows_per_group, dtype)
    first = layer_weights.gradients(ffn.work, ffn.layers._replace(groups=1))
    return (down,) * ffn.groups + first * ffn.groups


def dense_forward(work: Work) -> Ops:
    """Return a dense FFN with the addition to the residual stream."""
    ops = _dense_layers(work)
    if _dense(work).repeats == "all":
        ops = unkept(ops)
    return (*ops, residual(work))


def _dense_layers(work: Work) -> Ops:
    """Return both layers of a dense FFN with their collectives."""
    inner, outer = forward(_dense(work))
    first = (*_dense_input(work), *inner)
    return (
        *parallel.gathered(work, "fc1_fprop", first),
        *parallel.scatter(work, outer, "fc2_fprop"),
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
        *norm_recomputed(work),
        *inner,
        *linear.bias_gradient(
            work, work.tokens * _dense(work).first_width, biased=work.model.mlp_bias
        ),
    )
    again: Ops = ()
    if _dense(work).repeats == "all":
        again = recomputed(_dense_layers(work))
    return (
        *again,
        *dropout_backward(work),
        *linear.bias_gradient(work, work.own * work.model.hidden_size, biased=work.model.mlp_bias),
        *parallel.gathered(work, "fc2_dgrad", second),
        *parallel.transpose_gradient(work),
        *outer,
    )


def dense_wgrad(work: Work) -> Ops:
    """Return the weight gradients of a dense FFN."""
    return cut_weights(_dense(work))


def cut_weights(ffn: Ffn) -> Ops:
    """Return `weights` of an FFN that is cut: the sum of its input's gradient travels meanwhile."""
    down, first, *others = weights(ffn)
    if ffn.work.tp == 1:
        return (down, first, *others)
    return parallel.weight_gradients(ffn.work, "fc1_wgrad", first, (*others, down))


def norm_recomputed(work: Work) -> Ops:
    """Return the second norm and the cast of its output once more, where they are recomputed."""
    if "norm" not in work.recompute:
        return ()
    width = work.own * work.model.hidden_size
    post_norm = norm(work, "post norm", width)
    return recomputed((post_norm, *quantise(work.recipe, width)))
