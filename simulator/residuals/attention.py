"""Fused attention compared with the kernel tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from simulator import inputs
from simulator.compute import Processor
from simulator.ops import Op
from simulator.ops.op import Shape, moved
from simulator.residuals.rows import (
    Residuals,
    Timed,
    against_table,
    benchmark,
    column,
    measured_table,
    processor,
    rated,
)

ATTENTION_TOKENS, ATTENTION_HIDDEN = 16384, 2048
"""FlashAttention's benchmarks: tokens in all, and heads x width."""


STORED = {"flash3": 1.53, "flash2": 0.81}
"""Time to store keys and values over that of a copy (fitted with `tail`)."""


def core(kind: str, width: float, length: int, matrices: float, passes: float = 1.0) -> Op:
    """Return causal attention.

    width: mean of those of keys and values. matrices: sequences times heads. passes: FLOPs over the
    forward pass's.
    """
    # Two products of length x length, of which the mask leaves half: 2 x 2 / 2 per element.
    flops = passes * 2.0 * matrices * length**2 * width
    return Op("", kind, flops, Shape(groups=round(matrices), k=round(width)), seq_length=length)


class Passes(NamedTuple):
    """Attention in both directions."""

    forward: Op
    """The forward pass."""
    backward: Op
    """The backward pass."""


def _both_passes(width: int, length: int, matrices: float) -> Passes:
    """Return forward and backward, 2.5 times the FLOPs. matrices: see `core`."""
    forward = core("attention", width, length, matrices)
    backward = core("attention_backward", width, length, matrices, passes=2.5)
    return Passes(forward, backward)


def _benchmark(width: int, length: int) -> Passes:
    """Return both passes of FlashAttention's benchmarks."""
    matrices = ATTENTION_TOKENS / length * ATTENTION_HIDDEN / width
    return _both_passes(width, length, matrices)


def attention() -> Iterator[Residuals]:
    """Yield every implementation of attention that was measured."""
    flash = measured_table("flash_attention")
    for name, widths in flash["h100"].items():
        measured: list[Timed] = []
        for width, bars in widths.items():
            measured += _bars(flash, width, bars)
        label = f"{name}, the figures' bars as they are"
        yield against_table("attention", label, processor("h100", attention=name), True, measured)
    yield _figure_of_ampere(flash)
    yield from _transformer_engine(flash)
    yield from _serving()
    yield from _cudnn()
    yield from _mla()
    yield from _blackwell()


def _bars(flash: dict[str, Any], width: str, bars: dict[str, Any]) -> Iterator[Timed]:
    """Yield what the bars [TFLOP/s] say of one width of a head: forward, then backward."""
    # A bar for each length of the sequences, in the order of `sequence`.
    passes = [_benchmark(int(width), length) for length in flash["sequence"]]
    for index, key in enumerate(("forward_causal", "backward")):
        for ops, tflops in zip(passes, bars[key], strict=True):
            yield rated(ops[index], tflops)


def _figure_of_ampere(flash: dict[str, Any]) -> Residuals:
    """Return FlashAttention 2 on A100, whose figure gives both passes together."""
    part = processor("a100")
    pairs = [_benchmark(64, length) for length in flash["sequence"]]
    rates = flash["a100"]["flash2"]["64"]["forward_backward_causal"]  # [length] TFLOP/s
    measured = []
    for (forward, backward), rate in zip(pairs, rates, strict=True):
        flops = forward.flops + backward.flops
        measured.append(flops / rate / 1e12)
    computed = [_alone(part, pair) for pair in pairs]
    return Residuals(
        group="attention",
        name="flash2, width 64, both passes",
        gpu="a100",
        fitted=True,
        measured=np.array(measured),
        computed=np.array(computed),
    )


def _transformer_engine(flash: dict[str, Any]) -> Iterator[Residuals]:
    """Return both passes of other shapes than the figures', a check."""
    rows = flash["transformer_engine"]
    for name in ("cudnn", "flash2"):
        part = processor("h100", attention=name)
        measured, computed = [], []
        for row in rows:
            matrices = row["batch"] * row["heads"]
            passes = _both_passes(128, row["sequence"], matrices)
            computed.append(_alone(part, passes))
            measured.append(row[f"{name}_ms"] * 1e-3)
        yield Residuals(
            group="attention",
            name=f"{name}, Transformer Engine's own benchmark",
            gpu="h100",
            fitted=False,
            measured=np.array(measured),
            computed=np.array(computed),
        )


def _alone(part: Processor, ops: Iterable[Op]) -> float:
    """Return what some ops take in a benchmark, one after another [s]."""
    return float(benchmark(part, ops).sum())


SERVING = (
    ("h100", "sglang", "flash3", True),
    ("h100", "vllm", "flash3", True),
    ("h200", "sglang", "flash3", False),
    ("a100", "sglang", "flash2", True),
)
"""GPU, framework, implementation of attention, and whether its tail is fitted to these rows."""


