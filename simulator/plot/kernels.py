"""Measured kernels beside what the kernel tables say of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.plot.steps import metadata
from simulator.residuals import Residuals

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = (
    "#E69F00",
    "#0072B2",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#666666",
    "#F0E442",
)  # Okabe and Ito
MARKS = "os^Dv"
BAND = 0.1
"""The grey band: as far off as this."""


def kernels(classes: Sequence[Residuals], path: Path) -> None:
    """Draw the computed over the measured time of every measured kernel, a panel per group of ops."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "simulate"
    import matplotlib.pyplot as plt

    groups = list(dict.fromkeys(row.group for row in classes))
    figure, panels = plt.subplots(
        2, -(-len(groups) // 2), figsize=(10.2, 8.4), layout="constrained"
    )
    for axes, group in zip(panels.flat, groups, strict=False):
        _panel(axes, group, [row for row in classes if row.group == group])
    figure.suptitle(
        "Kernels and links: computed from the kernel tables over measured, alone", fontsize=10
    )
    figure.savefig(path, dpi=160, metadata=metadata(path))
    plt.close(figure)


def _panel(axes: Axes, group: str, classes: Sequence[Residuals]) -> None:
    low, high = 1 - BAND, 1 + BAND
    axes.axhspan(low, high, color="#EEEEEE", zorder=0)
    axes.axhline(1.0, color="#999999", linewidth=0.8, zorder=1)
    for number, row in enumerate(_drawn(classes)):
        many = len(row.measured) > 100
        axes.scatter(
            1e6 * row.measured,
            row.computed / row.measured,
            s=7 if many else 18,
            alpha=0.45 if many else 0.9,
            color=COLOURS[number % len(COLOURS)],
            marker=MARKS[number // len(COLOURS) % len(MARKS)],
            facecolors=None if row.fitted else "none",
            linewidths=0.9,
            zorder=2,
            label=f"{row.gpu.upper()}: {row.name}{'' if row.fitted else ' (check)'}",
        )
    axes.set_xscale("log")
    axes.set_yscale("log", base=2)
    axes.set_yticks([0.5, 0.7, 1.0, 1.4, 2.0], ["0.5", "0.7", "1", "1.4", "2"])
    axes.set_ylim(0.4, 2.6)
    axes.minorticks_off()
    axes.set_title(group, fontsize=9)
    axes.set_xlabel("measured time [us]", fontsize=8)
    axes.set_ylabel("computed / measured", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(
        fontsize=5.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2
    )


def _drawn(classes: Sequence[Residuals]) -> list[Residuals]:
    """Return the classes without those whose rows another one holds as well: `2,048 and more tokens`."""
    return [row for row in classes if not row.name.endswith("2,048 and more tokens")]
