"""The building blocks of a page: text, tables, cards, sections. Everything that comes from outside is escaped here."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from simulator.escapes import visible
from simulator.units import format_bytes, format_seconds

Cells = Sequence[object]
"""A row of a table, not yet escaped."""
Charts = Mapping[str, dict[str, Any]]
"""Name of a chart -> what plotly draws, as `charts` makes it."""


class Tile(NamedTuple):
    """A figure in large type."""

    value: str
    """The figure with its unit."""
    note: str
    """What it is, in a few words."""


def text(value: object) -> str:
    """Return a value as text of a page."""
    return html.escape(visible(value, lines=True))


def label(value: object) -> str:
    """Return a value as text of a chart, where plotly reads tags such as <b>."""
    return html.escape(visible(value), quote=False)


def number(value: float) -> str:
    """Return a figure with four digits, large ones in words."""
    for factor, word in ((1e12, " T"), (1e9, " B"), (1e6, " M")):
        if abs(value) >= factor:
            return f"{value / factor:.4g}{word}"
    # From a thousand on, commas read better than an exponent.
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def quantity(value: float, unit: str) -> str:
    """Return a figure with its unit; a share in percent if it has none."""
    if unit == "s":
        return format_seconds(value)
    if unit == "B":
        return format_bytes(value)
    if not unit:
        return f"{value:.1%}"
    return f"{number(value)} {unit}"


def table(heads: Cells, body: Iterable[Cells], numeric: Iterable[int] = ()) -> str:
    """Return a table. heads, body: not yet escaped. numeric: columns that are aligned to the right."""
    right = set(numeric)
    # A head of empty cells would draw its line all the same.
    head = ""
    if any(heads):
        names = _row(heads, "th", right)
        head = f"<thead>{names}</thead>"
    rows = "".join(_row(cells, "td", right) for cells in body)
    return f'<div class="scroll"><table>{head}<tbody>{rows}</tbody></table></div>'


def _row(cells: Cells, tag: str, right: set[int]) -> str:
    written = []
    for column, cell in enumerate(cells):
        kind = " class=number" if column in right else ""
        inner = text(cell)
        written.append(f"<{tag}{kind}>{inner}</{tag}>")
    return f"<tr>{''.join(written)}</tr>"


def tiles(shown: Iterable[Tile]) -> str:
    """Return figures in large type, next to each other."""
    written = [
        f'<div class="tile"><b>{text(tile.value)}</b><span>{text(tile.note)}</span></div>'
        for tile in shown
    ]
    return f'<div class="tiles">{"".join(written)}</div>'


def items(lines: Iterable[str]) -> str:
    """Return a list. lines: not yet escaped."""
    written = [f"<li>{text(line)}</li>" for line in lines]
    return f"<ul>{''.join(written)}</ul>"


def head(title: str, note: str) -> str:
    """Return the title of a page and the line below it. Neither is escaped yet."""
    return f'<h1>{text(title)}</h1><p class="soft">{text(note)}</p>'


def paragraph(note: str) -> str:
    """Return a note in grey, nothing if it is empty. note: not yet escaped."""
    return f'<p class="soft">{text(note)}</p>' if note else ""


def card(inner: str) -> str:
    """Return a frame around a piece of a page. inner: HTML."""
    return f'<div class="card">{inner}</div>'


def section(title: str, inner: str, above: str = "") -> str:
    """Return a section. title: not yet escaped. inner, and what stands above it: HTML."""
    return f"<section><h2>{text(title)}</h2>{above}{inner}</section>"


def details(title: str, inner: str, *, opened: bool = False) -> str:
    """Return a piece that opens with a click. title: not yet escaped. inner: HTML."""
    start = "<details open>" if opened else "<details>"
    return f"{start}<summary>{text(title)}</summary>{inner}</details>"


def chart(drawn: Charts, name: str) -> str:
    """Return the place of a chart. Its height is known before it is drawn, so that nothing moves."""
    height = drawn[name]["layout"]["height"]
    return card(f'<div id="{name}" style="height:{height}px"></div>')


def pair(drawn: Charts, *names: str) -> str:
    """Return the places of charts next to each other."""
    places = [chart(drawn, name) for name in names]
    return f'<div class="pair">{"".join(places)}</div>'


def data(name: str, tree: Any) -> str:
    """Return a tree that a script of the page reads."""
    packed = json.dumps(
        tree,
        ensure_ascii=False,
        allow_nan=False,
        separators=(",", ":"),
    )
    # Inside a script element only "<" could end it early.
    escaped = packed.replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{escaped}</script>'
