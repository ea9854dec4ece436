"""Measured kernels compared with the kernel tables: how well each class of op is described.

Benchmarks ran alone and in a loop, so GEMMs are compared without `sustained` and no communication
is in flight. The measurements are those of `simulator/data/measured`; no training step is
among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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
VIDUR = {
    "norm": ("norm", 4.0),
    "add": ("residual_add", 6.0),
    "activation": ("activation", 6.0),
}
"""What vidur measured -> kind of op, and bytes per element that must move."""
NVLINK_LATENCY = 3.33e-6
"""Of a round [s], as topologies have it by default: arXiv 2505.09343, table 5."""
LARGE = 8e6
"""Collectives of tensor parallelism move at least this [B]."""


class Timed(NamedTuple):
    """An op, and how long it took."""

    op: Op
    """What ran."""
    us: float
    """Time in a benchmark loop [us]."""


@dataclass(frozen=True, slots=True)
class Residuals:
    """One class of op: what was measured and what the table computes, row by row."""

    group: str
    """Kind of figure: GEMM, memory-bound, attention or link."""
    name: str
    """What was measured."""
    gpu: str
    """GPU on which it was measured."""
    fitted: bool
    """Whether the table's constants come from these rows; otherwise they are a check."""
    measured: Floats
    """Times as they were published [row] s."""
    computed: Floats
    """Times by the kernel table [row] s."""

    @property
    def errors(self) -> Floats:
        """Return the signed relative errors [row]."""
        errors: Floats = self.computed / self.measured - 1.0
        return errors

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
    """Return what the ops take in a benchmark loop, alone [op] s."""
    seconds = []
    for op in ops:
        alone = part.kernel(op, overlapped=False)
        # The table's time is that inside a training process, whose clock is lower.
        if op.kind == "wgrad":
            alone /= part.kernels.wgrad[op.dtype].sustained
        elif op.kind == "gemm":
            alone /= part.kernels.gemm[op.dtype].sustained
        seconds.append(alone)
    return np.array(seconds)


def _against_table(
    group: str, name: str, part: Processor, fitted: bool, measured: Sequence[Timed]
) -> Residuals:
    """Return ops in a benchmark loop next to what the table says of them."""
    us = np.array([timed.us for timed in measured])  # [row]
    computed = _benchmark(part, [timed.op for timed in measured])
    return Residuals(
        group=group,
        name=name,
        gpu=part.gpu.name,
        fitted=fitted,
        measured=us * 1e-6,
        computed=computed,
    )


def _gemms() -> Iterator[Residuals]:
    yield from _vidur_gemms()
    layer = _measured("training_kernels")["megatron_layer"]
    blocks = _measured("deepgemm_a6d97a1")["dense_and_contiguous"]
    per_tensor = _measured("fp8_tensor_gemm")
    unfused = "BF16, batched, of unfused attention"
    yield _rated("BF16, 8,192 tokens", "a100", False, layer["gemms"], "bf16")
    yield _rated(unfused, "a100", False, layer["batched_gemms"], "bf16")
    yield _rated("FP8, blocks", "h800", True, blocks, "fp8")
    yield _per_tensor(per_tensor["rows"])
    best = per_tensor["best_shapes"]
    yield _rated("FP8, per tensor, best shapes", "h100", False, best, "fp8_tensor")
    yield _weight_gradients()


def _vidur_gemms() -> Iterator[Residuals]:
    """Return vidur's GEMMs: the rows of the fit, see the table's source, and those of training."""
    for gpu, fewest in (("a100", 512), ("h100", 64)):
        rows = inputs.table(f"vidur_{gpu}_gemm")
        for tokens in (fewest, 2048):
            some = [row for row in rows if int(row["m"]) >= tokens]
            measured = [_vidur_gemm(row) for row in some]
            name = f"BF16, {tokens:,} and more tokens"
            yield _against_table("GEMM", name, processor(gpu), True, measured)


def _vidur_gemm(row: dict[str, str]) -> Timed:
    m = int(row["m"])
    n = int(row["n"])
    k = int(row["k"])
    op = gemm("", m, n, k, "bf16")
    return Timed(op, float(row["us"]))


def _per_tensor(rows: list[dict[str, Any]]) -> Residuals:
    measured = []
    for row in rows:
        op = gemm("", row["m"], row["n"], row["k"], "fp8_tensor")
        measured.append(Timed(op, row["us"]))
    return _against_table("GEMM", "FP8, per tensor", processor("h100"), True, measured)


def _weight_gradients() -> Residuals:
    # While communication is in flight, in a process, on the SMs that it leaves: DeepSeek's profile.
    part = processor("h800", reserved_sms=20)
    measured, computed = [], []
    for row in _measured("deepseek_v3_chunk")["fp8_wgrad_us"]:
        op = wgrad("", row["m"], row["n"], row["k"], "fp8")
        computed.append(part.kernel(op, overlapped=True))
        measured.append(float(np.mean(row["us"])) * 1e-6)
    return Residuals(
        group="GEMM",
        name="weight gradient FP8, blocks",
        gpu="h800",
        fitted=True,
        measured=np.array(measured),
        computed=np.array(computed),
    )


def _rated(
    name: str, gpu: str, fitted: bool, rows: list[dict[str, Any]], dtype: Dtype
) -> Residuals:
    """Return GEMMs that were published as TFLOP/s."""
    measured = []
    for row in rows:
        groups = row.get("groups", 1)
        op = gemm("", row["m"], row["n"], row["k"], dtype, groups)
        us = op.flops / row["tflops"] / 1e6
        measured.append(Timed(op, us))
    return _against_table("GEMM", name, processor(gpu), fitted, measured)


