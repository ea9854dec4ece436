"""How a software stack gathers sharded parameters and scatters their gradients (ZeRO 2 and 3)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simulator.hardware.data import Data
from simulator.units import Integer, Seconds


class Sharding(Data):
    """What goes with gathers of parameters and reductions of gradients.

    The defaults are a stack that gathers into the parameters' own buffer, one block ahead.
    """

    copies_out: bool = Field(
        False,
        description=(
            "Whether gathered parameters are copied out of the buffer in which they arrive, by a "
            "kernel on the compute stream."
        ),
    )
    copies_in: bool = Field(
        False,
        description=(
            "Whether gradients are copied into the buffer from which they are reduced, by a kernel "
            "on the compute stream."
        ),
    )
    casts_apart: bool = Field(
        False,
        description=(
            "Whether the copy in leaves gradients in BF16, and a kernel of its own casts them to "
            "what is summed, where that is FP32."
        ),
    )
    divides: bool = Field(
        False,
        description="Whether a kernel divides gradients before they are reduced, so that none overflow.",
    )
    forward_prefetch: Literal["always", "with_experts", "never"] = Field(
        "always",
        description=(
            "Whether the host launches a block's gather before the kernels of the block in front of "
            "it in forward passes, or does so only with expert parallelism."
        ),
    )
    backward_prefetch: bool = Field(
        True, description="The same in backward passes; False: behind that block's reduction."
    )
    buffers: Integer = Field(
        1,
        ge=1,
        description=(
            "Where parameters are copied out: how many buffers hold gathered blocks in a forward "
            "pass. A gather waits until one is copied out. In a backward pass there is one."
        ),
        examples=[2],
    )
    one_stream: bool = Field(
        False, description="Whether gathers and reductions run in one order, on one stream."
    )
    reductions: Integer = Field(
        0,
        ge=0,
        description=(
            "How many reductions may be in flight when a block's gradients are copied in; 0: any "
            "number."
        ),
        examples=[1],
    )
    kept: tuple[str, ...] = Field(
        (),
        description="Kinds of blocks that stay gathered from their forward to their backward pass.",
        examples=[["embedding", "head"]],
    )
    masters: bool = Field(
        False,
        description=(
            "Whether the shards are the FP32 master weights, cast as they are gathered, with no "
            "BF16 copy of their own."
        ),
    )
    host: Seconds = Field(
        0.0,
        ge=0,
        description=(
            "Time that the host takes for a gather or a reduction, with a profiler on [s]; 0: as "
            "any launch of a collective."
        ),
        examples=["370 us"],
    )
