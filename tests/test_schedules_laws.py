"""Published bubbles and activations, over many sizes and times: where each is exact, and what holds elsewhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.compiled import with_callees
from simulator.schedules import (
    FORMULAS,
    SCHEDULES,
    Times,
    bubble,
    build,
    check,
    peak_in_flight,
    shape_of,
    spans,
    zb_auto,
)
from simulator.schedules.zb_greedy import Rules, greedy, replay

few = settings(max_examples=40, deadline=None, derandomize=True)
NAMES = list(FORMULAS)
ZB = ("zb-h1", "zb-h2", "zb-1p", "zb-2p")
whole = st.integers(1, 8)


@pytest.fixture(autouse=True, scope="module")
def compiled_from_the_first_action():
    """Compile the search at any size: it gives the same orders, sooner when it runs hundreds of times."""
    before, zb_auto._COMPILED_FROM = zb_auto._COMPILED_FROM, 0
    yield
    zb_auto._COMPILED_FROM = before


@pytest.mark.parametrize(("ranks", "micro_batches", "kept"), [(3, 7, 1.0), (4, 5, 0.4)])
@pytest.mark.slow
def test_the_search_gives_the_same_order_compiled_and_not(ranks, micro_batches, kept):
    times = np.array([[3.0] * ranks, [2.5] * ranks, [1.7] * ranks])
    ahead = np.arange(2.0, 2.0 + ranks)[::-1].copy()
    for knobs in zb_auto._GRID[::17]:
        rules = Rules(knobs.late_w, knobs.late_f, knobs.alternate, ranks + 1e-9, kept)
        arguments = (micro_batches, times, 0.3, ahead, rules)
        plain, quick = greedy(*arguments), with_callees(greedy)(*arguments)
        assert plain[:2] == quick[:2] == replay(plain[2], times, 0.3)
        assert (plain[2] == quick[2]).all()


@st.composite
def sizes(draw, name):
    """Draw pipeline ranks, micro-batches and options that a schedule can be built for."""
    ranks = 2 * draw(st.integers(1, 4)) if name == "dualpipe" else draw(st.integers(1, 6))
    least = 2 * ranks if name in ("dualpipe", "dualpipev", "zb-v") else 1
    micro_batches = draw(st.integers(least, least + 3 * ranks + 2))
    if name == "dualpipe":
        micro_batches += micro_batches % 2
    options = {}
    if name == "interleaved":
        options["virtual"] = draw(st.integers(1, 4))
        if options["virtual"] > 1:
            group = draw(st.integers(ranks, 2 * ranks))
            left = draw(st.sampled_from([0, *range(ranks, group)]))
            micro_batches = group * draw(st.integers(1, 3)) + left
            options["group"] = group
    return ranks, micro_batches, options


@st.composite
def cases(draw, name, exact=False):
    """Draw a schedule with its shape; exact: in the region where its published bubble is."""
    ranks, micro_batches, options = draw(sizes(name))
    f, i, w = draw(whole), draw(whole), draw(whole)
    if exact and name in ("zb-h1", "zb-h2"):
        w = draw(st.integers(0, min(f, i)))
        micro_batches = max(micro_batches, ranks if name == "zb-h1" else 2 * ranks - 1)
    elif exact and name in ("zb-1p", "zb-2p", "zb-v"):
        f = i = w
        micro_batches = max(micro_batches, 2 * ranks)
    elif exact and name in ("dualpipe", "dualpipev"):
        i, w = f, draw(st.integers(0, f))
    table = {"F": f, "I": i, "W": w}
    if name in ("dualpipe", "dualpipev"):
        table["FB"] = draw(
            st.integers(i + w, f + i + w) if exact else st.integers(max(f, i), f + i + w + 2)
        )
    times = Times.of(table)
    return build(name, ranks, micro_batches, times=times, **options), shape_of(
        name, ranks, micro_batches, times=times, **options
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@few
@given(data=st.data())
def test_the_published_bubble_is_exact_in_its_region(name, data):
    schedule, shape = data.draw(cases(name, exact=True))
    found = bubble(schedule, shape)
    assert found.exact
    assert found.bubble == pytest.approx(found.formula)


@pytest.mark.parametrize("name", NAMES)
@few
@given(data=st.data())
@pytest.mark.slow
def test_the_published_activations_are_the_most_that_a_rank_holds(name, data):
    schedule, shape = data.draw(cases(name))
    held, published = max(peak_in_flight(schedule)), FORMULAS[name].held(shape)
    if name in ("zb-1p", "zb-2p"):
        assert held <= published  # the search need not use all that it may
    else:
        assert held == published


@pytest.mark.parametrize("name", ["gpipe", "1f1b", "interleaved"])
def test_schedules_without_split_backwards_have_their_formula_everywhere(name):
    assert FORMULAS[name].where.startswith("everywhere")


@pytest.mark.parametrize("name", ["zb-h1", "zb-h2"])
@few
@given(data=st.data())
def test_elsewhere_zero_bubble_by_hand_idles_no_less_than_published_and_no_more_than_1f1b(
    name, data
):
    schedule, shape = data.draw(cases(name))
    found = bubble(schedule, shape)
    plain = build("1f1b", shape.ranks, shape.micro_batches)
    assert found.bubble >= found.formula - 1e-9
    assert max(found.idle) <= max(bubble(plain, shape).idle) + 1e-9


@pytest.mark.parametrize(("name", "hands"), [("zb-1p", ("zb-h1",)), ("zb-2p", ("zb-h1", "zb-h2"))])
@few
@given(data=st.data())
@pytest.mark.slow
def test_the_search_is_never_worse_than_what_is_written_by_hand(name, hands, data):
    schedule, shape = data.draw(cases(name))
    longest = max(line[-1][1] - line[0][0] for line in spans(schedule, shape.times))
    for hand in hands:
        rival = build(hand, shape.ranks, shape.micro_batches)
        assert longest <= max(line[-1][1] - line[0][0] for line in spans(rival, shape.times)) + 1e-9


@pytest.mark.parametrize("name", ["dualpipe", "dualpipev"])
@few
@given(data=st.data())
def test_elsewhere_dualpipe_takes_at_least_its_work(name, data):
    # No rank idles less than nothing, and the first forward has to reach the middle and its
    # backward to come back.
    schedule, shape = data.draw(cases(name))
    found, t = bubble(schedule, shape), shape.times.each
    deep = schedule.stages
    assert min(found.idle) >= -1e-9
    assert found.makespan >= deep * min(t["F"] + t["I"], t["FB"]) - 1e-9


@pytest.mark.parametrize("name", ZB)
@few
@given(data=st.data(), travel=st.sampled_from([0.1, 0.5, 2.0]))
@pytest.mark.slow
def test_travel_between_ranks_never_makes_a_schedule_shorter(name, data, travel):
    schedule, shape = data.draw(cases(name))
    late, soon = spans(schedule, Times(shape.times.each, comm=travel)), spans(schedule, shape.times)
    assert all(after[-1][1] >= before[-1][1] for after, before in zip(late, soon, strict=True))


@pytest.mark.parametrize("limit", [1, 2, 3, 5.5, 8])
@few
@given(ranks=st.integers(1, 6), micro_batches=st.integers(1, 20), f=whole, i=whole, w=whole)
@pytest.mark.slow
def test_the_search_keeps_any_memory_limit(limit, ranks, micro_batches, f, i, w):
    schedule = build("zb-1p", ranks, micro_batches, times={"F": f, "I": i, "W": w}, limit=limit)
    check(schedule)
    assert max(peak_in_flight(schedule)) <= limit


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "custom"])
@few
@given(data=st.data())
@pytest.mark.slow
def test_every_stage_stands_where_its_family_says(name, data):
    ranks, micro_batches, options = data.draw(sizes(name))
    schedule, family = build(name, ranks, micro_batches, **options), SCHEDULES[name]
    virtual = options.get("virtual", 1)
    assert schedule.stages == family.stages(ranks, virtual)
    check(schedule)
    for rank, order in enumerate(schedule.ranks):
        run = {stage for action in order for _, _, stage in action.halves()}
        assert run == set(family.stages_of(rank, ranks, virtual))


def test_deepseek_s_table_of_parameters_and_activations():
    # github.com/deepseek-ai/DualPipe, README.md: parameters 1x, 1x, 2x, 2x; activations PP, PP,
    # PP+1, PP+1, where the PP stages of DualPipeV stand on PP/2 ranks: 2x is two stages of 1/PP of
    # the model on each rank.
    stages, micro_batches = 8, 20
    for name, copies, held in (
        ("1f1b", 1, 8),
        ("zb-1p", 1, 8),
        ("dualpipe", 2, 9),
        ("dualpipev", 2, 9),
    ):
        ranks = int(stages * SCHEDULES[name].ranks_per_stage)
        schedule = build(name, ranks, micro_batches)
        assert schedule.stages == stages
        for order in schedule.ranks:
            assert len({stage for action in order for _, _, stage in action.halves()}) == copies
        assert max(peak_in_flight(schedule)) == held


@pytest.mark.parametrize(
    ("times", "end", "most"),
    [({"FB": 3}, 66, 6), ({"FB": 2}, 52, 3), ({"F": 1, "I": 1.5, "W": 0.5, "FB": 2.5}, 62.5, 8)],
)
def test_dualpipev_of_half_the_ranks_takes_as_long_as_dualpipe_of_twice_the_micro_batches(
    times, end, most
):
    # Rank r runs what it runs in DualPipe of 8 ranks and 20 micro-batches: 10 of them, down the V
    # and up again.
    table = {"F": 1, "I": 1, "W": 1} | times
    shape = shape_of("dualpipev", 4, 10, times=table)
    found = bubble(build("dualpipev", 4, 10, times=table), shape)
    assert (found.makespan, max(found.idle)) == (end, most)
