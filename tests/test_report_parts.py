"""The one table of the parts of a step: who reads it, and that a colour means one thing."""

import re
from itertools import combinations

import numpy as np
import pytest
from builders import scenario

from simulator import inputs
from simulator.cli.text import study_text
from simulator.html.charts import breakdown
from simulator.report import as_dict, palette
from simulator.report.parts import CHUNK_KINDS, PARTS, TRAFFIC_KINDS
from simulator.whatif import study

TABLES = (PARTS, TRAFFIC_KINDS, CHUNK_KINDS)


@pytest.fixture(scope="module")
def simulated():
    return study(scenario(), penalties=False)


@pytest.fixture(scope="module")
def report(simulated):
    return simulated.report


@pytest.mark.parametrize("table", TABLES, ids=("parts", "traffic", "chunks"))
def test_names_and_texts_are_unique(table):
    assert len({row.name for row in table}) == len({row.text for row in table}) == len(table)


def test_a_step_is_broken_down_into_parts_of_the_table_in_its_order(report):
    names = [part.name for part in PARTS]
    assert [name for name in names if name in report.breakdown] == list(report.breakdown)
    assert list(as_dict(report)["traffic_bytes"]) == [kind.name for kind in TRAFFIC_KINDS]
    phases = [kind.name for kind in CHUNK_KINDS if kind.name != "update"]
    assert list(report.phases)[: len(phases)] == phases


def test_the_terminal_and_the_page_show_what_the_table_says(simulated, report):
    table = next(
        part
        for part in study_text(simulated)
        if getattr(part, "columns", ()) and "part" in _heads(part)
    )
    cells = [list(column.cells) for column in table.columns]
    listed = dict(zip(cells[0], cells[3], strict=True))
    shown = {bar["name"]: bar["marker"]["color"] for bar in breakdown([report])["data"]}
    for part in PARTS:
        seconds = report.breakdown.get(part.name, 0.0)
        assert (part.name in listed) == (bool(seconds) or not part.hidden_if_zero)
        if part.name in listed:
            assert listed[part.name] == part.meaning
        if seconds > 1e-3 * report.step_time:
            assert shown[part.text] == part.colour


def _heads(table):
    return [str(column.header) for column in table.columns]


def test_a_colour_means_one_thing_in_all_tables():
    meanings = {}
    for table in TABLES:
        for row in table:
            meanings.setdefault(row.colour, set()).add(row.name.removesuffix("_exposed"))
    meanings[palette.GREY].remove("update")  # the chunk in which the optimizer runs
    assert all(len(names) == 1 for names in meanings.values()), meanings


def test_readers_can_tell_all_colours_apart():
    # CIE76: a difference of 2.3 is just noticeable, of 10 plain at a glance.
    colours = {row.colour for table in TABLES for row in table}
    assert all(_difference(one, other) > 12.0 for one, other in combinations(colours, 2))
    assert all(_difference(one, other) > 12.0 for one, other in combinations(palette.SERIES, 2))


def _difference(one, other):
    return np.linalg.norm(_lab(one) - _lab(other))


def _lab(colour):
    """Return CIE L*a*b* of an sRGB colour under D65."""
    encoded = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.array(to_xyz) @ linear / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_ink_is_legible_on_every_colour():
    # WCAG 2 asks for a ratio of 3 between large text and what is behind it.
    for row in (*PARTS, *TRAFFIC_KINDS, *CHUNK_KINDS):
        light, dark = sorted((_luminance(row.colour), _luminance(palette.ink(row.colour))))[::-1]
        assert (light + 0.05) / (dark + 0.05) > 3.0, row


def _luminance(colour):
    encoded = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_figures_take_every_colour_by_its_name():
    literal = re.compile(r"[\"']#[0-9A-Fa-f]{3,8}[\"']")
    files = sorted((inputs.ROOT / "plot").glob("*.py"))
    assert len(files) > 10
    assert [path.name for path in files if literal.search(path.read_text(encoding="utf-8"))] == []
