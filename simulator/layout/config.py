"""Degrees of parallelism as a workload file gives them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, field_validator

from simulator.errors import InputError, LayoutError
from simulator.frozen import FROZEN
from simulator.layout.zero import ZeroStage
from simulator.units import Integer, integer

STAGE_RULES = ("balanced", "even")
DIMENSIONS = ("tp", "cp", "ep", "dp", "pp")


def _stages(value: object) -> object:
    if isinstance(value, list | tuple) and all(map(_names_a_stage, value)):
        return tuple(map(str, value))
    if value not in STAGE_RULES:
        raise LayoutError(
            "is not a stage map",
            value=value,
            remedy=f"Write one text per stage, or {' or '.join(STAGE_RULES)}.",
        )
    return value


def _names_a_stage(text: object) -> bool:
    # YAML reads a stage of one layer as a number.
    return isinstance(text, str | int)


class LayoutConfig(BaseModel):
    """Degrees of parallelism, in Megatron's names."""

    model_config = FROZEN

    tp: Integer = Field(1, gt=0, description="Tensor parallel degree: GPUs that share each matrix.")
    cp: Integer = Field(
        1, gt=0, description="Context parallel degree: GPUs that share each sequence."
    )
    pp: Integer = Field(1, gt=0, description="Pipeline parallel degree: ranks of a pipeline.")
    vpp: Integer = Field(
        1, gt=0, description="Virtual stages per pipeline rank, of interleaved schedules."
    )
    ep: Integer = Field(
        1,
        gt=0,
        description=(
            "Expert parallel degree: GPUs that share the routed experts of a layer; etp x ep "
            "divides tp x cp x dp."
        ),
    )
    etp: Integer = Field(
        0,
        ge=0,
        description=(
            "Tensor parallel degree of the routed experts; 0 stands for tp, Megatron's default."
        ),
    )
    zero: Annotated[Literal[0, 1, 2, 3], BeforeValidator(integer)] = Field(
        1,
        description=(
            "ZeRO stage: 1 shards optimizer states over data parallel ranks, 2 also gradients, "
            "3 also parameters."
        ),
    )
    shard: Integer = Field(
        0,
        ge=0,
        description=(
            "Number of ranks that hold one copy of the shards (hybrid sharding); 0 stands for all "
            "data parallel ranks."
        ),
    )
    sequence_parallel: bool = Field(
        True,
        description=(
            "Whether norms and the residual stream hold 1/tp of the tokens on each tensor "
            "parallel rank."
        ),
    )
    cp_comm: Literal["p2p", "all_gather", "a2a"] | None = Field(
        None,
        description=(
            "How context parallel ranks share attention: p2p passes keys and values round a ring "
            "during it, all_gather collects them before it (PyTorch: during its first kernel), a2a "
            "(DeepSpeed-Ulysses) exchanges sequence for heads before and behind it. Default: p2p; "
            "all_gather in PyTorch's own stacks."
        ),
        examples=["all_gather"],
    )
    tp_comm_overlap: bool = Field(
        False,
        description=(
            "Whether gathers and scatters of tensor parallelism are overlapped with their GEMMs, as "
            "the software stack does it; only with sequence_parallel."
        ),
    )
    reshard_after_forward: bool = Field(
        True,
        description="Whether ZeRO stage 3 gathers parameters again before each backward pass.",
    )
    grad_sync: Literal["every_micro_batch", "last"] | None = Field(
        None,
        description=(
            "When data parallel ranks sum gradients: after every_micro_batch, or after the last one, "
            "until which each keeps all of them. Default: every_micro_batch under ZeRO 2 and 3, else "
            "last."
        ),
        examples=["last"],
    )
    overlap_grad_reduce: bool = Field(
        True,
        description=(
            "Whether gradients are reduced block by block during the backward pass, not after it."
        ),
    )
    overlap_param_gather: bool = Field(
        True,
        description=(
            "Whether parameters are gathered block by block during the first forward pass, not "
            "before it."
        ),
    )
    order: str = Field(
        "tp-cp-ep-dp-pp",
        description="Dimensions from the one whose rank index varies fastest to the slowest.",
        examples=["tp-cp-ep-dp-pp"],
    )
    stages: Annotated[tuple[str, ...] | str, BeforeValidator(_stages)] = Field(
        "balanced",
        description=(
            "Blocks of each pipeline stage, or a rule: balanced (the longest stage is as short as "
            "can be, in seconds of ops) or even (as many transformer layers on each)."
        ),
        examples=["even", ["embedding 0-4", "5-10 head"]],
    )

    @property
    def syncs_every_pass(self) -> bool:
        """Tell whether gradients are summed after the backward pass of every micro-batch."""
        if self.grad_sync:
            return self.grad_sync == "every_micro_batch"
        return self.zero >= ZeroStage.GRADIENTS

    @field_validator("order")
    @classmethod
    def _names_each_dimension_once(cls, order: str) -> str:
        named = order.split("-")
        if sorted(named) != sorted(DIMENSIONS):
            raise InputError(
                "does not name each dimension once",
                value=order,
                remedy="Write tp-cp-ep-dp-pp.",
            )
        return order
