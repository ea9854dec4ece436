"""Ledgers of campaigns as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from simulator.campaign import Beside, Entry, Ledger, Sum, rents
from simulator.campaign.config import RepeatConfig
from simulator.cli.tables import number, table
from simulator.units import format_seconds

_UNITS = {
    "gpu_hours": "GPU-hours",
    "cost_usd": "USD",
    "wall_days": "days",
    "energy_kwh": "kWh",
    "emissions_t": "t CO2e",
}
"""Quantity -> its unit in words, where that is not the quantity itself."""


def ledgers_text(ledgers: Sequence[Ledger]) -> Iterator[RenderableType]:
    """Yield the parts of some ledgers."""
    for index, ledger in enumerate(ledgers):
        if index:
            yield Text()
        yield from _ledger(ledger)


def _ledger(ledger: Ledger) -> Iterator[RenderableType]:
    config = ledger.config
    title = f"{config.name}: {config.title}" if config.title else config.name
    columns = ("GPUs", "steps", "tokens", "step", "days", "GPU-hours", "USD", "")
    rows = table(title, "stage", *columns)
    for entry in ledger.entries:
        rows.add_row(entry.config.name, "", *_sum(entry.total), _basis(entry))
        for cells in _details(entry):
            rows.add_row(*cells)
    rows.add_row(Text("total", style="bold"), "", *_sum(ledger.total), "")
    yield rows
    yield Text()
    low, high = number(ledger.total.low), number(ledger.total.high)
    shares = any(entry.config.repeat for entry in ledger.entries)
    words = (
        "With its shares at their ends it needs"
        if shares
        else "Four fifths of runs like these need"
    )
    yield Text(f"{words} {low} to {high} GPU-hours.")
    yield from _money(ledger)
    compared = list(_compared(ledger))
    if compared:
        yield Text()
        published = table(
            "", "published", "what", "simulated", "error", "includes", "source", left=1
        )
        for name, row in compared:
            published.add_row(*_beside(name, row))
        yield published
    yield from _list("It counts", config.counts)
    yield from _list("It leaves out", config.leaves_out)
    yield from _list("Notes", _notes(ledger))


def _money(ledger: Ledger) -> Iterator[RenderableType]:
    """Yield what other rents, ownership and energy come to."""
    figures, energy = ledger.figures, ledger.config.energy
    emitted = f", {number(figures['emissions_t'])} t CO2e" if energy.grid else ""
    yield Text(
        f"Energy: {number(figures['energy_kwh'])} kWh with a PUE of {energy.pue:g}{emitted}."
    )
    if ledger.owned:
        own = ledger.owned
        unpaid = "nothing, since energy.price is not given"
        yield Text(
            f"Owned instead of rented: {number(own.total)} USD, of which hardware "
            f"{number(own.hardware)}, energy {number(own.energy) if energy.price else unpaid}, "
            f"staff {number(own.staff)}."
        )
    gpus = {line.step.report.scenario.gpu.name for entry in ledger.entries for line in entry.lines}
    for gpu in sorted(gpus) if len(gpus) == 1 else ():
        yield from _rents(ledger, gpu)


def _rents(ledger: Ledger, gpu: str) -> Iterator[RenderableType]:
    """Yield what the same hours cost at other rents."""
    others = rents(gpu)
    if not others:
        return
    rows = table("", f"rent of {gpu}", "date", "USD per GPU-hour", "USD", "source")
    for rent in others:
        ends = sorted({rent.low, rent.high})
        prices = " to ".join(f"{end:g}" for end in ends)
        sums = " to ".join(number(end * ledger.total.gpu_hours) for end in ends)
        rows.add_row("", rent.date, prices, sums, rent.source)
    yield Text()
    yield rows


def _details(entry: Entry) -> Iterator[tuple[str, ...]]:
    """Yield the rows below a stage: its spans, or the stages of the campaign that it stands for."""
    alone = len(entry.lines) == 1
    for line in entry.lines:
        report = line.step.report
        step = format_seconds(line.step_time)
        # The sums of the only span are those of its stage.
        sums = ("", "", step, "", "", "") if alone else _sum(line.total, step)
        yield (f"  {line.label}", f"{line.gpus:,}", *sums, _fits(report.fits))
    if entry.goodput:
        low, middle, high = entry.goodput.shares
        label = f"  interruptions: {middle:.1%} of the time is training ({low:.1%} to {high:.1%})"
        yield (label, "", *_sum(entry.interruptions), "")
    for inner in entry.inner.entries if entry.inner else ():
        yield (f"  {inner.config.name}", "", *_sum(inner.total), _basis(inner))


def _sum(total: Sum, step: str = "") -> tuple[str, ...]:
    """Return the cells of a sum: steps, tokens, step time, days, GPU-hours, USD."""
    return (
        number(total.steps) if total.steps else "",
        number(total.tokens) if total.tokens else "",
        step,
        f"{total.wall_days:.2f}" if total.seconds else "",
        number(total.gpu_hours),
        number(total.cost),
    )


def _basis(entry: Entry) -> str:
    return "" if entry.config.basis == "published" else entry.config.basis


def _fits(fits: bool) -> str:
    return "" if fits else "does not fit the memory"


def _compared(ledger: Ledger) -> Iterator[tuple[str, Beside]]:
    for entry in ledger.entries:
        for row in entry.published:
            yield entry.config.name, row
    for row in ledger.published:
        yield "total", row


def _beside(name: str, row: Beside) -> tuple[str, ...]:
    unit = _UNITS.get(row.figure.quantity, row.figure.quantity)
    return (
        name,
        f"{number(row.figure.value)} {unit}",
        number(row.simulated),
        f"{row.error:+.1%}",
        row.figure.includes,
        row.figure.source,
    )


def _notes(ledger: Ledger) -> Iterator[str]:
    for entry in ledger.entries:
        if entry.config.repeat:
            yield f"{entry.config.name}: {_share(entry.config.repeat)}"
        for note in entry.config.notes:
            yield f"{entry.config.name}: {note}"


def _share(repeat: RepeatConfig) -> str:
    """Return what share is repeated, between which ends, and who says so."""
    low, high = repeat.ends
    between = f" ({low:g} to {high:g})" if low < high else ""
    return (
        f"{repeat.share:g}{between} of {', '.join(repeat.stages) or 'what trains'}; {repeat.source}"
    )


def _list(head: str, lines: Iterable[str]) -> Iterator[RenderableType]:
    """Yield a list with a heading, nothing where it is empty."""
    items = list(lines)
    if not items:
        return
    yield Text()
    yield Text(head, style="bold")
    for item in items:
        yield Text(f"  - {item}")
