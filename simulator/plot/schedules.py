"""The picture that papers draw of a pipeline schedule: a row per rank, a coloured cell per action with its number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from simulator.plot.canvas import PAGE as PAPER
from simulator.plot.canvas import Sheet, opened
from simulator.report import palette
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


class _Look(NamedTuple):
    """What cells share that are drawn at once."""

    kind: str
    """Kind of chunk."""
    later: bool
    """Whether they stand on a later stage of their rank."""
    rank: int
    """Their rank."""


def schedule(drawn: Schedule, times: Times, measured: Bubble, path: Path) -> None:
    """Draw a schedule; overlapped pairs share a border. measured: for the caption."""
    cells = list(_cells(drawn, times))
    ranks = len(drawn.ranks)
    # An eighth of an inch holds a number: the shortest cell gets it, unless all grows too wide.
    widths = [cell.width for cell in cells if cell.width > 0]
    shortest = min(widths, default=1.0)
    wanted = 0.125 * measured.makespan / shortest + 0.8
    width = min(max(PAPER, wanted), 24.0)
    sheet = Sheet(width, _ROW * ranks + 1.05, dpi=200)
    with opened(path, sheet) as (figure, [axes]):
        # All that is 0.8 inch wide next to the cells is their labels.
        inch = (width - 0.8) / (measured.makespan or 1.0)
        _draw(axes, cells)
        _number(axes, cells, inch)
        _frame_pairs(axes, drawn, times)
        axes.set_xlim(0, measured.makespan)
        axes.set_ylim(ranks - 0.5, -0.5)
        names = [f"rank {rank}" for rank in range(ranks)]
        axes.set_yticks(range(ranks), names)
        axes.set_xlabel("time, in the unit of the chunk times", fontsize=7)
        axes.tick_params(labelsize=7, length=2)
        axes.set_facecolor(palette.IDLE)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        _legend(figure, cells)
        figure.suptitle(_caption(drawn, times, measured), fontsize=8)


def _cells(drawn: Schedule, times: Times) -> Iterator[_Cell]:
    """Yield the cells of every action, two for a pair."""
    for rank, line in enumerate(spans(drawn, times)):
        actions = drawn.ranks[rank]
        # The first stage of a rank keeps the full colours, all its later ones are paler.
        first = _first_stage(actions)
        for action, (start, end) in zip(actions, line, strict=True):
            at = start
            for half, share in _shares(action, times):
                width = (end - start) * share
                _, _, stage = half
                yield _Cell(rank, at, width, half, later=stage != first)
                at += width


def _first_stage(actions: Sequence[Action]) -> int:
    """Return the first stage that a rank runs, 0 for a rank without actions."""
    halves = chain.from_iterable(action.halves() for action in actions)
    return min((stage for _, _, stage in halves), default=0)


def _shares(action: Action, times: Times) -> Iterator[tuple[Half, float]]:
    """Yield each half of an action and its part of the action's width: as long as it would take alone."""
    halves = action.halves()
    alone = [times.seconds(kind, stage) for kind, _, stage in halves]
    # Chunks may take no time at all, and then neither half has any width.
    whole = sum(alone) or 1.0
    for half, part in zip(halves, alone, strict=True):
        yield half, part / whole


def _draw(axes: Axes, cells: list[_Cell]) -> None:
    """Fill the cells, all of one colour and rank at once."""
    # One object per row and colour: thousands of rectangles would take minutes to write.
    groups: dict[_Look, list[tuple[float, float]]] = {}
    for cell in cells:
        look = _Look(cell.kind, cell.later, cell.rank)
        bar = (cell.start, cell.width)
        groups.setdefault(look, []).append(bar)
    for look, bars in groups.items():
        axes.broken_barh(
            bars,
            (look.rank - 0.46, 0.92),
            facecolors=_colour(look.kind, look.later),
            edgecolors="white",
            linewidth=0.4,
        )


def _number(axes: Axes, cells: list[_Cell], inch: float) -> None:
    """Write micro-batches into cells where they can be read. inch: per unit of time."""
    digits = max((len(cell.micro_batch) for cell in cells), default=1)
    for cell in cells:
        # As large as the longest number fits into this cell, so that all of a kind have one size.
        room = 72 * inch * cell.width * 0.92  # [point]
        size = min(6.5, room / (_DIGIT * digits))
        if size >= 2.5:
            _write_number(axes, cell, size)


def _write_number(axes: Axes, cell: _Cell, size: float) -> None:
    """Write the micro-batch of a cell in its middle. size: of the font [pt]."""
    is_dark = cell.kind in _DARK and not cell.later
    axes.text(
        cell.start + cell.width / 2,
        cell.rank,
        cell.micro_batch,
        ha="center",
        va="center",
        fontsize=size,
        color="white" if is_dark else "black",
    )


def _colour(kind: str, later: bool) -> tuple[float, float, float]:
    """Return a kind's colour, paler on a later stage of the rank."""
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(CHUNK_COLOURS[kind])
    pale = 0.55 if later else 0.0
    # Towards white, which keeps the hue.
    return (
        red + (1 - red) * pale,
        green + (1 - green) * pale,
        blue + (1 - blue) * pale,
    )


def _frame_pairs(axes: Axes, drawn: Schedule, times: Times) -> None:
    """Put one border around the two halves of each overlapped pair."""
    for rank, line in enumerate(spans(drawn, times)):
        actions = drawn.ranks[rank]
        bars = []
        for action, (start, end) in zip(actions, line, strict=True):
            if action.kind == "FB":
                bars.append((start, end - start))
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

    used = {cell.kind for cell in cells}
    handles = []
    for kind, name in CHUNK_NAMES.items():
        if kind in used:
            colour = _colour(kind, later=False)
            handles.append(Patch(color=colour, label=f"{kind}: {name}"))
    if any(cell.later for cell in cells):
        handles.append(Patch(color=palette.PALE, label="paler: a later stage of the same rank"))
    figure.legend(
        handles=handles,
        fontsize=6.5,
        frameon=False,
        ncols=len(handles),
        loc="outside lower center",
        handlelength=1.2,
    )


def _caption(drawn: Schedule, times: Times, measured: Bubble) -> str:
    kinds = ["F", "I", "W", "B"]
    # The time of a pair says nothing about a schedule without pairs.
    actions = chain.from_iterable(drawn.ranks)
    if any(action.kind == "FB" for action in actions):
        kinds.append("FB")
    chunk_times = []
    for kind in kinds:
        if kind in times.each:
            name = "F&B" if kind == "FB" else kind
            length = times.each[kind]
            chunk_times.append(f"{name} {length:.4g}")
    return (
        f"{drawn.name}: {drawn.sizes}; "
        f"chunk times {', '.join(chunk_times)}; "
        f"ends at {measured.makespan:.4g}, bubble {measured.bubble:.4g}"
    )
