"""Figures of collectives that run alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from simulator.collectives import Row
from simulator.plot.steps import metadata
from simulator.units import format_binary

COLOURS = ("#E69F00", "#009E73", "#56B4E9", "#0072B2", "#CC79A7")  # Okabe and Ito


def collective(rows: Sequence[Row], where: str, path: Path) -> None:
    """Draw bus bandwidth over size, marked by the algorithm that was taken. where: the cluster, for the caption."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
    axes.plot(
        [row.bytes for row in rows],
        [row.busbw / 1e9 for row in rows],
        color="#999999",
        linewidth=1,
        zorder=1,
    )
    for number, way in enumerate(dict.fromkeys((row.algorithm, row.protocol) for row in rows)):
        some = [row for row in rows if (row.algorithm, row.protocol) == way]
        axes.scatter(
            [row.bytes for row in some],
            [row.busbw / 1e9 for row in some],
            s=26,
            zorder=2,
            marker="osD^v"[number % 5],
            color=COLOURS[number % 5],
            label=f"{way[0].replace('_', ' ')}, {way[1]}",
        )
    axes.set_xscale("log", base=2)
    ticks = [row.bytes for row in rows][:: -(-len(rows) // 8)]
    axes.set_xticks(ticks, [format_binary(size) for size in ticks])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("size of the buffer", fontsize=8)
    axes.set_ylabel("bus bandwidth [GB/s]", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(axis="y", linewidth=0.4, color="#DDDDDD")
    axes.legend(fontsize=7, frameon=False, loc="upper left")
    figure.suptitle(
        f"{rows[0].op} on {rows[0].ranks} GPUs of {where}, alone on the network", fontsize=9
    )
    figure.savefig(path, dpi=160, metadata=metadata(path))
    plt.close(figure)
