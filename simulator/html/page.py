"""Puts a page together: one file that needs no network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from simulator import inputs
from simulator.compare import binding, names, why
from simulator.html import charts, spans, sweeps, tables
from simulator.html.tables import text
from simulator.inputs import Document
from simulator.plot.sweep_values import Columns, SweepFigure
from simulator.scenario import Scenario
from simulator.whatif import Study

MOST_SCENES = 6
"""A timeline takes about a megabyte: a page has those of so many scenarios."""
HINT = (
    "Drag to move; wheel with Ctrl, or after a click, to zoom, as do W and S; A and D move; double click shows "
    "all. Attention is darker than the MLP. Every class of ranks that are alike was simulated once."
)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What it takes to make a page again. command: as it was typed."""

    command: str


def run(study: Study, given: Inputs) -> str:
    """Return the page of one step."""
    timeline, report = study.timeline, study.report
    scenario = report.scenario
    drawn = {
        "breakdown": charts.breakdown([report]),
        "bounds": charts.bounds([report]),
        "memory": charts.memory_by_stage(report),
        "lines": charts.memory_lines(timeline),
        "overlap": charts.overlap(report),
        "links": charts.links(report),
    }
    body = [
        _head(f"{scenario.model.name} on {scenario.topology.name}", tables.subtitle(scenario)),
        tables.tiles(report),
        _section("Where the step goes", _chart(drawn, "breakdown"), text(_costs(study))),
        _timeline([names([report])[0]]),
        _section("Bounds", _chart(drawn, "bounds"), text(binding(report))),
        _section("Memory", _pair(drawn, "memory", "lines"), tables.memory(study), raw=True),
        _section(
            "Communication",
            _pair(drawn, "overlap", "links"),
            "What compute hides, and how busy the links are.",
        ),
    ]
    if report.references():
        body.append(_section("Beside what was published", _card(tables.references(report))))
    if study.assumed:
        body.append(_section("Assumed, because it was not published", _card(tables.assumed(study))))
    body += [_provenance([scenario]), _reproduce([scenario], given)]
    return _page(
        f"{scenario.workload.name} on {scenario.topology.name}",
        body,
        drawn,
        [spans.scene(names([report])[0], timeline)],
    )


def comparison(studies: Sequence[Study], given: Inputs) -> str:
    """Return the page of several steps side by side."""
    reports = [study.report for study in studies]
    labels = names(reports)
    drawn = {"breakdown": charts.breakdown(reports), "bounds": charts.bounds(reports)}
    drawn |= {
        f"memory{place}": charts.memory_by_stage(report) for place, report in enumerate(reports)
    }
    memory = "".join(
        f"<h3>{text(label)}</h3>{tables.memory(study)}{_chart(drawn, f'memory{place}')}"
        for place, (label, study) in enumerate(zip(labels, studies, strict=True))
    )
    said = "".join(
        f"<h3>{text(label)} against {text(labels[0])}</h3>{_items(why(reports[0], report))}"
        for label, report in zip(labels[1:], reports[1:], strict=True)
    )
    body = [
        _head("Side by side", ", ".join(labels)),
        _section("The numbers", _card(tables.comparison(reports))),
        _section("Where the step goes", _chart(drawn, "breakdown")),
        _section(
            "What changed, and why", _card(said or "<p>One scenario: nothing to set beside it.</p>")
        ),
        _timeline(labels[:MOST_SCENES]),
        _section("Bounds", _chart(drawn, "bounds")),
        _section("Memory", memory),
        _provenance([report.scenario for report in reports]),
        _reproduce([report.scenario for report in reports], given),
    ]
    scenes = [
        spans.scene(label, study.timeline) for label, study in zip(labels, studies, strict=True)
    ]
    return _page(f"{' | '.join(labels)}", body, drawn, scenes[:MOST_SCENES])


def sweep(
    columns: Columns,
    figures: Sequence[SweepFigure],
    title: str,
    given: Inputs,
    documents: Sequence[Document],
) -> str:
    """Return the page of a sweep. columns: as `sweep.table` makes them. documents: the sweep and what it varies."""
    drawn = sweeps.charts(columns, figures)
    titles = sweeps.titles(columns, figures) if drawn else []
    body = [
        _head(title, sweeps.counts(columns)),
        *(_section(said, _chart(drawn, name)) for said, name in zip(titles, drawn, strict=True)),
        _section("The points", _card(sweeps.points(columns)), sweeps.note(columns)),
        _written(documents, given),
    ]
    return _page(title, body, drawn, [])


