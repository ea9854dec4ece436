"""Degrees of parallelism as a workload file gives them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from simulator.errors import InputError, LayoutError

STAGE_RULES = ("balanced", "even")
DIMENSIONS = ("tp", "cp", "ep", "dp", "pp")


def _stages(value: object) -> object:
    if isinstance(value, list | tuple) and all(isinstance(text, str | int) for text in value):
        return tuple(str(text) for text in value)  # YAML reads a stage of one layer as a number
    if value not in STAGE_RULES:
        raise LayoutError(
            "is no map",
            value=value,
            remedy=f"Write one text per stage, or {' or '.join(STAGE_RULES)}.",
        )
    return value


class LayoutConfig(BaseModel):
    """Degrees of parallelism, in Megatron's names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tp: int = Field(1, gt=0, description="tensor parallel degree")
    cp: int = Field(1, gt=0, description="context parallel degree: GPUs that share a sequence")
    pp: int = Field(1, gt=0, description="pipeline ranks")
    vpp: int = Field(
        1, gt=0, description="virtual stages per pipeline rank, of interleaved schedules"
    )
    ep: int = Field(1, gt=0, description="expert parallel degree; etp x ep divides tp x cp x dp")
    etp: int = Field(
        0,
        ge=0,
        description="tensor parallel degree of the routed experts; 0: as tp, Megatron's default",
    )
    zero: Literal[0, 1, 2, 3] = Field(
        1,
        description="ZeRO stage: 1 shards optimizer states over data parallel ranks, 2 gradients, 3 parameters",
    )
    shard: int = Field(
        0, ge=0, description="hybrid sharding: ranks that hold one copy of the shards; 0: all"
    )
    sequence_parallel: bool = Field(
        True, description="norms and residual stream on 1/tp of the tokens each"
    )
    cp_comm: Literal["p2p", "all_gather"] = Field(
        "p2p",
        description="keys and values travel in a ring beside attention, or are gathered before it",
    )
    tp_comm_overlap: bool = Field(
        False, description="gathers and scatters of tensor parallelism beside their GEMMs"
    )
    reshard_after_forward: bool = Field(
        True, description="ZeRO 3 gathers parameters again before each backward pass"
    )
    overlap_grad_reduce: bool = Field(
        True, description="gradients travel block by block beside the backward pass"
    )
    overlap_param_gather: bool = Field(
        True, description="parameters travel block by block beside the first forward"
    )
    order: str = Field(
        "tp-cp-ep-dp-pp", description="dimensions from the fastest rank index to the slowest"
    )
    stages: Annotated[tuple[str, ...] | str, BeforeValidator(_stages)] = Field(
        "balanced",
        description="blocks per stage, such as 'embedding 0-4' and '58-60 head mtp', or a rule: balanced (the longest "
        "stage is shortest, in op seconds) or even (as many transformer layers on each)",
    )

    @field_validator("order")
    @classmethod
    def _names_each_dimension_once(cls, order: str) -> str:
        if sorted(order.split("-")) != sorted(DIMENSIONS):
            raise InputError(
                "does not name each dimension once", value=order, remedy="Write tp-cp-ep-dp-pp."
            )
        return order
