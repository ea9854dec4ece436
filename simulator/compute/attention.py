"""Fused attention -> seconds, from measured rates."""

from __future__ import annotations

import math
from bisect import bisect_left

from simulator.errors import InputError
from simulator.hardware import AttentionModel, GpuConfig, KernelConfig
from simulator.ops import Op


def attention_seconds(op: Op, gpu: GpuConfig, model: AttentionModel, sms: int) -> float:
    """Return the time of fused attention [s]. sms: those that it may use."""
    width = op.shape.k
    table = model.backward if op.kind == "attention_backward" else model.forward
    # The width that was measured nearest to the op's, of two the smaller: the first one.
    nearest = min(sorted(table), key=lambda measured: abs(measured - width))
    measured_rate = _interpolate(table[nearest], op.seq_length)  # on all SMs [FLOP/s]
    rate = measured_rate * sms / gpu.sms
    return op.flops / rate


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


def _interpolate(curve: dict[int, float], at: int) -> float:
    """Return the curve at a point: linear in the logarithm, constant beyond its ends."""
    points = sorted(curve)
    index = bisect_left(points, at)
    if index == 0:
        return curve[points[0]]
    if index == len(points):
        return curve[points[-1]]
    low, high = points[index - 1], points[index]
    # Sequence lengths are measured at powers of two, each as far from the next as the one before.
    span = math.log(high / low)
    weight = math.log(at / low) / span
    return curve[low] * (1 - weight) + curve[high] * weight
