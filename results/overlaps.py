"""Kernels next to transfers, and tensor parallel layers overlapped, compared with what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from cells import row

from simulator.residuals.interference import Neighbours, neighbours, not_expressible
from simulator.residuals.overlaps import Pieces, Row, measured_overlaps, measured_pieces

NAMES = {
    "nccl": "one after the other, NCCL",
    "transformer_engine": "Transformer Engine, ring exchange",
    "async_tp": "PyTorch async TP, pieces",
}


def table() -> str:
    """Return every measured layer with its computed time, and what cannot be expressed."""
    rows = list(measured_overlaps())
    expressed = [layer for layer in rows if layer.computed]
    lines = [
        "# Tensor parallel layers with their collectives, and kernels next to transfers",
        "",
        "A GEMM and its all-gather or reduce-scatter on eight GPUs of a node, one after the other and overlapped as",
        "`layout.tp_comm_overlap` overlaps them. Times come from the kernel and link tables; none of these rows sets a",
        "constant. A loop whose GEMM takes less than 2 ms (assumed) runs at full clock, others at the clock of a step.",
        "",
        "| how | rows | bias | rms | worst |",
        "|---|---:|---:|---:|---:|",
        *summaries(expressed),
        "",
        "| collective | GPU | m, n, k on a GPU | how | measured | computed | error | source |",
        "|---|---|---|---|---:|---:|---:|---|",
        *(line(layer) for layer in expressed),
        "",
        "## GEMMs in pieces",
        "",
        "Time of all pieces over that of the whole GEMM, kernels alone on H100; a layer is its four forward GEMMs.",
        "",
        "| model, ranks, tokens | format | pieces | GEMM | measured | computed |",
        "|---|---|---:|---|---:|---:|",
        *pieces(),
        "",
        *NOTES,
        "",
        *interference(),
        "",
        "Reproduce: `python results/make.py overlap.md`.",
        "",
    ]
    return "\n".join(lines)


def interference() -> list[str]:
    """Return every measured pair of kernel and transfer next to what is computed."""
    return [
        "## Kernels next to transfers",
        "",
        "Time of a kernel next to a transfer over its time alone, by `simulator/compute/contention.py`. The five rows",
        "in italics set its constants, together, of a span the middle. Where the source does not say enough of the",
        "kernel or of how much of it the transfer covers, what is computed is for a kernel of many waves that is",
        "covered whole, next to the span of what was measured.",
        "",
        "| what | GPU | measured | computed | error | source |",
        "|---|---|---:|---:|---:|---|",
        *(pair(row) for row in neighbours()),
        "",
        *INTERFERENCE_NOTES,
        "",
        "Not expressible:",
        "",
        *(f"- {row['what']} ({row['source']}): {row['why']}." for row in not_expressible()),
    ]


def pair(found: Neighbours) -> str:
    """Return a kernel next to a transfer as a row."""
    measured, error = f"{found.measured:.3f}", f"{found.error:+.1%}" if found.measured else ""
    if not found.measured:
        low, high = found.span
        measured, error = f"{low:.2f} to {high:.2f}", "inside"
        if not found.inside:
            nearest = high if found.computed > high else low
            error = f"{found.computed / nearest - 1.0:+.1%} beyond"
    what = f"*{found.what}*" if found.fitted else found.what
    return row(what, found.gpu.upper(), measured, f"{found.computed:.3f}", error, found.source)


INTERFERENCE_NOTES = [
    "- The power limit has no term of its own: what was measured next to transfers was measured at the clock that both",
    "  left, so that a fall of the clock is in the sensitivity to HBM.",
    "- The one span that is missed may be of kernels that the transfer did not cover whole.",
    "- The 256 x 128 GEMM lost 205 of the 300 us of its all-reduce, more than a kernel that spreads over what is left:",
    "  a persistent kernel with one block per SM leaves the tiles of those that wait. The gather of PyTorch's pull",
    "  request cost its GEMM a third of its length.",
    "- NCCL's kernels are slowed themselves inside a node, to 1.28 of their time next to compute, by the same fit, and",
    "  move 2 bytes through HBM for each that they send, where it ends in the span of NCCL's maintainer, 2 to 3.",
    "  DeepEP's take 1.27 (combine) to 1.34 (cached dispatch) of theirs in DeepSeek's trace. Where NICs bind nothing",
    "  is slowed: kernels wait for those anyway.",
]


class Layer(NamedTuple):
    """GEMMs of one layer in the same pieces."""

    case: str
    """Model, ranks and tokens."""
    dtype: str
    """What they read."""
    parts: int
    """How many pieces."""


def pieces() -> Iterator[str]:
    """Yield how much longer GEMMs take in pieces, one by one and by layer."""
    layers: dict[Layer, list[Pieces]] = {}
    for cut in measured_pieces():
        layer = Layer(cut.case, cut.dtype, cut.parts)
        layers.setdefault(layer, []).append(cut)
    for layer, gemms in layers.items():
        heads = (layer.case, layer.dtype, str(layer.parts))
        for cut in gemms:
            yield row(*heads, cut.gemm, f"{cut.measured:.3f}", f"{cut.computed:.3f}")
        if len(gemms) == 4:
            whole = sum(cut.whole for cut in gemms)
            measured = sum(cut.whole * cut.measured for cut in gemms) / whole
            computed = sum(cut.whole * cut.computed for cut in gemms) / whole
            yield row(*heads, "**layer**", f"**{measured:.3f}**", f"**{computed:.3f}**")


SLOW_MACHINE = "github meta-pytorch/kraken pull request 2"
"""Its GEMMs alone are slower than the same shapes elsewhere, see the notes."""


def summaries(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the errors of each way as a row."""
    for library, name in NAMES.items():
        some = [layer for layer in rows if layer.library == library]
        apart = [layer for layer in some if layer.source == SLOW_MACHINE]
        yield summary(name, [layer for layer in some if layer not in apart])
        if apart:
            yield summary(f"{name}, kraken's gathers", apart)


