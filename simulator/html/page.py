"""Puts a page together: one file that needs no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import chain
from pathlib import Path

from simulator import inputs
from simulator.compare import binding, names, told_apart, why
from simulator.html import blocks, charts, provenance, spans, sweeps, tables
from simulator.html.blocks import Charts, card, chart, items, pair, paragraph, section, text
from simulator.html.spans import Scene
from simulator.inputs import Document
from simulator.plot.sweep_values import Columns, SweepFigure
from simulator.whatif import Study
from simulator.whatif.sentences import cost_sentence, spread_sentence, waits_sentence

MOST_SCENES = 6
"""A timeline takes about a megabyte: a page has those of so many scenarios."""
OPENED = 2
"""Input files that a page shows without a click: the topology and the workload."""
HINT = (
    "Drag to move; wheel with Ctrl, or after a click, to zoom, as do W and S; A and D move; "
    "double click shows all. Attention is darker than the MLP. "
    "Every class of ranks that are alike was simulated once."
)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What it takes to make a page again."""

    command: str
    """The command, as it was typed."""


def run(study: Study, given: Inputs) -> str:
    """Return the page of one step."""
    timeline, report = study.timeline, study.report
    scenario = report.scenario
    name = names([report])[0]
    drawn = {
        "breakdown": charts.breakdown([report]),
        "bounds": charts.bounds([report]),
        "memory": charts.memory_by_stage(report),
        "lines": charts.memory_lines(timeline),
        "overlap": charts.overlap(report),
        "links": charts.links(report),
    }
    # From what everybody asks for to what only a reviewer does: where the numbers come from.
    heading = f"{scenario.model.name} on {scenario.topology.name}"
    body = [
        blocks.head(heading, tables.subtitle(scenario)),
        tables.first_figures(report),
        section("Where the step goes", chart(drawn, "breakdown"), paragraph(_penalties(study))),
        _timeline([name]),
        section("Bounds", chart(drawn, "bounds"), paragraph(binding(report))),
        section("Memory", pair(drawn, "memory", "lines"), tables.memory(study)),
        section(
            "Communication",
            pair(drawn, "overlap", "links"),
            paragraph("What compute hides, and how busy the links are."),
        ),
    ]
    body.append(section("How far to trust it", card(tables.trust(study.trust))))
    if report.references():
        published = card(tables.references(report))
        body.append(section("Compared with publications", published))
    if study.assumed:
        assumed = card(tables.assumed(study))
        body.append(section("Assumed, because it was not published", assumed))
    if study.sensitivity:
        body.append(section("What the step hangs on", card(tables.sensitivity(study))))
    body += [provenance.sources([scenario]), _reproduce(scenario.documents, given)]
    title = f"{scenario.workload.name} on {scenario.topology.name}"
    return _page(title, body, drawn, [spans.scene(name, timeline)])


def comparison(studies: Sequence[Study], given: Inputs) -> str:
    """Return the page of several steps side by side."""
    reports = [study.report for study in studies]
    labels = names(reports)
    drawn = {
        "breakdown": charts.breakdown(reports),
        "bounds": charts.bounds(reports),
    }
    memory, changes = "", ""
    labelled = list(zip(labels, studies, strict=True))
    for number, (label, study) in enumerate(labelled):
        name = f"memory{number}"
        drawn[name] = charts.memory_by_stage(study.report)
        memory += f"<h3>{text(label)}</h3>"
        memory += tables.memory(study) + chart(drawn, name)
        # Every scenario is compared with the first, as in the table of ratios.
        if number:
            pair_of_names = text(f"{label} against {labels[0]}")
            changes += f"<h3>{pair_of_names}</h3>"
            said = told_apart(studies[0], study).sentence
            changes += items([*why(reports[0], study.report), said])
    documents = [report.scenario.documents for report in reports]
    body = [
        blocks.head("Side by side", ", ".join(labels)),
        section("The numbers", card(tables.comparison(reports))),
        section("Where the step goes", chart(drawn, "breakdown")),
        section(
            "What changed, and why",
            card(changes or "<p>One scenario: nothing to compare it with.</p>"),
        ),
        _timeline(labels[:MOST_SCENES]),
        section("Bounds", chart(drawn, "bounds")),
        section("Memory", memory),
        provenance.sources([report.scenario for report in reports]),
        _reproduce(chain.from_iterable(documents), given),
    ]
    # A page of dozens of megabytes opens slowly, so only the first scenarios have a timeline.
    shown = labelled[:MOST_SCENES]
    scenes = [spans.scene(label, study.timeline) for label, study in shown]
    return _page(" | ".join(labels), body, drawn, scenes)


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
    points = card(sweeps.points(columns))
    places = []
    for said, name in zip(titles, drawn, strict=True):
        places.append(section(said, chart(drawn, name)))
    body = [
        blocks.head(title, sweeps.counts(columns)),
        *places,
        section("The points", points, paragraph(sweeps.note(columns))),
        _reproduce(documents, given),
    ]
    return _page(title, body, drawn, [])


