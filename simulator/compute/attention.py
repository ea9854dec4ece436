"""Fused attention -> seconds: measured rates, and how evenly the work fills the SMs.

A kernel cuts each [length, length] matrix of scores into tiles of some rows of queries. Causal tiles are of
all sizes, the longest as long as the sequence: with few heads, or short of work, SMs idle until the
longest tile or the last one is done.
"""

from __future__ import annotations

from simulator.compute.curves import between
from simulator.compute.power import measured_on
from simulator.errors import InputError
from simulator.hardware import AttentionModel, GpuConfig, KernelConfig
from simulator.ops import Op


def attention_seconds(
    op: Op, gpu: GpuConfig, model: AttentionModel, sms: int, clock: float = 1.0
) -> float:
    """Return the time of fused attention [s].

    sms: those that it may use. clock: theirs over that of the benchmark's.
    """
    width = op.shape.k
    backward = op.kind == "attention_backward"
    table = model.backward if backward else model.forward
    tail = model.tail.backward if backward else model.tail.forward
    # The width that was measured nearest to the op's, of two the smaller: the first one.
    nearest = min(sorted(table), key=lambda measured: abs(measured - width))
    measured_rate = between(table[nearest], op.seq_length)  # on all SMs [FLOP/s]
    if gpu.name in model.speed:
        speed = model.speed[gpu.name]
        measured_rate *= speed.backward if backward else speed.forward
    rate = _on_gpu(measured_rate, gpu, model.reached, clock) * sms / gpu.sms
    # The benchmark had its own tail, which is part of its rate.
    benchmark = model.measured[nearest].sequence_heads(op.seq_length)
    tiles = op.seq_length / model.rows  # of a matrix of scores
    fill = _stretch(op.shape.groups, tiles, sms, tail) / _stretch(benchmark, tiles, sms, tail)
    return op.flops / rate * fill


def _on_gpu(rate: float, gpu: GpuConfig, reached: float, clock: float) -> float:
    """Return a measured rate of attention on a GPU, which may be another one [FLOP/s].

    Exponentials and the order of instructions bind an SM as they bind the measured GPU's, in
    proportion to its clock, its tensor cores up to a share of their peak. reached: that share.
    clock: see `attention_seconds`.
    """
    # A short loop ends before the limit takes the clock down: none is faster than there.
    rate *= min(1.0, clock)
    if not gpu.relative:
        return rate
    return min(rate * gpu.sms / measured_on(gpu).sms, reached * gpu.peak["bf16"])


def _stretch(matrices: float, tiles: float, sms: int, tail: float) -> float:
    """Return the time of causal tiles on the SMs, relative to work that is spread evenly.

    matrices: of scores. tiles: of each of them. tail: see `hardware.Tail`.
    """
    # A matrix has T tiles of 1 to T blocks, T (T + 1) / 2 blocks together, which the SMs share.
    blocks_per_sm = matrices * tiles * (tiles + 1) / 2 / sms
    longest = tiles / blocks_per_sm
    # Nothing is done before the longest tile is. If there is more work than that, SMs wait for the
    # last of the tiles, in proportion to the longest.
    return max(1.0, longest) + tail * min(1.0, longest)


def implementation(table: KernelConfig, name: str, width: int, gpu: str) -> AttentionModel:
    """Return an implementation by its name, "" for the default.

    Where that was not measured at this width, return one that was, if there is one. gpu: its name,
    for the error.
    """
    name = name or table.default_attention
    if name not in table.attention:
        raise InputError(
            f"was not measured on {gpu}",
            key="attention",
            value=name,
            remedy=f"Choose from: {', '.join(table.attention)}.",
        )
    chosen = table.attention[name]
    if width in chosen.forward:
        return chosen
    measured = (model for model in table.attention.values() if width in model.forward)
    return next(measured, chosen)
