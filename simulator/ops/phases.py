"""The phases of a block: what a schedule's actions are made of."""

from __future__ import annotations

from enum import StrEnum


class Pass(StrEnum):
    """What a phase computes: the forward pass, the input gradient or the weight gradient."""

    FORWARD = "F"
    INPUT = "I"
    WEIGHT = "W"


class Phase(StrEnum):
    """A run of ops between two places where an action may wait.

    `attention` is everything up to dispatch, `mlp` everything from there to combine; of a block
    without experts, its two halves.
    """

    ATTENTION_F = "attention_f"
    """Forward pass up to dispatch."""
    MLP_F = "mlp_f"
    """Forward pass from dispatch to combine."""
    MLP_B = "mlp_b"
    """Input gradient of `MLP_F`."""
    MLP_W = "mlp_w"
    """Weight gradients of `MLP_F` on the compute stream."""
    SIDE_W = "side_w"
    """Weight gradients of `MLP_F` on the side stream."""
    ATTENTION_B = "attention_b"
    """Input gradient of `ATTENTION_F`, up to its sum over the tensor parallel group."""
    ATTENTION_T = "attention_t"
    """The rest of that input gradient, once the sum has arrived."""
    ATTENTION_W = "attention_w"
    """Weight gradients of `ATTENTION_F`."""

    @property
    def computes(self) -> Pass:
        """Return the pass that the phase belongs to."""
        return _PASSES[self]

    @property
    def depends_on_load(self) -> bool:
        """Tell whether the phase runs routed experts, so that its time follows from their load."""
        return self in _OF_EXPERTS


_PASSES = {
    Phase.ATTENTION_F: Pass.FORWARD,
    Phase.MLP_F: Pass.FORWARD,
    Phase.MLP_B: Pass.INPUT,
    Phase.MLP_W: Pass.WEIGHT,
    Phase.SIDE_W: Pass.WEIGHT,
    Phase.ATTENTION_B: Pass.INPUT,
    Phase.ATTENTION_T: Pass.INPUT,
    Phase.ATTENTION_W: Pass.WEIGHT,
}
_OF_EXPERTS = {Phase.MLP_F, Phase.MLP_B, Phase.MLP_W, Phase.SIDE_W}