def _penalties(study: Study) -> str:
    report = study.report
    sentences = []
    if study.imbalance:
        cost = cost_sentence(report, "Unequal experts cost", study.imbalance.lost)
        sentences.append(f"{cost}.")
    if study.stragglers:
        cost = cost_sentence(report, "Slow GPUs cost", study.stragglers.lost)
        sentences.append(f"{cost}.")
    if study.spread:
        sentences.append(f"{spread_sentence(study.report, study.spread)}.")
    if study.waits:
        sentences.append(f"{waits_sentence(study.report, study.waits)}.")
    return " ".join(sentences)


def _timeline(labels: Sequence[str]) -> str:
    """Return the place of the timeline, with its buttons and its legend."""
    options = []
    for number, label in enumerate(labels):
        options.append(f"<option value={number}>{text(label)}")
    # With one scenario there is nothing to choose.
    select = ""
    if len(labels) > 1:
        select = f'<select aria-label="scenario">{"".join(options)}</select>'
    legend = [
        f'<span><i style="background:{entry.colour}"></i>{text(entry.text)}</span>'
        for entry in spans.legend()
    ]
    inner = (
        f'<div class="card" id="timeline"><div class="bar">{select}'
        '<span class="bar ranks" style="margin:0"></span><span class="grow"></span>'
        '<button class="in" title="zoom in">+</button>'
        '<button class="out" title="zoom out">&minus;</button><button class="all">all</button></div>'
        '<canvas tabindex="0" aria-label="timeline of one step" style="height:360px"></canvas>'
        f'<div class="legend">{"".join(legend)}</div></div>'
    )
    return section("One step", inner, paragraph(HINT))


def _reproduce(documents: Iterable[Document], given: Inputs) -> str:
    """Return the command and the text of every file that it reads."""
    files = _files(documents)
    shown = ""
    for number, (file, source) in enumerate(files.items()):
        inner = f"<pre>{text(source)}</pre>"
        name = Path(file).name
        shown += blocks.details(name, inner, opened=number < OPENED)
    command = f'<pre id="command">{text(given.command)}</pre>'
    return section("Reproduce", card(command + shown))


def _files(documents: Iterable[Document]) -> dict[str, str]:
    """Return the text of files by their paths, each once, those that they name included."""
    files: dict[str, str] = {}
    for document in documents:
        files.setdefault(document.file, inputs.source(document))
        # A model's own file decides the numbers as much as the workload does.
        config = document.data.get("model", {}).get("hf_config")
        if isinstance(config, str):
            path = Path(document.file).parent / config
            source = inputs.source(inputs.read(path))
            files.setdefault(str(path), source)
    return files


def _version() -> str:
    try:
        return f"simulate {metadata.version('simulate')}"
    except metadata.PackageNotFoundError:  # run from its folder
        return "simulate"


def _page(title: str, body: Iterable[str], drawn: Charts, scenes: Sequence[Scene]) -> str:
    """Return the whole page. body: HTML. drawn, scenes: what its scripts draw."""
    from plotly.offline import get_plotlyjs

    # Plotly's own script is part of the page: nothing is fetched when it is opened.
    sources = [get_plotlyjs(), inputs.asset("charts.js"), inputs.asset("timeline.js")]
    scripts = [f"<script>{source}</script>" for source in sources]
    # An empty icon: a browser would else ask the server of the page for one.
    head = (
        '<meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{text(title)}</title><style>{inputs.asset('style.css')}</style>"
    )
    return (
        f'<!doctype html><html lang="en"><head>{head}</head>'
        f"<body><main>{''.join(body)}<footer>{text(_version())}</footer></main>"
        '<div id="tip" role="tooltip"></div>'
        f"{blocks.data('charts', drawn)}{blocks.data('scenes', list(scenes))}"
        f"{''.join(scripts)}</body></html>\n"
    )
