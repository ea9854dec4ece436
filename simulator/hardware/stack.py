"""A software stack, what runs on the host and launches kernels: `simulator/data/stacks/<name>.yaml`."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from simulator.hardware.data import Data
from simulator.hardware.model_code import FUSED, ModelCode
from simulator.hardware.sharding import Sharding
from simulator.hardware.tensor_overlap import TensorOverlap
from simulator.units import Integer

Drain: TypeAlias = Literal["gradient_norm", "token_counts", "receive"]
"""Something that the host waits for, so that its queue of launches runs dry."""


StepSum: TypeAlias = Literal["gradient_norm", "optimizers", "norms", "tied_embedding", "loss"]
"""A small all-reduce at the end of a step, see `program.step_sums`."""


LossName: TypeAlias = Literal[
    "fused", "compiled", "vocab_parallel", "fused_vocab_parallel", "unfused"
]
"""How the cross-entropy of whole logits is computed, see `ops.loss`."""


class StackHost(Data):
    """The hosts of a stack."""

    pace: str = Field(
        description="How long launches take: a file of simulator/data/hosts.", examples=["lean"]
    )
    measured: bool = Field(
        False,
        description=(
            "Whether that pace is from a profile of this very stack. Where it is not, a report "
            "gives the step at every pace."
        ),
    )
    drains: tuple[Drain, ...] = Field(
        (),
        description=(
            "What the host waits for before it launches more: gradient_norm (at the end of a "
            "step), token_counts (of a dispatch in a forward pass) or receive (of what another "
            "stage sends, in schedules without virtual stages)."
        ),
        examples=[["gradient_norm", "token_counts"]],
    )


PostsOverlap: TypeAlias = Literal["none", "serial", "steady", "all"]
"""Which sends and receives between stages travel next to compute, as `communication.pipeline.overlap`."""


class PipelineSends(Data):
    """How a stack sends between the stages of a pipeline."""

    single: PostsOverlap = Field(
        description="Which sends and receives overlap compute with one stage per rank."
    )
    virtual: PostsOverlap = Field(
        description="Which sends and receives overlap compute with several stages per rank."
    )
    pairs: bool = Field(
        False,
        description=(
            "Whether it can overlap dispatch and combine with the other micro-batch's compute "
            "(schedule.overlap_moe_expert_parallel_comm)."
        ),
    )


class ExpertKernels(Data):
    """Which kernels a stack runs for the routed experts of a GPU."""

    kernels: Literal["deepseek", "per_expert", "grouped"] = Field(
        description=(
            "Which kernels: per_expert: a GEMM and a cast for each expert, the GEMMs on several "
            "streams (Transformer Engine's GroupedLinear); grouped: one kernel for all experts of a GPU; "
            "deepseek: one too, its own, but one per expert for weight gradients, on two streams."
        )
    )
    dispatcher: str = Field(
        description=(
            "What brings tokens to their experts by default, as experts.dispatcher; where it does "
            "not run on the GPU, all_to_all does."
        ),
        examples=["all_to_all"],
    )
    streams: Integer = Field(
        1,
        ge=1,
        description="Streams on which the GEMMs of per_expert run; 1: one after another.",
        examples=[4],
    )
    router: Integer = Field(
        ge=1,
        description="Number of small kernels of the router in the forward pass.",
        examples=[35],
    )
    router_backward: Integer = Field(
        ge=1, description="The same in the backward pass.", examples=[35]
    )
    mapping: Integer = Field(
        ge=1, description="Number of small kernels that map tokens to experts.", examples=[4]
    )
    row_multiple: Integer = Field(
        1,
        ge=1,
        description=(
            "What the rows of an expert are padded to before FP8 GEMMs, by kernels of their own; "
            "1: they are not."
        ),
        examples=[16],
    )


class LayerKernels(Data):
    """What a stack's linear layers run besides their GEMMs, and what they wait for."""

    biases: bool = Field(
        False,
        description=(
            "Whether kernels of their own add the biases that no fused kernel adds; otherwise the "
            "GEMMs do, as cuBLASLt's can."
        ),
    )
    sums_biases: bool = Field(
        False,
        description=(
            "Whether kernels of their own sum the gradients of biases, as autograd's do; otherwise "
            "the GEMMs do, as cuBLASLt's can."
        ),
    )
    adds_gradients: bool = Field(
        False,
        description=(
            "Whether a weight gradient is written by its GEMM and added to the sum of the other "
            "micro-batches by a kernel of its own."
        ),
    )
    waits_for_sums: bool = Field(
        False,
        description=(
            "Whether everything waits for the sum of an input gradient over a tensor parallel "
            "group; otherwise it travels next to the weight gradient."
        ),
    )