def _items(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{text(line)}</li>' for line in lines)}</ul>"


def _costs(study: Study) -> str:
    step = study.report.step_time
    sentences = []
    if study.imbalance:
        sentences.append(f"Unequal experts cost {study.imbalance.lost / step:.1%} of the step.")
    if study.stragglers:
        sentences.append(f"Slow GPUs cost {study.stragglers.lost / step:.1%} of the step.")
    return " ".join(sentences)


def _head(title: str, note: str) -> str:
    return f'<h1>{text(title)}</h1><p class="soft">{text(note)}</p>'


def _card(inner: str) -> str:
    return f'<div class="card">{inner}</div>'


def _section(title: str, inner: str, note: str = "", *, raw: bool = False) -> str:
    said = note if raw else (f'<p class="soft">{note}</p>' if note else "")
    return f"<section><h2>{text(title)}</h2>{said}{inner}</section>"


def _chart(drawn: dict[str, Any], name: str) -> str:
    """Return the place of a chart. Its height is known before it is drawn, so that nothing moves."""
    return f'<div class="card"><div id="{name}" style="height:{drawn[name]["layout"]["height"]}px"></div></div>'


def _pair(drawn: dict[str, Any], *chosen: str) -> str:
    return f'<div class="pair">{"".join(_chart(drawn, name) for name in chosen)}</div>'


def _timeline(labels: Sequence[str]) -> str:
    options = "".join(f"<option value={place}>{text(label)}" for place, label in enumerate(labels))
    select = f'<select aria-label="scenario">{options}</select>' if len(labels) > 1 else ""
    legend = "".join(
        f'<span><i style="background:{colour}"></i>{text(name)}</span>'
        for name, colour in spans.legend()
    )
    return _section(
        "One step",
        (
            f'<div class="card" id="timeline"><div class="bar">{select}<span class="bar ranks" style="margin:0"></span>'
            '<span class="grow"></span><button class="in" title="zoom in">+</button>'
            '<button class="out" title="zoom out">&minus;</button><button class="all">all</button></div>'
            '<canvas tabindex="0" aria-label="timeline of one step" style="height:360px"></canvas>'
            f'<div class="legend">{legend}</div></div>'
        ),
        HINT,
    )


def _provenance(scenarios: Sequence[Scenario]) -> str:
    shown: dict[tuple[str, str], Scenario] = {}
    for scenario in scenarios:
        shown.setdefault((scenario.gpu.name, scenario.kernels.name), scenario)
    return _section(
        "Where the hardware's figures come from",
        "".join(_card(tables.provenance(scenario)) for scenario in shown.values()),
    )


def _reproduce(scenarios: Sequence[Scenario], given: Inputs) -> str:
    return _written([document for scenario in scenarios for document in scenario.documents], given)


def _written(documents: Iterable[Document], given: Inputs) -> str:
    """Return the command and the text of every file that it reads."""
    files: dict[str, str] = {}
    for document in documents:
        files.setdefault(document.file, inputs.source(document))
        named = document.data.get("model", {}).get("hf_config")
        if isinstance(named, str):
            config = Path(document.file).parent / named
            files.setdefault(str(config), inputs.source(inputs.read(config)))
    shown = "".join(
        f"<details open><summary>{text(Path(file).name)}</summary><pre>{text(source)}</pre></details>"
        if place < 2
        else f"<details><summary>{text(Path(file).name)}</summary><pre>{text(source)}</pre></details>"
        for place, (file, source) in enumerate(files.items())
    )
    return _section(
        "Reproduce", f'<div class="card"><pre id="command">{text(given.command)}</pre>{shown}</div>'
    )


def _version() -> str:
    try:
        return f"simulate {metadata.version('simulate')}"
    except metadata.PackageNotFoundError:  # run from its folder
        return "simulate"


def _script(name: str, tree: Any) -> str:
    # Inside a script element only "<" could end it early.
    packed = json.dumps(tree, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace(
        "<", "\\u003c"
    )
    return f'<script type="application/json" id="{name}">{packed}</script>'


def _page(
    title: str, body: Iterable[str], drawn: dict[str, Any], scenes: Sequence[dict[str, Any]]
) -> str:
    from plotly.offline import get_plotlyjs

    scripts = "".join(
        f"<script>{inputs.asset(name)}</script>" for name in ("charts.js", "timeline.js")
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{text(title)}</title><style>{inputs.asset('style.css')}</style></head>"
        f'<body><main>{"".join(body)}<footer>{_version()}</footer></main><div id="tip" role="tooltip"></div>'
        f"{_script('charts', drawn)}{_script('scenes', list(scenes))}"
        f"<script>{get_plotlyjs()}</script>{scripts}</body></html>\n"
    )
