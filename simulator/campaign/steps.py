"""Every distinct scenario of some campaigns, simulated once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from simulator.campaign.reader import Campaign
from simulator.progress import counted
from simulator.report import Report
from simulator.scenario import Scenario
from simulator.trust import Steps as Paces
from simulator.trust import interval
from simulator.whatif import host_interval, simulate


class Step(NamedTuple):
    """A simulated step, and how far it is to be trusted."""

    report: Report
    """The step."""
    low: float
    """Its shortest likely time over the simulated one."""
    high: float
    """Its longest likely time over the simulated one."""


Steps = Mapping[str, Step]
"""Key of a scenario -> its step."""


def scenarios(campaigns: Iterable[Campaign]) -> Mapping[str, Scenario]:
    """Return the scenarios that campaigns need, each once: key -> scenario, in their order."""
    return {key(scenario): scenario for campaign in campaigns for scenario in _all(campaign)}


def simulated(wanted: Mapping[str, Scenario]) -> Steps:
    """Simulate scenarios, each once."""
    return {name: _step(wanted[name]) for name in counted(wanted, "simulating steps")}


def key(scenario: Scenario) -> str:
    """Return what two scenarios that simulate the same have in common: their files' contents."""
    files = scenario.documents
    # The model may be a file that the workload's names relative to itself.
    named = [files.topology.data, files.workload.data, files.workload.file]
    return json.dumps(named, sort_keys=True)


def _step(scenario: Scenario) -> Step:
    # The report alone, without what other scenarios say of it: of that only the hosts' paces widen
    # the interval.
    report = simulate(scenario)
    paces = host_interval(report)
    steps = tuple(paces.steps.values()) if paces else ()
    low, high = interval(report, Paces(steps, ())).factors
    return Step(report, low, high)


def _all(campaign: Campaign) -> Iterator[Scenario]:
    for stage in campaign.stages:
        for span in stage.spans:
            yield from span.scenarios
        if stage.inner:
            yield from _all(stage.inner)
