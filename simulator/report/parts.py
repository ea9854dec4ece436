"""The parts of a step, the kinds of traffic and of chunks: names, meanings and colours, known here alone.

Text, JSON, figures and pages read these tables, so that a part has one name and a colour one meaning
wherever it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass

from simulator.collectives.kinds import Traffic
from simulator.report import palette


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a step: one of the things that its time is spent on."""

    name: str
    """Key in `breakdown_s`."""
    text: str
    """Name in figures and on pages."""
    meaning: str
    """What the time is spent on, as the report puts it next to the figure."""
    colour: str
    """Colour as #RRGGBB."""
    hidden_if_zero: bool = False
    """True where a table leaves the part out if none of it runs; others are always listed."""


@dataclass(frozen=True, slots=True)
class TrafficKind:
    """A kind of traffic between GPUs."""

    name: str
    """Key in `traffic_bytes`, and `Coflow.traffic`."""
    text: str
    """Name in figures and on pages."""
    colour: str
    """Colour as #RRGGBB: that of the part in which its transfers are exposed."""


@dataclass(frozen=True, slots=True)
class ChunkKind:
    """A kind of chunk: what a rank computes in one slot of its pipeline schedule."""

    name: str
    """Kind as an action prints it (`F3@1`), and key in `phases_s`; `update` for the optimizer step."""
    text: str
    """Name in figures and on pages."""
    colour: str
    """Colour as #RRGGBB."""


# A step's figure shows all three tables at once, so no colour may serve twice. Chunks have Okabe and
# Ito's, as figures of papers do. Compute is neutral slate, so that exposed communication stands out
# in hues that chunks leave free.
_OPTIMIZER = palette.GREY
_EXPERT = palette.VERMILLION
_TENSOR = "#6A3FB5"
_CONTEXT = "#B9A3EA"
_PIPELINE = "#B3125C"
_DATA = "#7B4A1E"
_HOST = "#2F8F83"
_INTERFERENCE = "#C9A227"
_OFFLOAD = "#8AA05A"

PARTS = (
    Part("gemm", "GEMM", "matrix multiplications, including weight gradients", "#3F5172"),
    Part("attention", "attention", "fused attention, forward and backward", "#6F83A6"),
    Part(
        "memory_bound",
        "memory-bound",
        "casts, norms, activations, permutes and the router",
        "#A1B1CD",
    ),
    Part("kernel_gaps", "kernel gaps", "gaps between kernels on the same stream", "#C6D6F2"),
    Part(
        "optimizer",
        "optimizer",
        "AdamW on this rank's shard, with copies, clipping and its sums",
        _OPTIMIZER,
    ),
    Part(
        "offload",
        "offload",
        "waiting for copies of activations to or from the host's memory",
        _OFFLOAD,
        hidden_if_zero=True,
    ),
    Part(
        "interference",
        "interference",
        "kernels slowed by transfers that run next to them",
        _INTERFERENCE,
        hidden_if_zero=True,
    ),
    Part(
        "host_exposed",
        "host exposed",
        "waiting for the host to launch what could run",
        _HOST,
        hidden_if_zero=True,
    ),
    Part(
        "expert_waiting",
        "expert waiting",
        "waiting for the slowest member of an exchange",
        "#F3BC96",
        hidden_if_zero=True,
    ),
    Part(
        "expert_exposed",
        "expert exposed",
        "dispatch and combine that no compute hides",
        _EXPERT,
        hidden_if_zero=True,
    ),
    Part(
        "tensor_exposed",
        "tensor exposed",
        "gathers and scatters inside layers",
        _TENSOR,
        hidden_if_zero=True,
    ),
    Part(
        "context_exposed",
        "context exposed",
        "keys and values of the other parts of a sequence",
        _CONTEXT,
        hidden_if_zero=True,
    ),
    Part("pipeline_exposed", "pipeline exposed", "a stage's output in transit", _PIPELINE),
    Part(
        "data_exposed",
        "data exposed",
        "gradient reduce-scatter and parameter all-gather",
        _DATA,
    ),
    Part("bubble", "bubble", "nothing to do", "#E6E6E6"),
)
"""In the order of `breakdown_s`: compute, then what leaves a rank's SMs idle."""

TRAFFIC_KINDS = (
    TrafficKind(Traffic.EXPERT.value, "expert exchange", _EXPERT),
    TrafficKind(Traffic.PIPELINE.value, "pipeline send", _PIPELINE),
    TrafficKind(Traffic.DATA.value, "data parallel", _DATA),
    TrafficKind(Traffic.TENSOR.value, "tensor parallel", _TENSOR),
    TrafficKind(Traffic.CONTEXT.value, "context parallel", _CONTEXT),
)
"""In the order of `traffic_bytes`."""

HOST_LANE = TrafficKind("host", "host launching", _HOST)
"""What hosts do, drawn below the traffic of their ranks."""

CHUNK_KINDS = (
    ChunkKind("F", "forward", palette.ORANGE),
    ChunkKind("B", "full backward", palette.GREEN),
    ChunkKind("I", "input gradient", palette.SKY),
    ChunkKind("W", "weight gradient", palette.BLUE),
    ChunkKind("FB", "overlapped pair", palette.PINK),
    ChunkKind("update", "optimizer", _OPTIMIZER),
)
"""In the order of `phases_s`."""
