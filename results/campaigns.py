"""Ledgers of whole training programmes, beside what was published of them."""

from __future__ import annotations

from collections.abc import Iterator

from cells import row

from simulator import inputs
from simulator.campaign import Beside, Entry, Ledger, Sum, ledger, read, scenarios, simulated

UNITS = {"gpu_hours": "GPU-h", "cost_usd": "USD", "wall_days": "days"}


def page() -> str:
    """Return all shipped ledgers, their misses included."""
    campaigns = [read(name) for name in inputs.shipped("campaigns")]
    steps = simulated(scenarios(campaigns))
    books = [ledger(campaign, steps) for campaign in campaigns]
    lines = [
        "# What training programmes cost",
        "",
        "Every stage is simulated, step by step; published figures stand beside what they include. No stage is tuned",
        "to its published figure. The interval is that of the steps: four fifths of runs like these lie inside; where",
        "shares are assumed, it goes from the low end of each to its high end as well.",
        "The restart times of Llama 3.1 405B are assumed, and lean on the effective time that its report gives.",
        "",
        "| published figure | published | simulated | error | it includes |",
        row("---", "---:", "---:", "---:", "---"),
    ]
    for book in books:
        lines += _published(book)
    for book in books:
        lines += ["", *_ledger(book)]
    lines += [
        "",
        "Reproduce: `python results/make.py campaigns.md`; one of them: `simulate plan NAME`.",
        "",
    ]
    return "\n".join(lines)


def _published(book: Ledger) -> Iterator[str]:
    for entry in book.entries:
        for beside in entry.published:
            yield _beside(f"{book.config.name}, {entry.config.name}", beside)
    for beside in book.published:
        yield _beside(book.config.name, beside)


def _beside(name: str, beside: Beside) -> str:
    figure = beside.figure
    unit = UNITS.get(figure.quantity, figure.quantity)
    return row(
        name,
        f"{_short(figure.value)} {unit}",
        _short(beside.simulated),
        f"{beside.error:+.1%}",
        f"{figure.includes} ({figure.source})",
    )


def _ledger(book: Ledger) -> Iterator[str]:
    config, total = book.config, book.total
    yield f"## {config.title or config.name}"
    yield ""
    yield f"`simulate plan {config.name}`"
    yield ""
    yield row("stage", "days", "GPU-hours", "from", "to", "USD", "basis")
    yield row("---", *(["---:"] * 5), "---")
    for entry in book.entries:
        yield _stage(entry)
    yield row("total", *_sums(total), "")
    yield ""
    yield f"It counts {'; '.join(config.counts)}. It leaves out {'; '.join(config.leaves_out)}."


def _stage(entry: Entry) -> str:
    basis = entry.config.basis
    if entry.goodput:
        basis += f"; {entry.goodput.shares[1]:.1%} of the time is training"
    if any(not line.step.report.fits for line in entry.lines):
        basis += "; does not fit the memory"
    return row(entry.config.name, *_sums(entry.total), basis)


def _sums(total: Sum) -> tuple[str, ...]:
    days = f"{total.wall_days:.1f}" if total.seconds else ""
    return (
        days,
        *(_short(value) for value in (total.gpu_hours, total.low, total.high, total.cost)),
    )


def _short(value: float) -> str:
    """Return a figure with four digits: 2.391 M, 5,000."""
    for unit, factor in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if value >= factor:
            return f"{value / factor:.4g} {unit}"
    return f"{value:,.0f}"
