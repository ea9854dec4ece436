"""Rent, ownership and energy of campaigns."""

from dataclasses import replace

import pytest

from simulator.campaign import Sum
from simulator.campaign.money import EnergyConfig, OwnConfig, owned, rents, watts
from simulator.errors import UnitError
from simulator.scenario import load
from simulator.units import emissions, energy_price
from simulator.whatif import simulate


@pytest.fixture(scope="module")
def report():
    return simulate(load("h100-node", "llama-3.1-8b"))


def test_a_gpu_that_computes_all_the_time_draws_what_a_measured_node_does(report):
    # 8.4 kW for 8 GPUs (arXiv 2412.08602): 1,050 W each, of which 700 W are the GPU.
    busy = replace(report, breakdown={"gemm": report.step_time})
    assert watts(busy) == pytest.approx(1050.0)


def test_a_gpu_that_waits_draws_its_idle_share_and_its_servers(report):
    idle = replace(report, breakdown={"bubble": report.step_time})
    assert watts(idle) == pytest.approx((0.279 + 0.5) * 700.0)
    assert watts(idle) < watts(report) < 1050.0


def test_hours_are_written_off_over_the_hours_in_use():
    # 4 years x 8,766 h x half of them: 17,532 h for 20,000 USD and a quarter more.
    own = OwnConfig(gpu="20000 USD", network=0.25, years=4, used=0.5, staff="100 USD")
    cost = owned(own, EnergyConfig(), 17_532.0, 0.0)
    assert cost == (pytest.approx(25_000.0), 0.0, 100.0)
    assert cost.total == pytest.approx(25_100.0)


def test_energy_is_paid_for_with_what_the_building_adds():
    energy = EnergyConfig(pue=1.5, price="0.1 USD per kWh")
    own = OwnConfig(gpu="1 USD")
    assert owned(own, energy, 0.0, 3.6e6 * 1000).energy == pytest.approx(150.0)


def test_emissions_follow_from_the_grid():
    energy = EnergyConfig(pue=2, grid="0.5 kg per kWh")
    figures = Sum(joules=3.6e6 * 1e6).figures(energy)
    assert figures["energy_kwh"] == pytest.approx(2e6)
    assert figures["emissions_t"] == pytest.approx(1000.0)


def test_units_are_asked_for():
    for read in (energy_price, emissions):
        with pytest.raises(UnitError, match="has no unit"):
            read(0.4)


def test_rents_have_their_sources_and_ranges():
    found = [rent for gpu in ("h100", "a100", "h800", "h200") for rent in rents(gpu)]
    assert len(found) == 8
    assert all(rent.source and rent.low <= rent.high for rent in found)
    assert rents("b200") == ()
