"""The picture that papers draw of a pipeline schedule: a row per rank, a coloured cell per action with its number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.plot.canvas import PAGE as PAPER
from simulator.plot.canvas import Sheet, opened
from simulator.report.parts import CHUNK_KINDS
from simulator.schedules import Action, Bubble, Half, Schedule, Times, spans

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHUNK_COLOURS = {kind.name: kind.colour for kind in CHUNK_KINDS}
CHUNK_NAMES = {kind.name: kind.text for kind in CHUNK_KINDS}

_ROW = 0.24  # height of a rank [inch]
_DIGIT = 0.62  # width of a digit, of its size
_DARK = ("W", "B")


@dataclass(frozen=True, slots=True)
class _Cell:
    """One half of an action as it is drawn; times in the unit of the chunk times."""

    rank: int
    """The row that it is in."""
    start: float
    """Where it begins."""
    width: float
    """How long it is."""
    half: Half
    """What it shows."""
    later: bool
    """Whether it is on a later stage of its rank, such as the way back of a V."""

    @property
    def kind(self) -> str:
        """Return the kind of chunk."""
        return self.half[0]

    @property
    def micro_batch(self) -> str:
        """Return the number in the cell."""
        return str(self.half[1])


def schedule(drawn: Schedule, times: Times, measured: Bubble, path: Path) -> None:
    """Draw a schedule; overlapped pairs share a border. measured: for the caption."""
    cells = list(_cells(drawn, times))
    shortest = min((cell.width for cell in cells if cell.width > 0), default=1.0)
    width = min(max(PAPER, 0.125 * measured.makespan / shortest + 0.8), 24.0)
    sheet = Sheet(width, _ROW * len(drawn.ranks) + 1.05, dpi=200)
    with opened(path, sheet) as (figure, [axes]):
        _draw(axes, cells)
        _number(axes, cells, (width - 0.8) / (measured.makespan or 1.0))
        _frame_pairs(axes, drawn, times)
        axes.set_xlim(0, measured.makespan)
        axes.set_ylim(len(drawn.ranks) - 0.5, -0.5)
        axes.set_yticks(
            range(len(drawn.ranks)), [f"rank {rank}" for rank in range(len(drawn.ranks))]
        )
        axes.set_xlabel("time, in the unit of the chunk times", fontsize=7)
        axes.tick_params(labelsize=7, length=2)
        axes.set_facecolor("#F2F2F2")
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        _legend(figure, cells)
        figure.suptitle(_caption(drawn, times, measured), fontsize=8)


def _cells(drawn: Schedule, times: Times) -> Iterator[_Cell]:
    """Yield the cells of every action, two for a pair."""
    for rank, line in enumerate(spans(drawn, times)):
        order = drawn.ranks[rank]
        first_stage = min((stage for action in order for _, _, stage in action.halves()), default=0)
        for action, (start, end) in zip(order, line, strict=True):
            begin = start
            for half, share in _shares(action, times):
                width = (end - start) * share
                yield _Cell(rank, begin, width, half, later=half[2] != first_stage)
                begin += width


def _shares(action: Action, times: Times) -> Iterator[tuple[Half, float]]:
    """Yield each half of an action and its part of the action's width: as long as it would take alone."""
    halves = action.halves()
    alone = [times.seconds(kind, stage) for kind, _, stage in halves]
    whole = sum(alone) or 1.0
    for half, part in zip(halves, alone, strict=True):
        yield half, part / whole


def _draw(axes: Axes, cells: list[_Cell]) -> None:
    """Fill the cells, all of one colour and rank at once."""
    bars: dict[tuple[str, bool, int], list[tuple[float, float]]] = {}
    for cell in cells:
        group = bars.setdefault((cell.kind, cell.later, cell.rank), [])
        group.append((cell.start, cell.width))
    for (kind, later, rank), spans_of_kind in bars.items():
        axes.broken_barh(
            spans_of_kind,
            (rank - 0.46, 0.92),
            facecolors=_colour(kind, later),
            edgecolors="white",
            linewidth=0.4,
        )


def _number(axes: Axes, cells: list[_Cell], inch: float) -> None:
    """Write micro-batches into cells where they can be read. inch: per unit of time."""
    digits = max((len(cell.micro_batch) for cell in cells), default=1)
    for cell in cells:
        size = min(6.5, 72 * inch * cell.width * 0.92 / (_DIGIT * digits))  # [point]
        if size >= 2.5:
            dark = cell.kind in _DARK and not cell.later
            axes.text(
                cell.start + cell.width / 2,
                cell.rank,
                cell.micro_batch,
                ha="center",
                va="center",
                fontsize=size,
                color="white" if dark else "black",
            )


def _colour(kind: str, later: bool) -> tuple[float, float, float]:
    """Return a kind's colour, paler on a later stage of the rank."""
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(CHUNK_COLOURS[kind])
    pale = 0.55 if later else 0.0
    return red + (1 - red) * pale, green + (1 - green) * pale, blue + (1 - blue) * pale


def _frame_pairs(axes: Axes, drawn: Schedule, times: Times) -> None:
    """Put one border around the two halves of each overlapped pair."""
    for rank, line in enumerate(spans(drawn, times)):
        bars = [
            (start, end - start)
            for action, (start, end) in zip(drawn.ranks[rank], line, strict=True)
            if action.kind == "FB"
        ]
        axes.broken_barh(
            bars,
            (rank - 0.46, 0.92),
            facecolors="none",
            edgecolors="black",
            linewidth=0.8,
            zorder=3,
        )


def _legend(figure: Figure, cells: list[_Cell]) -> None:
    from matplotlib.patches import Patch

    shown = [kind for kind in CHUNK_NAMES if any(cell.half[0] == kind for cell in cells)]
    handles = [
        Patch(color=_colour(kind, later=False), label=f"{kind}: {CHUNK_NAMES[kind]}")
        for kind in shown
    ]
    if any(cell.later for cell in cells):
        handles.append(Patch(color="#BBBBBB", label="paler: a later stage of the same rank"))
    figure.legend(
        handles=handles,
        fontsize=6.5,
        frameon=False,
        ncols=len(handles),
        loc="outside lower center",
        handlelength=1.2,
    )


def _caption(drawn: Schedule, times: Times, measured: Bubble) -> str:
    paired = any(action.kind == "FB" for order in drawn.ranks for action in order)
    kinds = ("F", "I", "W", "B", "FB") if paired else ("F", "I", "W", "B")
    of = ", ".join(
        f"{kind.replace('FB', 'F&B')} {times.each[kind]:.4g}"
        for kind in kinds
        if kind in times.each
    )
    return (
        f"{drawn.name}: {drawn.sizes}; "
        f"chunk times {of}; ends at {measured.makespan:.4g}, bubble {measured.bubble:.4g}"
    )
