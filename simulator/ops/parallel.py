"""The collectives of tensor, context and expert tensor parallelism between the ops of a layer.

Tensor parallelism: Shoeybi et al., arXiv 1909.08053, section 3: a pair of linear layers, cut by
columns, then by rows. With sequence parallelism the norms between them work on 1/tp of the tokens,
an all-gather stands before the first and a reduce-scatter behind the second; in the backward pass
they swap places, and the first layer's input is gathered once more for its weight gradient
(Korthikanti et al., arXiv 2205.05198, section 4.2.2). Without it an all-reduce stands behind the
second, and one behind the first's input gradient.
"""

from __future__ import annotations

from simulator.ops.op import LATE, Ops, Transfer, Work, moved, quantise
from simulator.precision import BYTES


def gather(work: Work, name: str = "gather input", width: int = 0, each: float = 0.0) -> Ops:
    """Return the all-gather before a layer that is cut by columns.

    width: of what is gathered, 0 for the residual stream's. each: bytes of an element, 0 for those
    of a GEMM's input.
    """
    if work.tp == 1 or not work.sequence_parallel:
        return ()
    size = work.tokens * (width or work.model.hidden_size) * (each or work.recipe.activation)
    return (Transfer(name, "tp", size, concurrent=1 if work.tp_overlap else 0),)


def cast_and_gather(work: Work, name: str = "gather input", width: int = 0) -> Ops:
    """Return the cast of a layer's input and its all-gather: what travels is cast before, each GPU its own tokens.

    Transformer Engine gathers FP8 (its `_all_gather_fp8`). width: see `gather`.
    """
    gathered = gather(work, name, width)
    tokens = work.own if gathered else float(work.tokens)
    return (*quantise(work.recipe, tokens * (width or work.model.hidden_size)), *gathered)


def scatter(work: Work, gemm: Ops = (), name: str = "scatter output", width: int = 0) -> Ops:
    """Return a layer that is cut by rows with what adds up its partial sums, in BF16.

    gemm: the layer; beside it if `tp_comm_overlap` says so, else behind it. width: see `gather`.
    """
    if work.tp == 1:
        return gemm
    size = (
        work.tokens * (width or work.model.hidden_size) * 2.0 * (1 if work.sequence_parallel else 2)
    )
    if work.tp_overlap and gemm:
        return (Transfer(name, "tp", size, concurrent=len(gemm)), *gemm)
    return (*gemm, Transfer(name, "tp", size))


def input_gradient(work: Work, dgrad: Ops, each: float = 0.0) -> Ops:
    """Return the input gradient of a layer that is cut by columns.

    Its input is gathered again beside it, for the weight gradient; the sum over the group travels
    beside the weight gradient (Megatron-LM, LinearWithGradAccumulationAndAsyncCommunication). What
    was cast before it was gathered is transposed behind. each: see `gather`.
    """
    if work.tp == 1:
        return dgrad
    size = work.tokens * work.model.hidden_size
    total = Transfer(
        "sum input gradient",
        "tp",
        size * 2.0 * (1 if work.sequence_parallel else 2),
        concurrent=LATE,
    )
    if not work.sequence_parallel:
        return (*dgrad, total)
    regathered = Transfer(
        "gather input again", "tp", size * (each or work.recipe.activation), concurrent=len(dgrad)
    )
    turned = (
        ()
        if each or not work.recipe.casts_once
        else (moved("transpose gathered", "transpose", size, 2.0),)
    )
    return (regathered, *dgrad, total, *turned)


def keys_and_values(work: Work, core: Ops, *, backward: bool = False) -> Ops:
    """Return attention with the keys and values of the other context parallel ranks.

    In a ring they travel beside it (ring attention, arXiv 2310.01889; in the backward pass their
    gradients with them), or they are gathered before it, and their gradients scattered behind it
    (Llama 3, arXiv 2407.21783, section 3.3.2).
    """
    if work.cp == 1:
        return core
    heads = work.heads if work.model.is_mla else work.kv_heads
    size = work.cp * work.tokens * heads * (work.model.qk_dim + work.model.v_dim) * 2.0
    if not work.cp_gather:
        return (Transfer("ring", "cp", size * (2 if backward else 1), concurrent=len(core)), *core)
    after = (Transfer("scatter key-value gradients", "cp", size),) if backward else ()
    return (Transfer("gather keys and values", "cp", size), *core, *after)


def gather_tokens(work: Work, name: str) -> Ops:
    """Return the gather of received tokens in an expert tensor group, in the format of dispatch."""
    return _expert_tensor(work, name, BYTES[work.recipe.dispatch])


def scatter_tokens(work: Work, name: str) -> Ops:
    """Return the scatter of what an expert tensor group computed of its tokens, in BF16."""
    return _expert_tensor(work, name, 2.0)


def _expert_tensor(work: Work, name: str, width: float) -> Ops:
    """Return a collective over an expert tensor group. width: bytes of an element [B]."""
    if work.etp == 1:
        return ()
    return (Transfer(name, "etp", work.etp * work.received * work.model.hidden_size * width),)
