"""Measured kernels beside what the kernel tables say of them: how well each class of op is described.

Benchmarks ran alone and in a loop, so GEMMs are compared without `sustained` and nothing runs
beside communication. The measurements are those of `simulator/data/measured`; no training step is
among them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator import inputs
from simulator.compute import Processor
from simulator.hardware import GpuConfig, KernelConfig
from simulator.ops import Op
from simulator.ops.op import Shape, gemm, moved, wgrad
from simulator.precision import Dtype

Floats = NDArray[np.float64]

ATTENTION_TOKENS, ATTENTION_HIDDEN = 16384, 2048
"""FlashAttention's benchmarks: tokens in all, and heads x width."""
VIDUR = {"norm": ("norm", 4.0), "add": ("residual_add", 6.0), "activation": ("activation", 6.0)}
"""what vidur measured -> kind of op, and bytes per element that must move."""
NVLINK_LATENCY = 3.33e-6
"""Of a round [s], as topologies have it by default: arXiv 2505.09343, table 5."""
LARGE = 8e6
"""Collectives of tensor parallelism move at least this [B]."""


@dataclass(frozen=True, slots=True)
class Residuals:
    """One class of op: what was measured and what the table computes, row by row [s].

    group: kind of figure. fitted: whether the table's constants come from these rows; otherwise
    they are a check.
    """

    group: str
    name: str
    gpu: str
    fitted: bool
    measured: Floats
    computed: Floats

    @property
    def errors(self) -> Floats:
        """Return the signed relative errors [row]."""
        found: Floats = self.computed / self.measured - 1.0
        return found

    @property
    def bias(self) -> float:
        """Return the mean of the signed errors."""
        return float(self.errors.mean())

    @property
    def rms(self) -> float:
        """Return the root of the mean square of the errors."""
        return float(np.sqrt((self.errors**2).mean()))

    @property
    def worst(self) -> float:
        """Return the error furthest from zero."""
        return float(self.errors[np.abs(self.errors).argmax()])


def residuals() -> tuple[Residuals, ...]:
    """Return every class of op that was measured, with its residuals."""
    return (*_gemms(), *_memory_bound(), *_attention(), *_links())


def processor(gpu: str, reserved_sms: int = 0, attention: str = "") -> Processor:
    """Return a shipped GPU with its kernel table."""
    sheet = inputs.validate(inputs.data("gpus", gpu), GpuConfig)
    kernels = inputs.validate(inputs.data("kernels", sheet.kernels), KernelConfig)
    return Processor(sheet, kernels, reserved_sms, attention)


def _benchmark(part: Processor, ops: Iterable[Op]) -> Floats:
    """Return what the ops take in a benchmark loop, alone [s]."""
    found = []
    for op in ops:
        models = part.kernels.wgrad if op.kind == "wgrad" else part.kernels.gemm
        longer = models[op.dtype].sustained if op.kind in ("gemm", "wgrad") else 1.0
        found.append(part.kernel(op, overlapped=False) / longer)
    return np.array(found)


def _gemms() -> tuple[Residuals, ...]:
    found = []
    for gpu in ("a100", "h100"):
        rows = inputs.table(f"vidur_{gpu}_gemm")
        for least in (
            512 if gpu == "a100" else 64,
            2048,
        ):  # of the fit, see the table's source; of training
            some = [row for row in rows if int(row["m"]) >= least]
            ops = [gemm("", int(row["m"]), int(row["n"]), int(row["k"]), "bf16") for row in some]
            name = f"BF16, {least:,} and more tokens"
            found.append(
                _row("GEMM", name, processor(gpu), True, ops, [float(row["us"]) for row in some])
            )
    layer = _measured("training_kernels")["megatron_layer"]
    found += [
        _rated("BF16, 8,192 tokens", "a100", False, layer["gemms"], "bf16"),
        _rated(
            "BF16, batched, of unfused attention", "a100", False, layer["batched_gemms"], "bf16"
        ),
        _rated(
            "FP8, blocks",
            "h800",
            True,
            _measured("deepgemm_a6d97a1")["dense_and_contiguous"],
            "fp8",
        ),
        _per_tensor(),
        _rated(
            "FP8, per tensor, best shapes",
            "h100",
            False,
            _measured("fp8_tensor_gemm")["best_shapes"],
            "fp8_tensor",
        ),
        _weight_gradients(),
    ]
    return tuple(found)


def _per_tensor() -> Residuals:
    rows = _measured("fp8_tensor_gemm")["rows"]
    ops = [gemm("", row["m"], row["n"], row["k"], "fp8_tensor") for row in rows]
    return _row(
        "GEMM", "FP8, per tensor", processor("h100"), True, ops, [row["us"] for row in rows]
    )


def _weight_gradients() -> Residuals:
    # Beside communication, in a process, on the SMs that it leaves: DeepSeek's profile.
    part, rows = processor("h800", 20), _measured("deepseek_v3_chunk")["fp8_wgrad_us"]
    ops = [wgrad("", row["m"], row["n"], row["k"], "fp8") for row in rows]
    computed = np.array([part.kernel(op, overlapped=True) for op in ops])
    measured = np.array([float(np.mean(row["us"])) * 1e-6 for row in rows])
    return Residuals("GEMM", "weight gradient FP8, blocks", "h800", True, measured, computed)


def _rated(
    name: str, gpu: str, fitted: bool, rows: list[dict[str, Any]], dtype: Dtype
) -> Residuals:
    """Return GEMMs that were published as TFLOP/s."""
    ops = [gemm("", row["m"], row["n"], row["k"], dtype, row.get("groups", 1)) for row in rows]
    us = [op.flops / row["tflops"] / 1e6 for op, row in zip(ops, rows, strict=True)]
    return _row("GEMM", name, processor(gpu), fitted, ops, us)