class OptimizerKernels(Data):
    """What a stack does with gradients and parameters around AdamW, as passes over HBM.

    AdamW itself reads the gradient and reads and writes master weight and moments.
    """

    held_passes: Integer = Field(
        ge=0,
        description=(
            "Reads and writes of all gradients that a GPU holds: scaling before they are summed, "
            "zeroing."
        ),
        examples=[3],
    )
    shard_passes: Integer = Field(
        ge=0,
        description=(
            "Reads and writes of the gradients that a GPU updates: norm, clipping, unscaling."
        ),
        examples=[3],
    )
    fused: bool = Field(
        True,
        description=(
            "Whether one kernel updates a parameter and both moments; False: one for each product, "
            "sum and root, in FP32."
        ),
    )
    copies: bool = Field(
        description="Whether a kernel of its own reads master weights and writes parameters."
    )
    casts_moments: bool = Field(
        False,
        description=(
            "Whether moments that are kept in BF16 are copied to FP32 before the update, and back "
            "behind it."
        ),
    )
    copies_gradients: bool = Field(
        False,
        description="Whether gradients that are summed in BF16 are copied to FP32 for the update.",
    )


class StackConfig(Data):
    """A software stack."""

    name: str = Field(
        description="Name of the stack, as workloads write it.", examples=["megatron"]
    )
    host: StackHost = Field(description="What the host does to launch kernels.")
    tensor_overlap: TensorOverlap = Field(
        TensorOverlap.model_construct(),
        description="How GEMMs overlap the collectives of tensor parallelism (tp_comm_overlap).",
    )
    pipeline: PipelineSends = Field(description="Its sends between pipeline stages.")
    experts: ExpertKernels = Field(description="The kernels of routed experts.")
    optimizer: OptimizerKernels = Field(description="What surrounds AdamW.")
    step_sums: tuple[StepSum, ...] = Field(
        ("gradient_norm",),
        description=(
            "What it sums at the end of a step besides gradients: gradient_norm (over all GPUs; "
            "optimizers: once for dense and once for routed parameters), norms (gradients of norms "
            "over tensor parallel ranks, with sequence_parallel), tied_embedding (gradients of an "
            "embedding that the last stage holds a copy of), loss (over data parallel ranks)."
        ),
        examples=[["gradient_norm", "loss"]],
    )
    layers: LayerKernels = Field(
        LayerKernels.model_construct(),
        description="What its linear layers run besides their GEMMs.",
    )
    sharding: Sharding = Field(
        Sharding.model_construct(),
        description="How it gathers sharded parameters and scatters gradients.",
    )
    norm: Literal["norm", "fused_norm", "compiled_norm", "apex_norm"] = Field(
        description=(
            "Its norms: DeepSeek's own, those of Transformer Engine, what torch.compile makes, or "
            "Apex's and Megatron-LM's of 2020."
        )
    )
    loss: LossName = Field(
        description="How it computes the cross-entropy by default, see training.loss."
    )
    code: ModelCode = Field(FUSED, description="What its models run between GEMMs.")
    attention: str = Field(
        "",
        description=(
            "Implementation of fused attention that it brings, where it was measured on the GPU; "
            "empty: what Transformer Engine takes."
        ),
        examples=["deepseek"],
    )
    sources: dict[str, str] = Field(
        description="Key of this file -> where its value was published.",
        examples=[{"host": "DeepSeek's profile"}],
    )
