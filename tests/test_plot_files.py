"""The files of all figures: fonts that journals take, text as text, and the same bytes each time."""

import re
import zlib
from functools import lru_cache
from xml.etree import ElementTree

import pytest
from builders import scenario, studied

from simulator import plot
from simulator.cli.commands import _main
from simulator.plot import FIGURES, SweepFigure
from simulator.residuals import residuals
from simulator.residuals.exchanges import curves

COLUMNS = {
    "point": [0, 1, 2, 3],
    "status": ["ok"] * 4,
    "gpus": [8, 16, 8, 16],
    "axis.topology.nodes": [2, 4, 2, 4],
    "axis.layout.ep": [1, 1, 2, 2],
    "step_time_s": [4.0, 2.1, 3.0, 1.6],
}
PANELS = [
    SweepFigure(kind="knee", x="topology.nodes", by="layout.ep"),
    SweepFigure(kind="scaling", x="topology.nodes", by="layout.ep"),
    SweepFigure(kind="heat_map", x="topology.nodes", y="layout.ep"),
    SweepFigure(kind="bars", x="topology.nodes", by="layout.ep"),
]


@pytest.fixture(scope="module")
def small():
    return studied(scenario(nodes=4, layout__ep=8))


_residuals = lru_cache(residuals)


def command(*arguments):
    """Return what draws the figure of a command."""

    def drawn(_, path):
        assert _main([*arguments, "--plot", str(path)]) == 0

    return drawn


OTHERS = {
    "comparison": lambda small, path: plot.comparison([small[1], small[1]], path),
    "cluster": command("topology", "h800-2048"),
    "collective": command(
        "collective", "h800-2048", "--op", "all_reduce", "--ranks", "16", "--bytes", "1MiB:1GiB"
    ),
    "kernels": lambda _, path: plot.kernels(_residuals(), path),
    "over_sms": lambda _, path: plot.over_sms(curves(), path),
    "schedule": command("schedule", "dualpipe", "--stages", "4", "--micro-batches", "8"),
    "sweep": lambda _, path: plot.sweep(COLUMNS, PANELS, "A sweep", path),
}
DRAWN = [*FIGURES, *OTHERS]


def draw(name, small, path):
    if name in FIGURES:
        FIGURES[name](*small, path)
    else:
        OTHERS[name](small, path)
    return path.read_bytes()


def test_every_figure_is_here():
    functions = {name for name in plot.__all__ if name.islower()}
    helpers = {"check_figure", "check_format", "knee"}
    assert functions - helpers <= set(DRAWN)


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWN)
def test_pdf_embeds_truetype_fonts(small, tmp_path, name):
    file = draw(name, small, tmp_path / "figure.pdf")
    objects = file + b"".join(_inflated(file))
    assert b"/Type3" not in objects
    assert b"/FontFile2" in objects  # TrueType: PDF 32000-1, table 126


def _inflated(file):
    for match in re.finditer(rb"stream\r?\n(.*?)endstream", file, re.DOTALL):
        try:
            yield zlib.decompress(match[1])
        except zlib.error:
            continue


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWN)
def test_svg_has_text_as_text_and_no_formula(small, tmp_path, name):
    draw(name, small, tmp_path / "figure.svg")
    texts = [
        "".join(node.itertext())
        for node in ElementTree.parse(tmp_path / "figure.svg").iter()
        if node.tag.endswith("}text")
    ]
    assert len(texts) > 5
    assert not [text for text in texts if "$" in text or "mathdefault" in text]


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_every_figure_is_the_same_bytes_twice(small, tmp_path, name, ending):
    path = tmp_path / f"figure.{ending}"
    assert draw(name, small, path) == draw(name, small, path)
