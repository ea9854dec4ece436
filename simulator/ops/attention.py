"""The attention half of a layer: forward and input gradient; `projections` has weight gradients.

The kernels and their order are those of DeepSeek's published profile (github
deepseek-ai/profile-data, train.json). Linear layers are cut over the tensor parallel group: those
that read the residual stream by columns, the output by rows.
"""

from __future__ import annotations

from simulator.ops import linear, parallel, projections, weights
from simulator.ops.attention_core import core, core_backward
from simulator.ops.op import (
    Item,
    Op,
    Ops,
    Work,
    by_channel,
    gemm,
    moved,
    norm,
    norm_backward,
    quantise,
    recast,
    recomputed,
)


def forward(work: Work) -> Ops:
    """Return the ops from the residual stream to the second residual stream and its norm."""
    recipe = work.recipe
    h = work.model.hidden_size
    width = work.own * h
    context = _context(work)
    # The residual stream is kept once per half layer, in BF16; the norm's output only if it is not
    # recomputed.
    kept = 2.0 * width
    if "norm" not in work.recompute:
        kept += recipe.activation * work.own * h
    head = (
        norm(work, "input norm", width, kept),
        *projections.project(work),
        *linear.add_bias(work, _projected(work), biased=_biased(work)),
        *projections.expand(work, keep=True),
        *_positions(work),
        *core(work),
        _keep_output(work),
    )
    output = (
        *quantise(recipe, work.tokens * context),
        *weights.cast(work, h * context),
        gemm("o", work.tokens, h, context, recipe.gemm),
    )
    if work.model.parallel_residual:  # its output is added to the FFN's before both are scattered
        return (*head, *output)
    return (
        *head,
        *parallel.scatter(work, output, "proj_fprop"),
        residual(work),
        norm(work, "post norm", width, kept),
    )


def residual(work: Work) -> Op:
    """Return the addition to the residual stream, with the dropout of the model."""
    if not work.model.dropout:
        return _add(work, "residual")
    width = work.own * work.model.hidden_size
    # Two reads, a mask of one byte that is kept, one write.
    return moved("residual", "bias_dropout_add", width, 7.0, width)


def _add(work: Work, name: str) -> Op:
    """Return an addition to the residual stream: two reads and a write of 2 B."""
    width = work.own * work.model.hidden_size
    if work.norm == "norm":  # DeepSeek's profile is fitted to 4 of the 6 bytes
        return moved(name, "elementwise", width, 4.0)
    return moved(name, "residual_add", width, 6.0)


def _projected(work: Work) -> float:
    """Return the elements of queries, keys and values."""
    return work.tokens * sum(projection.outputs for projection in projections.of_stream(work))


def _biased(work: Work) -> bool:
    """Tell whether queries, keys and values have biases."""
    return work.model.attention_bias or work.model.qkv_bias


def _context(work: Work) -> int:
    """Return the width of attention's output on this GPU."""
    return work.heads * work.model.v_dim


def _keep_output(work: Work) -> Op:
    """Return what keeping attention's output takes: nothing, or a cast to fewer bits."""
    elements = work.tokens * _context(work)
    # [B] what the output's weight gradient reads, in the format in which it is kept.
    kept = work.recipe.saved_attention_output * work.tokens * _context(work)
    if not work.recipe.keeps_coded:
        return Op("attention output", "copy", saved=kept)
    return moved("cast to 12 bits", "quantise", elements, 3.5, kept)


def _positions(work: Work) -> Ops:
    """Return norms per head and rotary positions."""
    if work.model.is_mla:
        return _mla_positions(work)
    width = work.tokens * (work.heads + work.kv_heads) * work.model.qk_dim
    ops: list[Item] = []
    if work.model.qk_norm:
        ops.append(norm(work, "head norms", width))
    if not work.model.learned_positions:
        ops.append(_rotated(work, "rope", width, tensors=2))
    return (*ops, *_repeated_heads(work))


def _rotated(work: Work, name: str, elements: float, tensors: int = 1) -> Op:
    """Return rotary positions, forward or backward: each element is read and written."""
    if work.code.rotary == "fused":
        return moved(name, "rope", elements, 4.0)
    # A cast to FP32 (6 B), the product of complex numbers, which no compiler fuses (8), and a cast
    # back (6).
    return moved(name, "elementwise", elements, 20.0)._replace(launches=3 * tensors)


def _repeated_heads(work: Work, *, backward: bool = False) -> Ops:
    """Return the copies of keys and values to a head per query head, or the sums of their gradients."""
    if work.attended_heads == work.kv_heads:
        return ()
    width = work.tokens * (work.model.qk_dim + work.model.v_dim)
    name = "sum repeated heads" if backward else "repeat heads"
    # One side has the heads of keys and values, the other those of queries, in BF16.
    op = moved(name, "copy", width * (work.kv_heads + work.heads), 2.0)
    return (op._replace(launches=2),)


