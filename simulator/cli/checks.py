"""Published figures next to simulated ones, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from simulator.cli.tables import number, table
from simulator.units import format_bytes
from simulator.validate import Check, Score, by_kind, score


def checks_text(checks: Sequence[Check]) -> Iterator[RenderableType]:
    """Yield the checks as a table per publication, and their mean error."""
    by_publication: dict[str, list[Check]] = {}
    for check in checks:
        publication, _, _ = check.case.partition("/")
        by_publication.setdefault(publication, []).append(check)
    for name, group in by_publication.items():
        yield _checks(name, group)
        if not _has_rows(group):
            sources = dict.fromkeys(check.source for check in group)
            listed = "; ".join(sources)
            yield Text(f"source: {listed}", style="dim")
        yield Text()
    # Steps, memory and collectives are scored apart: an error of one says nothing about another.
    rows = [check for check in checks if "/" in check.case]
    steps = [check for check in rows if check.kind]
    memory = [check for check in rows if check.unit == "B"]
    collectives = [check for check in rows if check.unit == "us"]
    if len(steps) > 1:
        yield _kinds(steps)
        yield Text()
    yield from _score("published steps and runs", steps)
    yield from _score("published memory figures", memory)
    yield from _score("published collectives", collectives)


def _kinds(checks: Sequence[Check]) -> Table:
    """Return how far the steps of each kind are off, of time: below zero is too fast."""
    heads = ("kind", "cases", "twins once", "absolute", "signed", "worst", "its error")
    result = table("mean errors of time by kind", *heads, left=1)
    for kind, total in by_kind(checks):
        result.add_row(
            str(kind),
            str(total.checks),
            str(total.groups),
            f"{total.mean:.1%}",
            f"{total.signed:+.1%}",
            total.worst.case,
            f"{total.worst.slower:+.1%}",
        )
    return result


def _count(total: Score) -> str:
    """Return how many cases a score has, and how many count where some are twins."""
    if total.groups == total.checks:
        return str(total.checks)
    return f"{total.checks} ({total.groups} with twins once)"


def _score(what: str, checks: Sequence[Check]) -> Iterator[Text]:
    """Yield how far some checks are off, nothing where none counts."""
    total = score(checks)
    if total:
        line = (
            f"{what}: {_count(total)}, none used for calibration; mean absolute error "
            f"{total.mean:.1%}, worst {total.worst.case} {total.worst.slower:+.1%}"
        )
        yield Text(line, style="bold")


def _has_rows(checks: Sequence[Check]) -> bool:
    """Tell whether a publication has several cases, each with a name of its own."""
    return any("/" in check.case for check in checks)


def _checks(name: str, checks: Sequence[Check]) -> Table:
    has_rows = _has_rows(checks)
    has_span = any(check.span for check in checks)
    heads = ["quantity", "published", "simulated", "error"]
    if has_rows:
        heads.insert(0, "case")
    if has_span:
        heads.append("over the alternatives")
    title = f"{name} ({checks[0].use})"
    names = 2 if has_rows else 1
    result = table(title, *heads, left=names)
    for check in checks:
        cells = _cells(check)
        if has_rows:
            # The title names the publication already.
            _, _, row = check.case.partition("/")
            cells.insert(0, row or check.case)
        if has_span:
            cells.append(_span(check))
        result.add_row(*cells)
    return result


def _cells(check: Check) -> list[str]:
    error = f"{check.error:+.1%}"
    return [
        check.quantity,
        _figure(check.published, check.unit),
        _figure(check.simulated, check.unit),
        error if check.scored else f"{error} (not scored)",
    ]


def _span(check: Check) -> str:
    """Return the least and the largest error over the alternatives."""
    errors = [end / check.published - 1 for end in check.span]
    return " to ".join(f"{error:+.1%}" for error in errors)


def _figure(value: float, unit: str) -> str:
    if unit == "B":
        return format_bytes(value)
    return f"{number(value)} {unit}".strip()
