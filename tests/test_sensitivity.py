"""On which constants of profiles a step hangs: found by making each a tenth larger and smaller."""

import json
from dataclasses import replace

import pytest
from builders import lone, scenario

from simulator.cli.commands import _main
from simulator.engine import run
from simulator.program import lower
from simulator.whatif import sensitivity, simulate
from simulator.whatif.constants import below, constant, places, scaled, shown
from simulator.whatif.sensitivity import CHANGE, COUNT


def leaves(one, path):
    inner = below(one, path)
    return [leaf for each in inner for leaf in leaves(one, each)] if inner else [path]


def test_a_constant_is_scaled_alone_and_a_place_with_all_below_it():
    one = scenario()
    larger = scaled(one, ("gpu", "memory", "bandwidth"), 2.0)
    assert larger.gpu.memory.bandwidth == 2 * one.gpu.memory.bandwidth
    assert larger.gpu.peak == one.gpu.peak
    assert larger.kernels is one.kernels
    both = scaled(one, ("gpu", "peak"), 2.0)
    assert both.gpu.peak == {name: 2 * peak for name, peak in one.gpu.peak.items()}


def test_a_link_s_constant_is_scaled_in_the_network_too():
    one = scenario()
    larger = scaled(one, ("topology", "node", "nic"), 2.0)
    nics = [link for link, kind in enumerate(one.network.kind) if kind == "nic"]
    assert (larger.network.capacity[nics] == 2 * one.network.capacity[nics]).all()


def test_counts_and_nothings_are_no_constants():
    one = scenario()
    paths = [leaf for place in places(one) for leaf in leaves(one, place)]
    assert ("gpu", "memory", "bandwidth") in paths
    assert ("topology", "node", "nic") in paths
    assert ("gpu", "sms") not in paths
    assert len(paths) == len(set(paths))
    assert all(constant(one, path) != 0.0 for path in paths)


def test_a_constant_is_named_as_its_file_has_it():
    assert shown(scenario(), ("gpu", "peak", "bf16")) == "gpus/h800: peak.bf16"
    assert shown(scenario(), ("kernels", "gap")) == "kernels/hopper: gap"


@pytest.mark.slow
def test_the_ten_are_those_that_move_the_step_most():
    # Every constant of the kernel table that a lone GPU's dense layers use, one after the other.
    one = lone()
    report = simulate(one)
    found = sensitivity(report)
    assert len(found) == COUNT
    assert [row.size for row in found] == sorted((row.size for row in found), reverse=True)
    names = {row.name for row in found}
    for place in (("gpu",), ("kernels", "memory"), ("kernels", "gemm", "bf16")):
        for path in leaves(one, place):
            step = run(lower(scaled(one, path, 1 + CHANGE))).step_time
            moved = abs(step / report.step_time - 1)
            if moved > found[-1].size * 1.01:
                assert shown(one, path) in names, path
    # A faster memory makes a step shorter, a slower one longer by more.
    memory = next(row for row in found if row.name == "gpus/h800: memory.bandwidth")
    assert memory.up < 0 < memory.down
    assert memory.down > -memory.up
    again = run(lower(scaled(one, ("gpu", "memory", "bandwidth"), 1 - CHANGE))).step_time
    assert memory.down == pytest.approx(again / report.step_time - 1, rel=1e-9)


@pytest.mark.slow
def test_text_and_json_list_them(capsys, monkeypatch):
    from simulator.whatif import Sensitivity, studies

    row = Sensitivity("gpus/h800: memory.bandwidth", 3.35e12, -0.02, 0.025)
    monkeypatch.setattr("simulator.whatif.sensitivity", lambda report: (row,))
    common = ["run", "a100-node", "-w", "megatron-2022-22b", "--no-alternatives", "--sensitivity"]
    assert _main([*common, "--json", "-"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["sensitivity"] == [
        {"constant": row.name, "value": 3.35e12, "up": -0.02, "down": 0.025}
    ]
    assert _main(common) == 0
    text = capsys.readouterr().out
    assert "What the step hangs on" in text
    assert "-2.00%" in text
    assert replace(studies.study(scenario(), penalties=False), sensitivity=(row,)).sensitivity