def _row(
    group: str, name: str, part: Processor, fitted: bool, ops: list[Op], us: list[float]
) -> Residuals:
    return Residuals(group, name, part.gpu.name, fitted, np.array(us) * 1e-6, _benchmark(part, ops))


def _memory_bound() -> tuple[Residuals, ...]:
    found = []
    for gpu in ("a100", "h100"):
        for name, (kind, each) in VIDUR.items():
            rows = [
                row
                for row in inputs.table("vidur_memory_bound")
                if (row["gpu"], row["op"]) == (gpu, name)
            ]
            ops = [moved("", kind, 4096.0 * int(row["width"]), each) for row in rows]
            # Hopper's norm and activation are those of DeepSeek's profile.
            fitted = gpu == "a100" or name == "add"
            label = f"{kind}, vidur's {name}"
            found.append(
                _row(
                    "memory-bound",
                    label,
                    processor(gpu),
                    fitted,
                    ops,
                    [float(row["us"]) for row in rows],
                )
            )
    layer = _measured("training_kernels")["megatron_layer"]["memory_bound"]
    ops = [moved("", row["kind"], row["elements"], row["each"]) for row in layer]
    us = [1e3 * row["ms"] for row in layer]
    return (
        *found,
        _row("memory-bound", "Megatron's fused kernels", processor("a100"), True, ops, us),
    )


def _core(kind: str, width: int, length: int, passes: float) -> Op:
    """Return the causal attention of FlashAttention's benchmarks."""
    flops = passes * 2.0 * ATTENTION_TOKENS * length * ATTENTION_HIDDEN
    return Op("", kind, flops, Shape(k=width), seq_length=length)


def _attention() -> tuple[Residuals, ...]:
    flash, found = _measured("flash_attention"), []
    lengths = flash["sequence"]
    for name, widths in flash["h100"].items():
        ops, us = [], []
        for width, bars in widths.items():
            for kind, key, passes in (
                ("attention", "forward_causal", 1.0),
                ("attention_backward", "backward", 2.5),
            ):
                some = [_core(kind, int(width), at, passes) for at in lengths]
                us += [op.flops / bar / 1e6 for op, bar in zip(some, bars[key], strict=True)]
                ops += some
        label = f"{name}, the figures' bars as they are"
        found.append(_row("attention", label, processor("h100", attention=name), True, ops, us))
    return (*found, _figure_of_ampere(flash), *_transformer_engine(flash))


def _figure_of_ampere(flash: dict[str, Any]) -> Residuals:
    part, lengths = processor("a100"), flash["sequence"]
    pairs = [
        (_core("attention", 64, at, 1.0), _core("attention_backward", 64, at, 2.5))
        for at in lengths
    ]
    bars = flash["a100"]["flash2"]["64"]["forward_backward_causal"]
    measured = [
        (one.flops + two.flops) / bar / 1e12 for (one, two), bar in zip(pairs, bars, strict=True)
    ]
    computed = [sum(part.kernel(op, overlapped=False) for op in pair) for pair in pairs]
    return Residuals(
        "attention",
        "flash2, width 64, both passes",
        "a100",
        True,
        np.array(measured),
        np.array(computed),
    )


def _transformer_engine(flash: dict[str, Any]) -> Iterable[Residuals]:
    for name in ("cudnn", "flash2"):
        part = processor("h100", attention=name)
        measured, computed = [], []
        for row in flash["transformer_engine"]:
            at = row["sequence"]
            share = row["batch"] * row["heads"] * at * 128 / ATTENTION_TOKENS / ATTENTION_HIDDEN
            pair = (
                _core("attention", 128, at, share),
                _core("attention_backward", 128, at, 2.5 * share),
            )
            measured.append(row[f"{name}_ms"] * 1e-3)
            computed.append(sum(part.kernel(op, overlapped=False) for op in pair))
        label = f"{name}, Transformer Engine's own benchmark"
        yield Residuals("attention", label, "h100", False, np.array(measured), np.array(computed))


def _links() -> tuple[Residuals, ...]:
    """Return half an all-reduce inside a node, the reduce-scatter or all-gather of tensor parallelism."""
    lines = {
        row["gpu"]: 1e9 * row["line_gb_s"]
        for row in _measured("nccl")["rows"]
        if row["link"] == "nvlink"
    }
    found = []
    for gpu in ("a100", "h100"):
        model = processor(gpu).kernels.communication["nccl_tensor"]
        for ranks in (4, 8):
            rows = [
                row
                for row in inputs.table("vidur_collectives")
                if _collective(row) == (gpu, "all_reduce", ranks)
            ]
            some = [row for row in rows if float(row["bytes"]) > LARGE]
            size = np.array([float(row["bytes"]) for row in some])
            half = np.array([float(row["us"]) for row in some]) * 0.5e-6
            moved_bytes = (ranks - 1) / ranks * size / (lines[gpu] * model.nvlink)
            computed = model.setup + (ranks - 1) * NVLINK_LATENCY + moved_bytes
            found.append(
                Residuals("link", f"half an all-reduce on {ranks} GPUs", gpu, True, half, computed)
            )
    return tuple(found)


def _collective(row: dict[str, str]) -> tuple[str, str, int]:
    return row["gpu"], row["op"], int(row["ranks"])


def _measured(name: str) -> dict[str, Any]:
    found: dict[str, Any] = inputs.data("measured", name).data
    return found
