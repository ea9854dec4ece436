"""Which dispatcher and algorithms a scenario names, and whether they can run its groups."""

from __future__ import annotations

from simulator.collectives.algorithms import ALGORITHMS
from simulator.collectives.dispatchers import ANYWHERE, DISPATCHERS, OF_STACK, Dispatcher
from simulator.collectives.kinds import Traffic
from simulator.errors import InputError
from simulator.scenario import Scenario

NCCL = "nccl"
"""In place of an algorithm: what NCCL's cost model chooses for the group and the size."""
PASSES = ("reduce_scatter", "all_gather")
"""Ops of tensor, context and data parallel groups; an all-reduce runs as both."""
NEEDS = {
    Traffic.TENSOR: PASSES,
    Traffic.CONTEXT: PASSES,
    Traffic.DATA: PASSES,
    Traffic.EXPERT: ("all_to_all",),
}
"""Section of `communication` -> the ops that its algorithm must run."""


def dispatcher_of(scenario: Scenario) -> Dispatcher:
    """Return the dispatcher of a scenario. Errors: InputError on an unknown name."""
    name = scenario.workload.experts.dispatcher
    if name == OF_STACK:
        own = DISPATCHERS[scenario.stack.experts.dispatcher]
        return own if own.runs_on(scenario.kernels) else DISPATCHERS[ANYWHERE]
    if name not in DISPATCHERS:
        unknown = InputError(
            "is not a dispatcher",
            key="experts.dispatcher",
            value=name,
            remedy=f"Choose from: {', '.join((OF_STACK, *DISPATCHERS))}.",
        )
        raise located(scenario, unknown)
    return DISPATCHERS[name]


def sms_of(scenario: Scenario) -> int:
    """Return the SMs that dispatch and combine get. Errors: InputError on an unknown dispatcher."""
    given = scenario.workload.experts.sms
    return dispatcher_of(scenario).sms if given is None else given


def check_sms(scenario: Scenario) -> None:
    """Refuse an exchange without the SMs that copy its tokens. Errors: InputError."""
    dispatcher = dispatcher_of(scenario)
    if sms_of(scenario) or not dispatcher.sms or scenario.layout.ep == 1:
        return
    without = [name for name, row in DISPATCHERS.items() if not row.sms]
    raise InputError(
        f"leaves {dispatcher.name} no SM to copy tokens with",
        key="experts.sms",
        value=0,
        remedy=f"Write {dispatcher.sms}, its default, or experts.dispatcher={' or '.join(without)}.",
    )


def chosen_for(scenario: Scenario, traffic: Traffic) -> str:
    """Return the algorithm that a scenario names for some traffic."""
    if traffic == Traffic.PIPELINE:  # between two ranks there is one way
        return "direct"
    name: str = getattr(scenario.workload.communication, traffic).algorithm
    return name


def open_to(traffic: Traffic) -> list[str]:
    """Return the algorithms that run all ops that groups of a kind need."""
    needed = set(NEEDS[traffic])
    return [name for name, row in ALGORITHMS.items() if needed <= set(row.ops)]


def check_algorithms(scenario: Scenario) -> None:
    """Refuse algorithms that do not exist, lack an op or are not used. Errors: InputError."""
    for traffic, ops in NEEDS.items():
        name = chosen_for(scenario, traffic)
        works = open_to(traffic)
        if name == NCCL or name in works:
            continue
        rule = "is not a collective algorithm"
        if name in ALGORITHMS:
            lacks = [op for op in ops if op not in ALGORITHMS[name].ops]
            rule = f"does not run {' and '.join(lacks)}"
        raise InputError(
            rule,
            key=f"communication.{traffic}.algorithm",
            value=name,
            remedy=f"Choose from: {', '.join((*works, NCCL))}.",
        )
    _check_expert_algorithm(scenario)
    _check_context_algorithm(scenario)


def _check_context_algorithm(scenario: Scenario) -> None:
    """Refuse an algorithm of gathers where context parallel ranks gather nothing."""
    config = scenario.workload.communication.context
    way = scenario.cp_comm
    runs = {"a2a": "pairwise all-to-alls"}
    if scenario.stack.code.context == "ring":
        runs["p2p"] = "sends"
    if way not in runs or config.algorithm == type(config)().algorithm:
        return
    key = "communication.context.algorithm"
    raise InputError(
        f"is not used by layout.cp_comm {way}, which runs {runs[way]}",
        key=key,
        value=config.algorithm,
        remedy=f"Leave it out (--set {key}=null removes it), or write layout.cp_comm=all_gather.",
    )


def _check_expert_algorithm(scenario: Scenario) -> None:
    config = scenario.workload.communication.expert
    dispatcher = dispatcher_of(scenario)
    default = type(config)().algorithm
    if dispatcher.op or config.algorithm == default:
        return
    users = [name for name, row in DISPATCHERS.items() if row.op]
    key = "communication.expert.algorithm"
    removing = f"Leave it out (--set {key}=null removes it)"
    raise InputError(
        f"is not used by experts.dispatcher {dispatcher.name}, which has kernels of its own",
        key=key,
        value=config.algorithm,
        remedy=f"{removing}, or write experts.dispatcher={' or '.join(users)}.",
    )


def located(scenario: Scenario, error: InputError) -> InputError:
    """Return an error with the file and the line of its key, where the workload has it."""
    workload = scenario.documents[1]
    path = tuple(error.key.split("."))
    return error.at(**workload.locate(path))