def summary(name: str, rows: Sequence[Row]) -> str:
    """Return the errors of some layers as a row."""
    errors = np.array([layer.error for layer in rows])
    worst = errors[np.abs(errors).argmax()]
    rms = np.sqrt((errors**2).mean())
    bias = errors.mean()
    return row(name, str(len(errors)), f"{bias:+.1%}", f"{rms:.1%}", f"{worst:+.1%}")


def line(layer: Row) -> str:
    """Return one measurement as a row."""
    m, n, k = layer.shape
    return row(
        layer.op.replace("_", "-"),
        layer.gpu,
        f"{m:,}, {n:,}, {k:,}",
        layer.library.replace("_", " "),
        f"{layer.measured * 1e3:.3f} ms",
        f"{layer.computed * 1e3:.3f} ms",
        f"{layer.error:+.1%}",
        layer.source,
    )


NOTES = [
    "- PyTorch's async TP is a check: it launches its pieces and copies one by one from Python, and with few rows the",
    "  host is what is measured. Hosts are not in these rows.",
    "- Not expressible: flux, Triton-distributed, multimem and CUDA-IPC kernels let the tiles of one GEMM wait for (or",
    "  send) their own rows; here a GEMM is whole or cut into pieces. They would be a method of their own, with the",
    "  share of the transfer that stays exposed measured per GPU: 19 to 25% on H800, 12 to 14% on A800 (flux).",
    "- The machine of kraken's gathers is slower at every GEMM: 575 to 630 TFLOP/s where the same shapes reach 750",
    "  elsewhere, power limit and clock not stated. Its rows say how the ways compare, not how long they take.",
    "- In flux issue 90 the columns of the gathers are not in the text: 57,344 over eight GPUs is the only layer of",
    "  that width in Llama 3 70B whose FLOPs fit the times.",
    "- Pieces run one behind another. Transformer Engine gives them three streams, so that the last wave of one may",
    "  overlap the first of the next: an upper bound where a piece leaves SMs idle.",
    "- A bulk transfer takes its SMs from the GEMM for as long as it lasts alone; a pipeline leaves them for good,",
    "  as Transformer Engine launches it. While either lasts a GEMM takes 1.2 times as long: it loses 0.21 ms of the",
    "  1.26 ms that a gather by copy engines takes (pytorch pull request 172714; 1.13 over the whole of that GEMM).",
    "- Bulk transfers run at the rate of the links with the 2 to 4 SMs that recipes give them: userbuffers writes a",
    "  part once, and switches copy it, so that an SM moves 1/tp of a buffer. NCCL's symmetric kernels reach with 5",
    "  CTAs what others take 24 for (NVIDIA/Fuser pull request 5837). What 2 reach alone was not published.",
    "- Of the ring exchange's -6% and -11% some 3% are the machine's: its GEMM alone ran at 683 TFLOP/s by the row of",
    "  NCCL, 705 here. The rest is that eight pieces of 1.5 or 3 ms take 3 to 4% less than the whole in the grid.",
]
