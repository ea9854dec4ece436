"""Rows of actions as arrays: shared by blocks of any load, with what each costs beside them."""

from collections.abc import Sequence

import numpy as np
import pytest
from builders import lag, scenario

from simulator.costs import Busy, Costs, Launches, Part, price
from simulator.costs.columns import TIMINGS, timing
from simulator.ops.streams import Stream
from simulator.program.chunk_columns import ChunkRows, chunk_rows
from simulator.program.chunks import DUALPIPE, chunk, halves
from simulator.program.step_columns import StepColumns, lags
from simulator.program.totals import action_seconds
from simulator.schedules import Action, Kind

KINDS = ("F", "B", "I", "W", "FB")


def costs(seed: int, **changes: object) -> Costs:
    """Return the costs of layers whose experts are drawn from a power law."""
    experts = {"distribution": "power_law", "exponent": 0.8, "seed": seed}
    return price(scenario(experts=experts, layout__ep=4, **changes))


def last_stage(seed: int, **changes: object) -> list[Part]:
    """Return the blocks of the last stage."""
    priced = costs(seed, **changes)
    return priced.parts(len(priced.stages) - 1)


def arrays(kind: Kind, ahead: Sequence[Part], back: Sequence[Part] = ()) -> ChunkRows:
    """Return the rows of an action as arrays."""
    columns = StepColumns()
    return chunk_rows(kind, columns.add(ahead), columns.add(back), DUALPIPE)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_other_loads_share_their_rows(kind):
    one, other = last_stage(1), last_stage(2)
    back = kind == "FB"
    assert [part.cost.phases for part in one] != [part.cost.phases for part in other]
    assert arrays(kind, other, other if back else ()) is arrays(kind, one, one if back else ())


def test_blocks_that_recompute_have_rows_of_their_own():
    plain, again = last_stage(1), last_stage(1, training__recompute=["full"])
    assert arrays("B", again).rows > arrays("B", plain).rows


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_hold_what_was_written_row_by_row(kind):
    parts = last_stage(1)
    back = parts if kind == "FB" else ()
    plain = chunk(kind, halves(parts, back))
    rows = arrays(kind, parts, back)
    assert [Stream(stream) for stream in rows.stream] == plain.stream
    assert [rows.names[label] for label in rows.label] == plain.label
    waits = {(row, due) for row, after in enumerate(plain.after) for due in after}
    pairs = zip(rows.waiting.tolist(), rows.waited_for.tolist(), strict=True)
    assert {*pairs, *rows.inputs} == waits


@pytest.mark.parametrize("text", ["F0@1", "B0@1", "I0@1", "W0@1", "F1@1&B0@1"])
def test_the_sums_of_an_action_are_those_of_its_segments_added_one_by_one(text):
    priced = costs(3, training__recompute=["full"])
    action = Action.parse(text)
    parts = priced.parts(1)
    back = parts if action.kind == "FB" else []
    counted = [one for part in (*parts, *back) for one in part.cost.columns.counted]
    sums: dict[str, float] = {}
    for segment in chunk(action.kind, halves(parts, back)).counted:
        for name, seconds in counted[segment].seconds.items():
            sums[name] = sums.get(name, 0.0) + seconds
    found = action_seconds(action, priced)
    assert list(found.items()) == list(sums.items())


@pytest.mark.parametrize("speed", [1.0, 0.97])
def test_lags_of_many_rows_are_those_of_each(speed):
    # None, one and several kernels; hosts that are ahead of the GPU and behind it.
    drawn = np.random.default_rng(0).exponential(1e-4, (2, 5)).tolist()
    launches = [
        Launches(),
        Launches((2e-5,), (0.0,)),
        Launches((1e-6, 1e-6, 1e-6), (3e-4, 1e-5, 2e-4)),
        Launches((1e-3, 1e-3), (1e-5, 1e-5)),
        Launches(tuple(drawn[0]), tuple(drawn[1])),
    ]
    columns = timing([Busy(sum(one.kernels), one) for one in launches])
    row = np.array([4, 0, 1, 2, 3, 2])
    found = lags(columns, row, np.full(len(row), speed))
    assert found.tolist() == [lag(launches[number], speed) for number in row]
    host = columns.columns[TIMINGS.index("host")]
    assert host.tolist() == [one.total for one in launches]
