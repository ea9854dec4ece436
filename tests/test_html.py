"""The page: what stands in it, and that a browser opens it from disk, complains of nothing, shows values on hover."""

import importlib.util
import json
import re
from dataclasses import replace

import pytest
from browser import browser, chromium
from builders import CLUSTER, TRAINING, scenario

from simulator.cli.commands import _main
from simulator.html import Inputs, comparison, run, spans
from simulator.html.blocks import table
from simulator.html.charts import breakdown, links, memory_by_stage, memory_lines, overlap
from simulator.html.provenance import provenance
from simulator.html.spans import TENTHS, scene
from simulator.program import STREAMS
from simulator.report.palette import darker
from simulator.report.parts import CHUNK_KINDS, TRAFFIC_KINDS
from simulator.trace.rows import Rows
from simulator.whatif import spans as spans_of
from simulator.whatif import study

GIVEN = Inputs("simulate run mine.yaml -w tiny.yaml --html page.html")
needs_browser = pytest.mark.skipif(
    chromium() is None or importlib.util.find_spec("websocket") is None,
    reason="needs an installed Chromium and websocket-client",
)


@pytest.fixture(scope="module")
def small():
    return study(scenario(schedule__name="dualpipe", layout__pp=2, training__global_batch_size=32))


@pytest.fixture(scope="module")
def page(small):
    return run(small, GIVEN)


def embedded(page, name):
    found = re.search(
        rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL
    )
    return json.loads(found[1])


# What stands in it


@pytest.mark.slow
def test_the_page_holds_the_numbers_the_command_and_both_files(small, page):
    report = small.report
    for part in (
        GIVEN.command,
        "mine.yaml",
        "tiny.yaml",
        f"{report.mfu:.1%}",
        "nearest bound",
        "Where the step goes",
        "Where the hardware&#x27;s figures come from",
    ):
        assert part in page


def test_the_page_names_no_address_that_it_would_fetch(page):
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"'](?!data:)", page)


def test_every_chart_has_a_place_of_its_height(page):
    for name, chart in embedded(page, "charts").items():
        assert f'<div id="{name}" style="height:{chart["layout"]["height"]}px">' in page


def test_every_hardware_figure_has_its_source(small):
    scenario_ = small.report.scenario
    shown = provenance(scenario_)
    kernels = scenario_.kernels
    models = [
        model
        for group in (kernels.gemm, kernels.wgrad, kernels.attention, kernels.communication)
        for model in group.values()
    ]
    for source in (
        *scenario_.gpu.sources.values(),
        *kernels.sources.values(),
        *(model.source for model in models),
    ):
        assert source.split("'")[0].split("&")[0].split("<")[0].split(">")[0] in shown


@pytest.mark.slow
def test_text_of_a_file_cannot_become_part_of_the_page():
    assert table(("<b>",), [("a & </script>",)]) == (
        '<div class="scroll"><table><thead><tr><th>&lt;b&gt;</th></tr></thead><tbody>'
        "<tr><td>a &amp; &lt;/script&gt;</td></tr></tbody></table></div>"
    )
    page = run(study(scenario(model__name="</script><b>")), Inputs("<i>"))
    assert "<i>" not in page.split("<script>")[0]
    assert "</script><b>" not in page


# Charts


def test_bars_of_the_breakdown_add_up_to_the_step(small):
    report = small.report
    data = breakdown([report, report])["data"]
    assert sum(bar["x"][0] for bar in data) == pytest.approx(report.step_time, rel=1e-3)
    assert all(len(bar["x"]) == 2 for bar in data)
    assert sum(bar["customdata"][1] for bar in data) == pytest.approx(100.0, rel=1e-3)


def test_charts_of_memory_and_communication_show_the_reports_figures(small):
    timeline, report = small.timeline, small.report
    bars = [bar for bar in memory_by_stage(report)["data"] if bar["type"] == "bar"]
    assert [
        sum(bar["y"][place] for bar in bars) for place in range(len(report.memory))
    ] == pytest.approx([rank.peak / 1e9 for rank in report.memory])
    assert (
        max(memory_lines(timeline)["data"][0]["y"])
        <= report.worst_memory.by_category["activations"] / 1e9 + 1e-3
    )
    hidden, exposed = overlap(report)["data"]
    assert [a + b for a, b in zip(hidden["y"], exposed["y"], strict=True)] == pytest.approx(
        [one.communication for one in report.overlap]
    )
    assert links(report)["data"][0]["x"] == list(report.utilisation)


def test_a_scene_has_every_row_of_the_timeline_once(small):
    timeline = small.timeline
    found = scene("one", timeline)
    starts = []
    for rank in found["ranks"]:
        for lane in rank["lanes"]:
            at = 0
            assert lane["name"].split()[0] in STREAMS
            for step, length, label in zip(
                lane["start"], lane["length"], lane["label"], strict=True
            ):
                at += step
                starts.append((at, length, found["labels"][label]["text"]))
    known = sorted(
        (round(start * TENTHS), timeline.program.labels[label])
        for start, label in zip(
            timeline.start.tolist(), timeline.program.label.tolist(), strict=True
        )
    )
    assert sorted((start, label) for start, _, label in starts) == known


