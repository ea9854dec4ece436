"""Exchanges of tokens over the SMs that copy them, measured and computed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.plot.canvas import PAGE, Sheet, opened
from simulator.report.palette import SERIES
from simulator.residuals.exchanges import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def over_sms(curves: Sequence[Curve], path: Path) -> None:
    """Draw the time of dispatch and combine over SMs: lines computed, marks measured."""
    ops = list(dict.fromkeys(curve.op for curve in curves))
    sheet = Sheet(PAGE, 3.1, columns=len(ops), options={"sharey": True})
    with opened(path, sheet) as (figure, panels):
        for axes, op in zip(panels, ops, strict=True):
            _panel(axes, op, [curve for curve in curves if curve.op == op])
        panels[0].set_ylabel("time of 4,096 tokens [ms]", fontsize=8)
        panels[0].legend(fontsize=7, frameon=False)
        figure.suptitle("DeepEP on H100: lines computed, marks measured", fontsize=9)


def _panel(axes: Axes, op: str, curves: Sequence[Curve]) -> None:
    for colour, curve in zip(SERIES, curves, strict=False):
        nodes = "one node" if curve.nodes == 1 else f"{curve.nodes} nodes"
        axes.plot(curve.line_sms, 1e3 * curve.computed, color=colour, label=nodes, linewidth=1.2)
        axes.scatter(curve.sms, 1e3 * curve.measured, color=colour, s=16, zorder=3)
    axes.set_title(op, fontsize=9)
    axes.set_xlabel("SMs", fontsize=8)
    axes.set_yscale("log", base=2)
    ticks = [0.5, 1.0, 2.0, 4.0, 8.0]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([4, 8, 12, 16, 20, 24])
    axes.minorticks_off()
    axes.tick_params(labelsize=7)
    axes.grid(axis="y", linewidth=0.3)
