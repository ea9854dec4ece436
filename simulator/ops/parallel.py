"""The collectives of tensor, context and expert tensor parallelism between the ops of a layer.

Tensor parallelism: Shoeybi et al., arXiv 1909.08053, section 3: a pair of linear layers, cut by
columns, then by rows. With sequence parallelism the norms between them work on 1/tp of the tokens,
an all-gather stands before the first and a reduce-scatter behind the second; in the backward pass
they swap places, and the first layer's input is gathered once more for its weight gradient
(Korthikanti et al., arXiv 2205.05198, section 4.2.2). Without it an all-reduce stands behind the
second, and one behind the first's input gradient.

A collective and its GEMM run one after the other; in the backward pass, what a weight gradient
reads or an input gradient leaves travels next to a GEMM that does not touch it. With
`tp_comm_overlap` the GEMMs of layers overlap theirs, see `overlap`; those of embedding and head, of
MLA's expansions and of experts do not, for Transformer Engine has no buffers for them.
"""

from __future__ import annotations

from dataclasses import replace

from simulator.ops import overlap
from simulator.ops.op import LATE, Item, Op, Ops, Taken, Transfer, Work, moved, quantise
from simulator.precision import BYTES

GRADIENT = "gather output gradient"
"""Name of the gather of an output's gradient."""


def gather(
    work: Work, name: str = "gather input", width: int = 0, bytes_per_element: float = 0.0
) -> Ops:
    """Return the all-gather before a layer that is cut by columns.

    width: of what is gathered, 0 for the residual stream's. bytes_per_element: 0 for those of a
    GEMM's input [B].
    """
    if work.tp == 1 or not work.sequence_parallel:
        return ()
    elements = work.tokens * (width or work.model.hidden_size)
    size = elements * (bytes_per_element or work.recipe.activation)
    return (Transfer(name, "tp", size),)


def gathered(work: Work, layer: str, ops: Ops) -> Ops:
    """Return ops whose gather and the GEMM behind it overlap, if the layer has a method for that.

    layer: the GEMM, see `hardware.tensor_overlap`.
    """
    if layer not in work.tp_overlap:
        return ops
    # The gather is the last of the transfers: what the cast before it needs has come by then.
    for index in reversed(range(len(ops))):
        op = ops[index]
        if isinstance(op, Transfer):
            behind = ops[index + 1 :]
            return (*ops[:index], *_round_a_ring(work, op, behind))
    return ops  # nothing is gathered


def _round_a_ring(work: Work, gather: Transfer, behind: Ops) -> Ops:
    """Return a gather that a ring passes on next to its GEMM.

    behind: what follows it. Of a gradient that is cast along either axis the ring brings what the
    input gradient reads; the other cast travels behind it, next to the same GEMM (Transformer
    Engine, module/linear.py).
    """
    if not (gather.name == GRADIENT and work.recipe.gathers_both):
        return overlap.gathering(gather, behind, work.tp, gather.bytes * work.tp_pass)
    half = replace(gather, bytes=gather.bytes / 2.0)
    copy, ring, *rest = overlap.gathering(half, behind, work.tp, half.bytes * work.tp_pass)
    other = replace(half, name=f"{GRADIENT} by channel", concurrent=work.tp)
    return (copy, ring, overlap.next_to(other), *rest)


def cast_and_gather(work: Work, name: str = "gather input", width: int = 0) -> Ops:
    """Return the cast of a layer's input and its all-gather: each GPU casts its own tokens first.

    Transformer Engine gathers FP8 (its `_all_gather_fp8`). width: see `gather`.
    """
    gathered = gather(work, name, width)
    tokens = work.own if gathered else float(work.tokens)
    cast: Ops = quantise(work.recipe, tokens * (width or work.model.hidden_size))
    if gathered and work.recipe.amax_bytes:
        # What is gathered is one tensor and has one scale (Transformer Engine's current scaling,
        # with_amax_reduction): all find the largest value of all before they cast.
        largest = Transfer("share largest value", "tp", 2.0 * 4.0)
        cast = (*cast[:-1], largest, cast[-1])
    return (*cast, *gathered)


def gather_gradient(work: Work) -> Ops:
    """Return the cast of an output's gradient and its all-gather, for both of its GEMMs.

    With scales of blocks a weight gradient reads another cast than an input gradient, along the
    other axis: both are gathered at once (Transformer Engine, distributed.py,
    gather_along_first_dim).
    """
    ops = cast_and_gather(work, GRADIENT)
    if not work.recipe.gathers_both:
        return ops
    return tuple(_twice(op) if isinstance(op, Transfer) else op for op in ops)


def _twice(gather: Transfer) -> Transfer:
    return replace(gather, bytes=2.0 * gather.bytes)


def transpose_gradient(work: Work) -> Ops:
    """Return the transpose of a gathered gradient, which the weight gradient of its layer reads.

    What was cast before it was gathered came in the order of tokens alone (Transformer Engine,
    module/base.py, grad_output_preprocess).
    """
    if work.tp == 1 or not work.sequence_parallel or not work.recipe.transposes_gathered:
        return ()
    elements = work.tokens * work.model.hidden_size
    return (moved("transpose gathered gradient", "transpose", elements, 2.0),)