@pytest.mark.slow
def test_a_scene_of_very_many_spans_shows_some_classes_of_ranks(monkeypatch):
    timeline = study(scenario(faults=[{"gpu": 3, "speed": 0.7}])).timeline
    assert spans.chosen(timeline) == list(range(8))
    monkeypatch.setattr(spans, "MOST", len(timeline.program.rank) // 2)
    found = scene("one", timeline)
    assert len(found["ranks"]) == 4
    assert found["classes"] == 8
    monkeypatch.setattr(spans, "MOST", 1)
    assert spans.chosen(timeline) == [0]


# The timeline's colours


def test_the_timeline_has_the_colours_of_the_table_of_parts_and_a_legend_for_each(small):
    rows = Rows(small.timeline)
    kinds = {kind.name: kind.colour for kind in TRAFFIC_KINDS}
    shades = {kind.colour for kind in CHUNK_KINDS}
    shades |= {darker(shade) for shade in shades}
    for row in range(len(rows)):
        shown = spans.colour(rows, row)
        if rows.coflow(row) < 0:
            assert shown in shades
            continue
        own = kinds[small.timeline.program.coflows[rows.coflow(row)].traffic]
        assert shown == (darker(own) if rows.kernel(row) == "Combine" else own)
    explained = {entry.colour for entry in spans.legend()}
    assert len(explained) == len(spans.legend())
    drawn = {label["colour"] for label in scene("one", small.timeline)["labels"]}
    assert drawn <= explained | {darker(colour) for colour in explained}


# The command


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, document in (("mine.yaml", CLUSTER), ("tiny.yaml", TRAINING)):
        (tmp_path / name).write_text(json.dumps(document, indent=1), encoding="utf-8")
    return tmp_path


@pytest.mark.slow
def test_run_and_compare_write_pages_that_say_how_they_were_made(files, capsys):
    assert _main(["run", "mine.yaml", "-w", "tiny.yaml", "--html", "run.html"]) == 0
    text = (files / "run.html").read_text(encoding="utf-8")
    assert "simulate run mine.yaml -w tiny.yaml --html run.html" in text
    assert "&quot;nvlink&quot;: &quot;400 GB/s bidirectional&quot;" in text
    call = [
        "compare",
        "mine.yaml",
        "-w",
        "tiny.yaml",
        "--set",
        "layout.ep=[1, 2]",
        "--html",
        "both.html",
    ]
    assert _main(call) == 0
    text = (files / "both.html").read_text(encoding="utf-8")
    assert "--set &#x27;layout.ep=[1, 2]&#x27;" in text
    assert len(embedded(text, "scenes")) == 2
    assert "changed: workload.layout.ep 1 -&gt; 2" in text
    capsys.readouterr()
    assert _main(["run", "mine.yaml", "-w", "tiny.yaml", "--html", "no/page.html"]) == 2


# A browser


@needs_browser
@pytest.mark.slow
def test_a_browser_opens_it_draws_it_and_shows_values_on_hover(small, tmp_path):
    assumed = replace(small, assumed=spans_of(small.report.scenario))
    (tmp_path / "run.html").write_text(run(assumed, GIVEN), encoding="utf-8")
    other = study(scenario(nodes=2))
    (tmp_path / "both.html").write_text(comparison([small, other], GIVEN), encoding="utf-8")
    with browser(tmp_path) as show:
        page = show(tmp_path / "run.html")
        assert page.evaluate("document.querySelectorAll('.js-plotly-plot .main-svg').length") >= 6
        left, top, width, height = page.box("#breakdown .barlayer")
        page.mouse("mouseMoved", left + 0.1 * width, top + height / 2)
        page.wait("!!document.querySelector('#breakdown .hovertext')")
        assert "% of the step" in page.evaluate(
            "document.querySelector('#breakdown .hovertext').textContent"
        )
        _timeline(page)
        page.dark()
        page.wait("getComputedStyle(document.body).backgroundColor === 'rgb(20, 22, 25)'")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.faults == []
        assert {address.partition(":")[0] for address in page.asked} <= {"file", "data"}
        page = show(tmp_path / "both.html")
        before = page.evaluate("timeline.view()[1]")
        page.evaluate(
            "(() => { const s = document.querySelector('#timeline select'); s.value = 1; s.onchange(); })()"
        )
        assert page.evaluate("timeline.view()[1]") != before
        assert page.faults == []


def _timeline(page):
    """Check that the canvas is painted, answers the mouse and zooms."""
    left, top, width, _ = page.box("#timeline canvas")
    page.wait(
        "(() => { const c = document.querySelector('#timeline canvas');"
        "return new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size > 20; })()"
    )
    found = ""
    for share in range(30, 95, 5):  # the first stripe of the first rank: compute
        page.mouse("mouseMoved", left + share / 100 * width, top + 54)
        if page.evaluate("document.getElementById('tip').style.visibility") == "visible":
            found = page.evaluate("document.getElementById('tip').textContent")
            break
    assert re.search(r"@\d", found)
    assert re.search(r"[\d.]+ (?:µs|ms|s), from [\d.]+ s", found)
    whole = page.evaluate("timeline.view()")
    page.evaluate("document.querySelector('#timeline .in').click()")
    start, end = page.evaluate("timeline.view()")
    assert end - start == pytest.approx(0.4 * (whole[1] - whole[0]))
    lanes = page.evaluate("timeline.lanes()")
    page.evaluate("document.querySelector('#timeline .ranks button').click()")
    assert page.evaluate("timeline.lanes()") < lanes
    page.evaluate("document.querySelector('#timeline .ranks button').click()")
    assert page.evaluate("timeline.lanes()") == lanes