def _serving() -> Iterator[Residuals]:
    """Yield the forward pass by heads, sequences and length, with the store of keys and values."""
    table = inputs.table("attention_forward")
    for gpu, framework, name, fitted in SERVING:
        part = processor(gpu, attention=name)
        rows = [row for row in table if row["gpu"] == gpu and row["framework"] == framework]
        computed = [served(part, row, STORED[name]) for row in rows]
        yield Residuals(
            group="attention",
            name=f"{name} in {framework}, 8 to 64 heads, 1 to 4 sequences",
            gpu=gpu,
            fitted=fitted,
            measured=column(rows, "us"),
            computed=np.array(computed),
        )


def served(part: Processor, row: dict[str, str], stored: float) -> float:
    """Return what a serving framework takes for attention, keys and values stored before [s].

    stored: time to store them over that of a copy.
    """
    batch = int(row["batch"])
    length = int(row["length"])
    width = int(row["width"])
    kernel = core("attention", width, length, batch * int(row["heads"]))
    # Keys and values are read and written, 2 B an element.
    heads = int(row["kv_heads"])
    elements = 2.0 * batch * length * heads * width
    store = moved("", "copy", elements, 4.0)
    storing = stored * _alone(part, [store])
    gaps = 2 * part.kernels.gap
    return _alone(part, [kernel]) + storing + gaps


def _cudnn() -> Iterator[Residuals]:
    """Yield cuDNN's own benchmark on H200, causal."""
    rows = [row for row in inputs.table("cudnn_attention_h200") if row["mask"] == "causal"]
    for index, direction in enumerate(("forward", "backward")):
        for deterministic in ("false", "true"):
            some = [row for row in rows if row["deterministic"] == deterministic]
            wide = deterministic == "true"  # MLA alone was measured so
            name = "cudnn_deterministic" if wide else "cudnn"
            part = processor("h200", attention=name)
            passes = [_of_row(row)[index] for row in some]
            computed = [_alone(part, [op]) for op in passes]
            what = "192 / 128 wide (MLA)" if wide else "128 wide"
            yield Residuals(
                group="attention",
                name=f"{name} 9.19, {direction}, {what}",
                gpu="h200",
                fitted=wide,
                measured=column(some, f"{direction}_ms", unit=1e-3),
                computed=np.array(computed),
            )


def _of_row(row: dict[str, str]) -> Passes:
    """Return both passes of a row of cuDNN's benchmark."""
    keys = int(row["width"])
    values = int(row["value_width"])
    matrices = int(row["batch"]) * int(row["heads"])
    mean = (keys + values) / 2
    # Three products over the keys' width and two over the values', of one each in the forward pass.
    more = (3.0 * keys + 2.0 * values) / (keys + values)
    forward = core("attention", mean, int(row["length"]), matrices)
    shape = forward.shape._replace(k=keys)  # tables go by the width of a query
    forward = forward._replace(shape=shape)
    backward = forward._replace(kind="attention_backward", flops=more * forward.flops)
    return Passes(forward, backward)


def _mla() -> Iterator[Residuals]:
    """Yield MLA's forward pass in TensorRT-LLM, another kernel than the tables'."""
    table = inputs.table("mla_forward")
    for gpu in ("h100", "h200"):
        part = processor(gpu)
        rows = [row for row in table if row["gpu"] == gpu]
        computed = []
        for row in rows:
            matrices = int(row["batch"]) * int(row["heads"])
            op = core("attention", (192 + 128) / 2, int(row["length"]), matrices)
            shape = op.shape._replace(k=192)  # tables go by the width of a query
            computed.append(_alone(part, [op._replace(shape=shape)]))
        yield Residuals(
            group="attention",
            name="cudnn, 192 / 128 wide (MLA), TensorRT-LLM's with its stores",
            gpu=gpu,
            fitted=False,
            measured=column(rows, "us"),
            computed=np.array(computed),
        )


def _blackwell() -> Iterator[Residuals]:
    """Yield Blackwell's forward pass in two serving frameworks, other kernels than the table's."""
    table = [row | {"kv_heads": "8"} for row in inputs.table("blackwell_attention")]
    for gpu in ("b200", "gb200", "b300", "gb300"):
        part = processor(gpu)
        for framework, name in (("trtllm", "TensorRT-LLM"), ("vllm", "vLLM")):
            rows = [row for row in table if row["gpu"] == gpu and row["framework"] == framework]
            yield Residuals(
                group="attention",
                name=f"cudnn, 128 wide, {name}'s with its stores",
                gpu=gpu,
                fitted=False,
                measured=column(rows, "us"),
                computed=np.array([served(part, row, stored=1.0) for row in rows]),
            )
