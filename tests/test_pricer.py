"""Blocks are priced once for equal contexts and loads, and never answered from another one's."""

from dataclasses import replace

import pytest
from builders import hosted, scenario

from simulator.costs import price
from simulator.costs import pricer as pricers
from simulator.ops import Phase
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


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stack": "megatron"},
        {"training__recompute": ["moe"]},
        {"training__recompute": ["full"]},
        {"training__recompute": ["swiglu", "norm"], "layout__etp": 2},
        {"experts__dispatcher": "all_to_all"},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["moe", "mtp"])
def test_a_block_under_a_load_costs_what_it_would_if_all_of_it_were_priced(kind, changes):
    # The plain way: the work of the load as if it were that of even experts, all phases built anew.
    # A MoE layer, and an MTP module of three parts, of which the layer is the second.
    one = scenario(
        model__num_nextn_predict_layers=1,
        experts__resolve="each",
        experts__distribution="power_law",
        experts__exponent=0.5,
        **changes,
    )
    costs = price(one)
    key = next(key for key in costs.loaded if key.kind == kind and key.member == 1)
    pricer = pricers._pricers[0]
    permutes = pricer.context.permutes
    work = pricers.with_load(
        pricer.context.work, costs.loads.distinct[key.load], 1, permutes=permutes
    )
    anew = pricers.Pricer(pricer.context._replace(work=work)).even(kind)
    for part, plain, even in zip(costs.loaded[key], anew, costs.blocks[kind], strict=True):
        assert part.memory == plain.memory
        for phase in Phase:
            whole = plain if phase.depends_on_load else even
            assert part.phases[phase] == whole.phases[phase]
    layer = costs.loaded[key][kind == "mtp"]
    assert layer.phases != costs.blocks[kind][kind == "mtp"].phases
