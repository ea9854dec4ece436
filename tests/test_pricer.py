"""Blocks are priced once for equal contexts and loads, and never answered from another one's."""

from dataclasses import replace

import pytest
from builders import hosted, scenario

from simulator.costs import price
from simulator.costs import pricer as pricers
from simulator.costs.kept import kept
from simulator.ops import Phase, block_ops, forward_ops
from simulator.precision import RECIPES


@pytest.fixture(autouse=True)
def nothing_kept():
    """Begin and end with nothing priced."""
    pricers._pricers.clear()
    yield
    pricers._pricers.clear()


def scaled_gap(one, factor):
    kernels = one.kernels.model_copy(update={"gap": one.kernels.gap * factor})
    return replace(one, kernels=kernels)


def in_fp8(one):
    return replace(one, recipe=RECIPES["fp8_block"])


def test_links_and_schedules_change_no_price():
    first = price(scenario(node__nvlink="400 GB/s bidirectional"))
    other = price(scenario(node__nvlink="900 GB/s bidirectional"))
    for kind, parts in first.blocks.items():
        assert other.blocks[kind] is parts
    for key, parts in first.loaded.items():
        assert other.loaded[key] is parts


@pytest.mark.parametrize(
    "change",
    [
        lambda one: scaled_gap(one, 2.0),
        in_fp8,
        lambda one: replace(
            one, host=one.host.model_copy(update={"launches": one.host.launches * 3.0})
        ),
        lambda one: replace(one, gpu=one.gpu.model_copy(update={"sms": one.gpu.sms - 2})),
    ],
)
def test_what_costs_follow_from_is_compared_by_value(change):
    one = hosted()
    first = price(one)
    changed = price(change(one))
    pricers._pricers.clear()
    anew = price(change(one))
    assert changed.blocks == anew.blocks
    assert changed.loaded == anew.loaded
    assert changed.blocks != first.blocks


def test_a_kept_price_is_the_one_that_is_found_anew():
    one = scenario()
    first, again = price(one), price(one)
    pricers._pricers.clear()
    anew = price(one)
    assert first.blocks == again.blocks == anew.blocks
    assert first.loaded == again.loaded == anew.loaded


def test_few_contexts_are_kept_and_the_last_ones_stay():
    one = scenario()
    for number in range(pricers.MOST_PRICERS + 3):
        price(scaled_gap(one, 1.0 + number))
        price(one)
    assert len(pricers._pricers) == pricers.MOST_PRICERS
    context = pricers._pricers[0].context
    assert context.processor.kernels == one.kernels


@pytest.mark.parametrize("recompute", [[], ["moe"], ["full"]])
@pytest.mark.parametrize("kind", ["moe", "mtp"])
def test_a_block_under_a_load_costs_what_all_its_ops_under_that_load_do(kind, recompute):
    # Written down as a whole: ops of every phase, memory from all of them, each kernel priced.
    one = scenario(
        model__num_nextn_predict_layers=1, layout__stages="balanced", training__recompute=recompute
    )
    priced = price(one)
    (pricer,) = pricers._pricers
    load = replace(priced.loads.even, rows=2.25, received=1.5)
    work = pricers.with_load(pricer.context.work, load, -1, permutes=pricer.context.permutes)
    ops = block_ops(kind, work)
    parts = pricer.loaded(kind, 3, load, -1)
    unrepeated = forward_ops(kind, replace(work, recompute=frozenset()))
    memories = kept(kind, work, ops, [forward.all for forward in unrepeated])
    for part, whole, memory in zip(parts, ops, memories, strict=True):
        assert part.memory == memory
        assert part.load == (3 if whole.exchanges_experts else -1)
        for phase in Phase:
            if phase.depends_on_load:
                assert part.phases[phase] == pricer._phase(whole[phase], phase)