def _mla_positions(work: Work) -> Ops:
    """Return MLA's rotary positions, and its assembly of keys and values from their parts."""
    model = work.model
    per_head = work.tokens * work.heads
    # The keys' rotary part is one for all heads.
    return (
        _rotated(work, "rope q", per_head * model.qk_rope_head_dim),
        _rotated(work, "rope k", work.tokens * model.qk_rope_head_dim),
        moved("assemble k", "copy", per_head * model.qk_nope_head_dim, 4.0),
        moved("assemble v", "copy", per_head * model.v_dim, 4.0),
    )


def input_gradient(work: Work) -> tuple[Ops, Ops]:
    """Return the input gradient, from the second residual stream to the first, in two parts.

    The first ends with the input gradients of what reads the residual stream. With tensor
    parallelism their sum then travels, and the second part, what the norm does with it, waits for
    that; without it all are in the first.
    """
    recipe = work.recipe
    h = work.model.hidden_size
    context = _context(work)
    output = (
        *_gather_output_gradient(work),
        *weights.transposed(work, h * context),
        gemm("o dgrad", work.tokens, context, h, recipe.gemm),
    )
    # In the order of the profile: from the end of the half layer to its begin.
    first = (
        *_stream_backward(work),
        *_restore_output(work),
        *linear.bias_gradient(work, work.own * h, biased=work.model.attention_bias),
        *parallel.gathered(work, "proj_dgrad", output),
        *_transpose_gradient(work),
        # The output's weight gradient reads both by channel.
        *by_channel(recipe, work.tokens * context, work.tokens * h),
        *_recompute_expansion(work),
        *core_backward(work),
        *_positions_backward(work),
        *_recompute_norm(work),
        *linear.bias_gradient(work, _projected(work), biased=_biased(work)),
        *projections.project_backward(work),
    )
    last = (
        _add(work, "residual gradient"),
        norm_backward(work, "input norm backward", work.own * h),
    )
    return parallel.split_at_sum(work, first, last)


def _stream_backward(work: Work) -> Ops:
    """Return what the second residual stream and its norm do with a gradient."""
    if work.model.parallel_residual:
        return ()
    width = work.own * work.model.hidden_size
    ops: list[Item] = [
        _add(work, "residual gradient"),
        norm_backward(work, "post norm backward", width),
    ]
    if work.norm == "norm":  # DeepSeek's profile has one more kernel there
        ops.append(moved("scale", "elementwise", width, 4.0))
    return (*ops, *dropout_backward(work))


def dropout_backward(work: Work) -> Ops:
    """Return the mask applied to a gradient of the residual stream, if the model has dropout."""
    if not work.model.dropout:
        return ()
    width = work.own * work.model.hidden_size
    # The gradient and the mask of one byte are read, the gradient is written.
    return (moved("dropout backward", "dropout", width, 5.0),)


def _restore_output(work: Work) -> Ops:
    """Return the cast of attention's output back to BF16, where it was kept in fewer bits."""
    if not work.recipe.keeps_coded:
        return ()
    return (moved("cast back from 12 bits", "quantise", work.tokens * _context(work), 3.5),)


def _gather_output_gradient(work: Work) -> Ops:
    """Return the cast of the output's gradient and its gather."""
    if work.model.parallel_residual:  # the FFN has gathered it already
        return quantise(work.recipe, work.tokens * work.model.hidden_size)
    return parallel.gather_gradient(work)


def _transpose_gradient(work: Work) -> Ops:
    """Return the transpose of the output's gathered gradient."""
    if work.model.parallel_residual:  # the FFN has transposed it already
        return ()
    return parallel.transpose_gradient(work)


def _recompute_expansion(work: Work) -> Ops:
    """Return MLA's up-projections and positions once more, where they are recomputed."""
    if not work.model.is_mla or "mla_up_projection" not in work.recompute:
        return ()
    expansion = projections.expand(work, keep=False)
    return recomputed((*expansion, *_positions(work)))


def _recompute_norm(work: Work) -> Ops:
    """Return the first norm and the cast of its output once more, where they are recomputed."""
    if "norm" not in work.recompute:
        return ()
    width = work.own * work.model.hidden_size
    return recomputed((norm(work, "input norm", width), *recast(work.recipe, width)))


def _positions_backward(work: Work) -> Ops:
    """Return the backward pass of `_positions`, and of MLA's expansions."""
    model = work.model
    if model.is_mla:
        return (*_mla_positions_backward(work), *projections.expand_backward(work))
    width = work.tokens * (work.heads + work.kv_heads) * model.qk_dim
    ops: list[Item] = [*_repeated_heads(work, backward=True)]
    if not model.learned_positions:
        ops.append(_rotated(work, "rope backward", width, tensors=2))
    if model.qk_norm:
        ops.append(norm_backward(work, "head norms backward", width))
    return tuple(ops)


def _mla_positions_backward(work: Work) -> Ops:
    model = work.model
    per_head = work.tokens * work.heads
    return (
        _rotated(work, "rope backward", per_head * model.qk_rope_head_dim),
        moved("gather dk rope", "copy", per_head * model.qk_rope_head_dim, 2.0),
        moved("gather dk", "copy", per_head * model.qk_nope_head_dim, 4.0),
        moved("gather dv", "copy", per_head * model.v_dim, 4.0),
    )
