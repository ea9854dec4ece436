"""The lanes of a step's figure: which are drawn, when they are busy, and what their colours mean."""

import numpy as np
import pytest
from builders import dense, hosted, scenario, studied

from simulator import engine
from simulator.plot import lanes
from simulator.plot.canvas import opened
from simulator.program import lower
from simulator.report.parts import CHUNK_KINDS, PARTS, TRAFFIC_KINDS

TRAFFIC = {
    # scenario -> kinds of traffic that its step has
    "experts": (lambda: scenario(layout__ep=4), {"expert", "pipeline", "data"}),
    "tensor": (
        lambda: dense(layout__tp=2, layout__cp=2),
        {"tensor", "context", "pipeline", "data"},
    ),
}


@pytest.fixture(scope="module", params=TRAFFIC)
def run(request):
    """Return a timeline, its report and the kinds of traffic that it must have."""
    build, kinds = TRAFFIC[request.param]
    return *studied(build()), kinds


@pytest.fixture
def drawn(run, tmp_path, monkeypatch):
    """Return the panels of a step's figure as they are when it is written."""
    panels = []
    monkeypatch.setattr(lanes, "opened", _keep(panels))
    lanes.step(run[0], run[1], tmp_path / "step.png")
    return panels


def _keep(panels):
    from contextlib import contextmanager

    @contextmanager
    def keeping(path, sheet):
        with opened(path, sheet) as (figure, axes):
            yield figure, axes
            panels.extend(axes)

    return keeping


@pytest.mark.slow
def test_every_kind_of_traffic_has_a_lane_in_every_row(run, drawn):
    timeline, _, kinds = run
    assert {kind.name for kind in lanes.carried(timeline.program)} == kinds
    colours = [patch.get_facecolor() for patch in drawn[0].patches]
    for kind in TRAFFIC_KINDS:
        count = sum(_hex(colour) == kind.colour for colour in colours)
        assert count == (timeline.program.ranks if kind.name in kinds else 0)


def _hex(colour):
    from matplotlib.colors import to_hex

    return to_hex(colour).upper()


@pytest.mark.slow
def test_a_lane_is_busy_for_as_long_as_its_transfers_are_in_flight(run):
    timeline, _, kinds = run
    program = timeline.program
    traffic = np.array([*(flow.traffic for flow in program.coflows), ""])[program.coflow]
    for kind in kinds:
        rows = np.flatnonzero((program.rank == 0) & (traffic == kind))
        fine = np.linspace(0.0, timeline.step_time, 20_001)
        middle = (fine[:-1] + fine[1:]) / 2
        busy = np.zeros(len(middle), dtype=bool)
        for row in rows.tolist():
            busy |= (timeline.start[row] <= middle) & (middle < timeline.end[row])
        shares = lanes.busy_share(timeline, 0, kind)
        assert len(rows)
        assert 0.0 <= shares.min() <= shares.max() <= 1.0 + 1e-9
        assert shares.reshape(-1, 20).mean(axis=1) == pytest.approx(
            busy.reshape(50, -1).mean(axis=1), abs=0.03
        )


def test_a_rank_without_transfers_of_a_kind_has_an_empty_lane(run):
    assert not lanes.busy_share(run[0], 0, "none").any()


@pytest.mark.slow
def test_lanes_end_with_the_step_and_both_panels_have_one_scale(run, drawn):
    timeline = run[0]
    assert [axes.get_xlim() for axes in drawn] == [(0.0, timeline.step_time)] * 2
    for patch in drawn[0].patches:
        xs = patch.get_path().vertices[:, 0]
        assert (xs.min(), xs.max()) == pytest.approx((0.0, timeline.step_time))


@pytest.mark.slow
def test_a_colour_has_one_meaning_in_both_panels(drawn):
    meanings = {}
    for axes in drawn:
        for patch, text in zip(
            axes.get_legend().get_patches(), axes.get_legend().get_texts(), strict=True
        ):
            if text.get_text():
                meanings.setdefault(_hex(patch.get_facecolor()), set()).add(text.get_text())
    known = {}
    for row in (*PARTS, *TRAFFIC_KINDS, *CHUNK_KINDS):
        known.setdefault(row.colour, set()).add(row.text)
    assert meanings
    assert all(texts <= known[colour] for colour, texts in meanings.items())


@pytest.mark.slow
def test_very_many_classes_of_ranks_are_drawn_in_part(monkeypatch, tmp_path):
    timeline, report = studied(scenario(faults=[{"gpu": 3, "speed": 0.7}]))
    assert lanes.drawn_ranks(timeline.program) == list(range(8))
    monkeypatch.setattr(lanes, "MOST_RANKS", 3)
    assert lanes.drawn_ranks(timeline.program) == [0, 4, 7]
    lanes.step(timeline, report, tmp_path / "step.svg")
    assert "3 of 8 classes of ranks" in (tmp_path / "step.svg").read_text(encoding="utf-8")


def test_a_host_has_a_lane_where_launching_takes_time():
    # It is busy for its rows' host seconds, less what it has launched before the step begins.
    timeline = engine.run(lower(hosted(stack="deepseek")))
    program = timeline.program
    assert lanes.carried(program)[-1].name == "host"
    shares = lanes.busy_share(timeline, 0, "host")
    own = np.flatnonzero(program.rank == 0)
    before = program.lead[own[0]]
    busy = shares.mean() * timeline.step_time
    assert busy == pytest.approx(program.host[own].sum() - before, rel=0.02)
