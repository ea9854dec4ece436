"""What a workload file says, as validated configuration."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, field_validator

from simulator.errors import InputError
from simulator.experts import ExpertsConfig
from simulator.frozen import FINITE
from simulator.hardware import LossName
from simulator.layout import LayoutConfig
from simulator.precision import MEGATRON_RECOMPUTE, RECIPES, RECOMPUTE
from simulator.scenario.groups import CommunicationConfig
from simulator.units import Integer, Number

QUANTITIES = (
    "step_time_s",
    "tokens_per_second",
    "tokens_per_day",
    "tflops_per_gpu",
    "gpu_hours",
    "gpu_hours_per_trillion_tokens",
    "tokens_per_second_per_gpu",
    "wall_days",
    "cost_usd",
    "parameters",
    "active_parameters",
    "flops_per_token",
)
"""Figures of a report with which published ones can be compared."""
LIST_KEYS = (
    "layout.stages",
    "training.recompute",
    "assumed",
    "reference",
    "faults",
    "fabric.dims",
    "fabric.oversubscription",
)
"""Keys whose value is a list; a list for any other key is several values to compare."""


class _Section(BaseModel):
    model_config = FINITE


class ScheduleConfig(_Section):
    """The pipeline schedule."""

    name: str = Field(
        description="Order in which the ranks of a pipeline run forward and backward passes.",
        examples=["1f1b", "interleaved", "zb-1p", "dualpipe"],
    )
    limit: Number = Field(
        0,
        ge=0,
        description=(
            "Number of chunks whose activations a rank may hold, of zb-1p and zb-2p; 0 stands for "
            "the schedule's own."
        ),
        examples=[8],
    )
    file: str = Field(
        "",
        description=(
            "Grid of a custom schedule, as `simulate schedule` prints it; the path is relative to "
            "the workload file."
        ),
        examples=["my-schedule.txt"],
    )
    group: Integer = Field(
        0,
        ge=0,
        description=(
            "Number of micro-batches that a stage of interleaved runs in a row; 0 stands for pp."
        ),
    )
    overlap_moe_expert_parallel_comm: bool = Field(
        False,
        description=(
            "Whether 1f1b (with pp 1) and interleaved (with vpp 2 or more) run a forward and the "
            "backward behind it as a pair, layer by layer, so that dispatch and combine of one "
            "overlap compute of the other, as Megatron's option of that name does; one more "
            "micro-batch is in flight."
        ),
    )
    delay_wgrad_compute: bool = Field(
        False,
        description=(
            "Whether weight gradients in these pairs run behind the next dispatch rather than "
            "before it, as Megatron's option of that name has it."
        ),
    )


class OffloadConfig(_Section):
    """What waits, or lives, in the memory of the host."""

    activations: Number = Field(
        0,
        ge=0,
        le=1,
        description=(
            "Share of what transformer layers keep for their backward pass that waits for it in the "
            "memory of the host."
        ),
        examples=[0.5],
    )
    optimizer: Number = Field(
        0,
        ge=0,
        le=1,
        description=(
            "Share of the optimizer's states that the host keeps and updates (Megatron's "
            "optimizer_offload_fraction)."
        ),
        examples=[1],
    )


class TrainingConfig(_Section):
    """What one step and the whole run train on."""

    global_batch_size: Integer = Field(gt=0, description="Number of sequences per step.")
    micro_batch_size: Integer = Field(1, gt=0, description="Number of sequences per micro-batch.")
    seq_length: Integer = Field(gt=0, description="Number of tokens per sequence.")
    tokens: Number = Field(
        gt=0, description="Number of tokens of the whole run.", examples=[14.8e12]
    )
    attention: str = Field(
        "flash",
        description=(
            "Attention kernels: flash takes the GPU's usual fused ones, a name of its kernel table "
            "takes those, and unfused takes batched GEMMs and a softmax over the whole matrix."
        ),
        examples=["flash", "flash2", "cudnn", "unfused"],
    )
    loss: Literal["stack", LossName, "chunked"] = Field(
        "stack",
        description=(
            "How the cross-entropy over the vocabulary is computed: fused (one kernel writes the "
            "gradient over the BF16 logits), compiled (torch.compile), vocab_parallel "
            "(Megatron-LM's own, which keeps an FP32 softmax), fused_vocab_parallel (the same with "
            "--cross-entropy-loss-fusion, native, of 2026), unfused (PyTorch's, of an FP32 copy "
            "of the logits), chunked (head and loss by parts of the sequence, whose logits are "
            "never there as a whole), or stack: as the software stack does it."
        ),
    )
    cuda_graphs: Literal["none", "attention", "full"] = Field(
        "none",
        description=(
            "What is captured in CUDA graphs, which the host launches at once: nothing, attention "
            "with its projections, norms and router, or all kernels and exchanges of a layer (whose "
            "experts then get a fixed number of tokens)."
        ),
    )
    offload: OffloadConfig = Field(
        OffloadConfig.model_construct(),
        description="What waits, or lives, in the memory of the host.",
    )
    fragmentation: Number = Field(
        0.05,
        ge=0,
        description=(
            "Memory that the allocator loses, as a share of activations and buffers. PyTorch's "
            "loses next to nothing with expandable segments and up to 43% of its memory without "
            "(arXiv 2507.16274); the default is assumed, not measured."
        ),
        examples=[0.05],
    )
    recompute: tuple[str, ...] = Field(
        (),
        description=(
            f"What the backward pass recomputes, of {', '.join(RECOMPUTE)}; Megatron's names of "
            "modules are understood too. swiglu is every activation, moe_act that of routed "
            "experts; mlp is the FFN of dense layers, moe all of a MoE layer behind its norm, its "
            "exchanges included."
        ),
        examples=[["core_attention"], ["full"]],
    )
    recompute_layers: Integer = Field(
        0,
        ge=0,
        description=(
            "Of full: Megatron's --recompute-num-layers; 0 stands for every layer by itself."
        ),
        examples=[4],
    )
    recompute_method: Literal["uniform", "block"] = Field(
        "uniform",
        description=(
            "Of full with recompute_layers: uniform keeps the input of every so many layers and "
            "recomputes them together; block recomputes that many layers of each stage, and no more."
        ),
    )

    @field_validator("recompute", mode="before")
    @classmethod
    def _a_list(cls, names: object) -> object:
        if isinstance(names, str):
            raise InputError("is not a list", value=names, remedy=f"Write [{names}].")
        return names

    @field_validator("recompute")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in (*RECOMPUTE, *MEGATRON_RECOMPUTE):
                raise InputError(
                    "cannot be recomputed by name",
                    value=name,
                    remedy=f"Choose from: {', '.join(RECOMPUTE)}.",
                )
        return tuple(MEGATRON_RECOMPUTE.get(name, name) for name in names)


class PrecisionConfig(_Section):
    """The number formats of the run."""

    recipe: str = Field(
        "bf16",
        description=f"Recipe of number formats, one of {', '.join(RECIPES)}.",
        examples=["bf16", "fp8_block"],
    )
    gradients: Literal["fp32", "bf16"] = Field(
        "fp32", description="Number format in which gradients are summed and kept."
    )
    master: Literal["fp32", "remainders"] = Field(
        "fp32",
        description=(
            "How the optimizer keeps master weights: fp32, or remainders: the 16 bits that the BF16 "
            "parameters lack (Transformer Engine's store_param_remainders)."
        ),
    )
    moments: Literal["recipe", "fp32", "bf16"] = Field(
        "recipe",
        description=(
            "Number format of Adam's two moments (Megatron's exp_avg_dtype and exp_avg_sq_dtype); "
            "recipe: FP32, but BF16 in fp8_block."
        ),
    )

    @field_validator("recipe")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in RECIPES:
            raise InputError(
                "is not a recipe", value=name, remedy=f"Choose from: {', '.join(RECIPES)}."
            )
        return name


def _reported(name: str) -> str:
    if name not in QUANTITIES:
        raise InputError(
            "is not reported", value=name, remedy=f"Choose from: {', '.join(QUANTITIES)}."
        )
    return name


Quantity = Annotated[str, AfterValidator(_reported)]
"""The name of a figure that reports have."""


class Reference(_Section):
    """A published figure with which the simulated one is compared."""

    quantity: Quantity = Field(
        description=f"What was published, one of {', '.join(QUANTITIES)}.",
        examples=["step_time_s"],
    )
    value: Number = Field(
        gt=0, description="The published figure, in the quantity's unit.", examples=[19.91]
    )
    source: str = Field(
        description="Where it was published.", examples=["arXiv 2412.19437, section 1"]
    )


class Assumption(_Section):
    """A value that was not published, and the alternatives over which the report gives the span."""

    key: str = Field(
        description="Path of the assumed key in this file.", examples=["layout.stages"]
    )
    rule: str = Field(
        description="How the value was chosen, without looking at the result.",
        examples=["not published: Megatron's default"],
    )
    alternatives: tuple[Any, ...] = Field(
        (),
        description="Other values, which the report compares with the chosen one.",
        examples=[["even"], [2, 4]],
    )


class WorkloadConfig(_Section):
    """A training run: what is wanted."""

    name: str = Field(description="Name of the run in reports.", examples=["deepseek-v3"])
    model: dict[str, Any] = Field(
        description=(
            "Keys of the model as in Hugging Face's config.json; hf_config names such a file, "
            "relative to this one, or holds its keys, and other keys here override it."
        ),
        examples=[{"hf_config": "models/deepseek-v3.json"}],
    )
    layout: LayoutConfig = Field(description="Degrees of parallelism.")
    schedule: ScheduleConfig = Field(description="The pipeline schedule.")
    training: TrainingConfig = Field(description="Batch, sequence length and number of tokens.")
    precision: PrecisionConfig = Field(
        PrecisionConfig.model_construct(), description="Number formats."
    )
    stack: str = Field(
        "megatron",
        description=(
            "Software stack that launches the kernels: what its hosts need for that, and what it "
            "runs them with."
        ),
        examples=["megatron", "deepseek"],
    )
    experts: ExpertsConfig = Field(
        ExpertsConfig.model_construct(),
        description="How tokens choose experts, and what the exchange costs.",
    )
    communication: CommunicationConfig = Field(
        CommunicationConfig.model_construct(),
        description="Collective algorithms of the process groups, and what overlaps between stages.",
    )
    assumed: tuple[Assumption, ...] = Field(
        (),
        description="Values that were not published.",
        examples=[[{"key": "layout.vpp", "rule": "not published", "alternatives": [2, 4]}]],
    )
    reference: tuple[Reference, ...] = Field(
        (),
        description="Published figures of this run.",
        examples=[[{"quantity": "step_time_s", "value": 19.91, "source": "arXiv 2412.19437"}]],
    )
    published_on: str = Field(
        "",
        description="Name of the shipped topology on which the figures were measured.",
        examples=["h800-2048"],
    )