def scatter(
    work: Work, gemm: Ops, layer: str = "", name: str = "scatter output", width: int = 0
) -> Ops:
    """Return a layer that is cut by rows with what adds up its partial sums, in BF16.

    gemm: the layer's ops. layer: its GEMM, which overlaps the sum if it has a method for that, see
    `hardware.tensor_overlap`. width: see `gather`.
    """
    if work.tp == 1:
        return gemm
    elements = work.tokens * (width or work.model.hidden_size)
    total = Transfer(name, "tp", elements * 2.0 * _passes(work))
    if layer not in work.tp_overlap:
        return (*gemm, total)
    seconds = total.bytes * work.tp_pass
    return overlap.scattering(total, gemm, work.tp, work.tp_overlap[layer], seconds)


def giving_sms(work: Work, layer: str, ops: Ops, bytes_per_element: float = 2.0) -> Ops:
    """Return GEMMs next to which a transfer takes SMs, if the layer has a method for that.

    layer: see `gathered`. bytes_per_element: of the residual stream, which travels [B].
    """
    if work.tp == 1 or layer not in work.tp_overlap:
        return ops
    size = work.tokens * work.model.hidden_size * bytes_per_element  # [B]
    taken = Taken(size * work.tp_pass, work.tp_overlap[layer].sms)
    return overlap.sharing(ops, taken)


def weight_gradients(work: Work, layer: str, gradient: Item, others: Ops) -> Ops:
    """Return weight gradients of layers of which one leaves a sum to travel meanwhile.

    layer: the GEMM of that one, see `giving_sms`. Its gradient is all that the sum of its input's
    gradient overlaps: what autograd runs next reads that sum, and the others have run before.
    """
    if work.tp == 1:
        return (gradient, *others)
    first = giving_sms(work, layer, (gradient,))
    behind = [op._replace(joins=True) if isinstance(op, Op) else op for op in others]
    return (*first, *behind)


def _passes(work: Work) -> int:
    """Return how often a sum passes over its buffer: a reduce-scatter once, an all-reduce twice."""
    return 1 if work.sequence_parallel else 2


def input_gradient(work: Work, dgrad: Ops, layer: str = "", bytes_per_element: float = 0.0) -> Ops:
    """Return the input gradient of a layer that is cut by columns.

    Its input is gathered again while it runs, for the weight gradient; the sum over the group
    travels while the weight gradient runs (Megatron-LM,
    LinearWithGradAccumulationAndAsyncCommunication), or all wait for it. What was cast before it was gathered is
    transposed behind. layer: its GEMM, see `giving_sms`. bytes_per_element: see `gather`.
    """
    if work.tp == 1:
        return dgrad
    elements = work.tokens * work.model.hidden_size
    summed = elements * 2.0 * _passes(work)  # [B], in BF16
    concurrent = 0 if work.layers.waits_for_sums else LATE
    total = Transfer("sum input gradient", "tp", summed, concurrent=concurrent)
    if not work.sequence_parallel:
        return (*dgrad, total)
    # Each GPU has kept its own part alone: that is how sequence parallelism saves memory.
    gathered = elements * (bytes_per_element or work.recipe.activation)  # [B]
    again = Transfer("regather input", "tp", gathered, concurrent=len(dgrad))
    first: Ops = (again,)
    if layer in work.tp_overlap:
        first = (overlap.copied(again, work.tp), overlap.next_to(again))
        total = overlap.next_to(total)
    ops = (*first, *giving_sms(work, layer, dgrad, gathered / elements), total)
    if bytes_per_element or not work.recipe.transposes_gathered:
        return ops
    return (*ops, moved("transpose gathered", "transpose", elements, 2.0))


def split_at_sum(work: Work, before: Ops, after: Ops) -> tuple[Ops, Ops]:
    """Return an input gradient in two parts: up to its sum over the group, and the rest.

    Without tensor parallelism nothing travels, and all of it is in the first part.
    """
    if work.tp > 1:
        return before, after
    return (*before, *after), ()


def keys_and_values(work: Work, core: Ops, *, backward: bool = False) -> Ops:
    """Return attention with the keys and values of the other context parallel ranks.

    In a ring they travel while it runs (ring attention, arXiv 2310.01889; in the backward pass
    their gradients with them), or they are gathered before it, and their gradients scattered behind
    it (Llama 3, arXiv 2407.21783, section 3.3.2).
    """
    if work.cp == 1:
        return core
    # MLA's keys and values are expanded before they travel: a head of each for every query head.
    width = work.model.qk_dim + work.model.v_dim
    size = work.cp * work.tokens * work.attended_heads * width * 2.0
    if not work.cp_gather:
        carried = 2 if backward else 1
        ring = Transfer("ring", "cp", size * carried, concurrent=len(core))
        return (ring, *core)
    gathered = (Transfer("gather keys and values", "cp", size), *core)
    if not backward:
        return gathered
    return (*gathered, Transfer("scatter key-value gradients", "cp", size))


def gather_tokens(work: Work, name: str) -> Ops:
    """Return the gather of received tokens in an expert tensor group, in the format of dispatch."""
    return _expert_tensor(work, name, BYTES[work.recipe.dispatch])


def scatter_tokens(work: Work, name: str) -> Ops:
    """Return the scatter of what an expert tensor group computed of its tokens, in BF16."""
    return _expert_tensor(work, name, 2.0)


def _expert_tensor(work: Work, name: str, bytes_per_element: float) -> Ops:
    """Return a collective over an expert tensor group."""
    if work.etp == 1:
        return ()
    size = work.etp * work.received * work.model.hidden_size * bytes_per_element
    return (Transfer(name, "etp", size),)
