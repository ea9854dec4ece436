"""The kinds of transfers of a step: whose traffic they are, which op they run, who takes part."""

from __future__ import annotations

from enum import StrEnum

from simulator.ops import Pass


class Traffic(StrEnum):
    """Whose traffic a transfer is, as `traffic_bytes` and `communication` name it."""

    EXPERT = "expert"
    PIPELINE = "pipeline"
    DATA = "data"
    TENSOR = "tensor"
    CONTEXT = "context"


class CoflowKind(StrEnum):
    """What a coflow does. Its value is how rows of a program and `layout.GROUPS` name it."""

    DISPATCH = "dispatch"
    """Tokens to their experts, by a layout that is found first."""
    CACHED_DISPATCH = "cached_dispatch"
    """Gradients of combine to the experts, by the layout of the forward pass."""
    COMBINE = "combine"
    """What experts make of tokens, and the gradients of their inputs, back home."""
    FORWARD = "F"
    """A stage's output to the next stage."""
    BACKWARD = "B"
    """The gradient of a stage's input to the stage before it."""
    REDUCE_SCATTER = "reduce_scatter"
    """A bucket's gradients, summed over the holders of its parameters."""
    ALL_GATHER = "all_gather"
    """A bucket's parameters, or without ZeRO the sums of its gradients."""
    ALL_REDUCE = "all_reduce"
    """A shard's sums of gradients over the groups of hybrid sharding: two passes over the shard."""
    TENSOR = "tp"
    """Gathers and scatters of a tensor parallel group."""
    USERBUFFERS = "userbuffers"
    """The same by Transformer Engine's own kernels and copies, while GEMMs run."""
    CONTEXT = "cp"
    """Keys and values of a context parallel group."""
    CONTEXT_RING = "cp_ring"
    """The same from each rank of the group to the next, by sends: one hop of a ring."""
    ULYSSES = "ulysses"
    """A context parallel group's parts of the sequence for parts of the heads, and back."""
    EXPERT_TENSOR = "etp"
    """Gathers and scatters of a tensor parallel group of experts."""

    @property
    def traffic(self) -> Traffic:
        """Return whose traffic it is."""
        return _TRAFFIC[self]

    @property
    def op(self) -> str:
        """Return the op that makes one pass over its buffer; nothing of an exchange of tokens."""
        return _OPS.get(self, "")

    @property
    def one_sided(self) -> bool:
        """Tell whether only its source takes part, and its target receives next to other work."""
        return self in SENDS

    @property
    def returns(self) -> bool:
        """Tell whether copies of tokens go back to where they came from."""
        return self is CoflowKind.COMBINE


EXCHANGES = (CoflowKind.DISPATCH, CoflowKind.CACHED_DISPATCH, CoflowKind.COMBINE)
"""Between a token's GPU and its experts'."""
SENDS = (CoflowKind.FORWARD, CoflowKind.BACKWARD)
"""Between two pipeline stages."""
DATA = (CoflowKind.REDUCE_SCATTER, CoflowKind.ALL_GATHER, CoflowKind.ALL_REDUCE)
"""Between the holders of the same parameters."""
INSIDE = (
    CoflowKind.TENSOR,
    CoflowKind.USERBUFFERS,
    CoflowKind.CONTEXT,
    CoflowKind.CONTEXT_RING,
    CoflowKind.ULYSSES,
    CoflowKind.EXPERT_TENSOR,
)
"""Between the ops of a layer."""

_TRAFFIC = {
    **dict.fromkeys(EXCHANGES, Traffic.EXPERT),
    **dict.fromkeys(SENDS, Traffic.PIPELINE),
    **dict.fromkeys(DATA, Traffic.DATA),
    CoflowKind.TENSOR: Traffic.TENSOR,
    CoflowKind.USERBUFFERS: Traffic.TENSOR,
    CoflowKind.CONTEXT: Traffic.CONTEXT,
    CoflowKind.CONTEXT_RING: Traffic.CONTEXT,
    CoflowKind.ULYSSES: Traffic.CONTEXT,
    CoflowKind.EXPERT_TENSOR: Traffic.TENSOR,
}
# An all-reduce, and what is summed inside a layer, is counted as passes of an all-gather: both
# passes cross the same links with the same bytes.
_OPS = {
    **dict.fromkeys(SENDS, "send_recv"),
    **dict.fromkeys((*DATA, *INSIDE), "all_gather"),
    CoflowKind.REDUCE_SCATTER: "reduce_scatter",
    CoflowKind.ULYSSES: "all_to_all",
}

EXCHANGES_OF = {
    Pass.FORWARD: (CoflowKind.DISPATCH, CoflowKind.COMBINE),
    Pass.INPUT: (CoflowKind.CACHED_DISPATCH, CoflowKind.COMBINE),
    Pass.WEIGHT: (),
}
"""Pass -> the exchanges of a block with routed experts, in order."""