def _memory_bound() -> Iterator[Residuals]:
    table = inputs.table("vidur_memory_bound")
    for gpu in ("a100", "h100"):
        for name, (kind, per_element) in VIDUR.items():
            measured = []
            for row in table:
                if row["gpu"] == gpu and row["op"] == name:
                    elements = 4096.0 * int(row["width"])  # of 4,096 tokens
                    op = moved("", kind, elements, per_element)
                    measured.append(Timed(op, float(row["us"])))
            # Hopper's norm and activation are those of DeepSeek's profile.
            fitted = gpu == "a100" or name == "add"
            label = f"{kind}, vidur's {name}"
            yield _against_table("memory-bound", label, processor(gpu), fitted, measured)
    layer = _measured("training_kernels")["megatron_layer"]["memory_bound"]
    measured = []
    for row in layer:
        op = moved("", row["kind"], row["elements"], row["each"])
        measured.append(Timed(op, 1e3 * row["ms"]))
    part = processor("a100")
    yield _against_table("memory-bound", "Megatron's fused kernels", part, True, measured)


def _core(kind: str, width: int, length: int, passes: float) -> Op:
    """Return the causal attention of FlashAttention's benchmarks."""
    # Two products of length x length, of which the mask leaves half: 2 x 2 / 2 per element.
    flops = passes * 2.0 * ATTENTION_TOKENS * length * ATTENTION_HIDDEN
    return Op("", kind, flops, Shape(k=width), seq_length=length)


def _both_passes(width: int, length: int, share: float = 1.0) -> tuple[Op, Op]:
    """Return forward and backward, 2.5 times the FLOPs.

    share: of the benchmarks' tokens x hidden.
    """
    forward = _core("attention", width, length, share)
    return forward, _core("attention_backward", width, length, 2.5 * share)


def _attention() -> Iterator[Residuals]:
    flash = _measured("flash_attention")
    for name, widths in flash["h100"].items():
        measured: list[Timed] = []
        for width, bars in widths.items():
            measured += _bars(flash, width, bars)
        label = f"{name}, the figures' bars as they are"
        yield _against_table("attention", label, processor("h100", attention=name), True, measured)
    yield _figure_of_ampere(flash)
    yield from _transformer_engine(flash)


def _bars(flash: dict[str, Any], width: str, bars: dict[str, Any]) -> Iterator[Timed]:
    """Yield what the bars [TFLOP/s] say of one width of a head: forward, then backward."""
    # A bar for each length of the sequences, in the order of `sequence`.
    passes = [_both_passes(int(width), length) for length in flash["sequence"]]
    for index, key in enumerate(("forward_causal", "backward")):
        for ops, rate in zip(passes, bars[key], strict=True):
            op = ops[index]
            yield Timed(op, op.flops / rate / 1e6)


def _figure_of_ampere(flash: dict[str, Any]) -> Residuals:
    """Return FlashAttention 2 on A100, whose figure gives both passes together."""
    part = processor("a100")
    pairs = [_both_passes(64, length) for length in flash["sequence"]]
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
            # The rates are per FLOP, so that another batch is a share of the figures' tokens.
            elements = row["batch"] * row["heads"] * row["sequence"] * 128
            share = elements / ATTENTION_TOKENS / ATTENTION_HIDDEN
            passes = _both_passes(128, row["sequence"], share)
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
    """Return what some ops take together, one after another [s]."""
    return sum(part.kernel(op, overlapped=False) for op in ops)


def _links() -> Iterator[Residuals]:
    """Yield half an all-reduce in a node, as tensor parallelism scatters or gathers."""
    line_rates = {}  # of NVLink [B/s in one direction]
    for row in _measured("nccl")["rows"]:
        if row["link"] == "nvlink":
            line_rates[row["gpu"]] = 1e9 * row["line_gb_s"]
    for gpu in ("a100", "h100"):
        model = processor(gpu).kernels.communication["nccl_tensor"]
        rate = line_rates[gpu] * model.nvlink
        for ranks in (4, 8):
            rows = _large_all_reduces(gpu, ranks)
            size = np.array([float(row["bytes"]) for row in rows])  # [row] B
            us = np.array([float(row["us"]) for row in rows])  # [row], of the whole all-reduce
            # A ring: each of ranks - 1 rounds has its latency and moves 1 / ranks of the bytes.
            rounds = ranks - 1
            moving = rounds / ranks * size / rate  # [row] s
            yield Residuals(
                group="link",
                name=f"half an all-reduce on {ranks} GPUs",
                gpu=gpu,
                fitted=True,
                measured=us * 0.5e-6,
                computed=model.setup + rounds * NVLINK_LATENCY + moving,
            )


def _large_all_reduces(gpu: str, ranks: int) -> list[dict[str, str]]:
    """Return the rows of vidur's all-reduces on some GPUs that bandwidth bounds, not latency."""
    large = []
    for row in inputs.table("vidur_collectives"):
        collective = (row["gpu"], row["op"], int(row["ranks"]))
        if collective == (gpu, "all_reduce", ranks) and float(row["bytes"]) > LARGE:
            large.append(row)
    return large


def _measured(name: str) -> dict[str, Any]:
    """Return one of the package's tables of published measurements."""
    table: dict[str, Any] = inputs.data("measured", name).data
    return table
