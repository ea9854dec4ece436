"""How the process groups of a scenario communicate: which algorithm or dispatcher, which kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from simulator.collectives.algorithms import ALGORITHMS, Algorithm, of_nccl
from simulator.collectives.batch import Batch, TokenKernels
from simulator.collectives.choose import Choice, Kernels, choices, chosen, own_part
from simulator.collectives.demand import Demand
from simulator.collectives.dispatchers import (
    ANYWHERE,
    DISPATCHERS,
    OF_STACK,
    Dispatcher,
    running,
)
from simulator.collectives.kinds import CoflowKind, Traffic
from simulator.collectives.paths import Links
from simulator.collectives.replicas import Demands, units
from simulator.collectives.sms import SmWork, exposed, exposed_each, limited
from simulator.collectives.units import unit
from simulator.errors import InputError
from simulator.experts import Load
from simulator.hardware import CommunicationModel, KernelConfig
from simulator.precision import BYTES
from simulator.scenario import Scenario
from simulator.topology import Network

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

_OWN_WAY = {CoflowKind.ULYSSES: "pairwise", CoflowKind.CONTEXT_RING: "ring"}
"""Kind -> the algorithm that it runs whatever the workload names."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the groups of one kind run a collective of one size."""

    network: Network
    """The cluster."""
    algorithm: str
    """Row of `ALGORITHMS`."""
    op: str
    """Op of that row."""
    kernel: CommunicationModel
    """The kernel that runs it, at the rate that the algorithm reaches."""
    buffer: float = 1.0
    """Bytes of the op's buffer for each byte that a transfer counts: half of an all-reduce's."""

    def unit(self, members: Sequence[int]) -> Demand:
        """Return the demand of one byte of the op's buffer. members: ranks of a group."""
        return unit(self.network, self.algorithm, self.op, members, self.kernel)

    def demand(self, members: Sequence[int], size: float) -> Demand:
        """Return the demand of a buffer [B]. members: ranks of a group."""
        size *= self.buffer
        asked = self.unit(members).scaled(size)
        waiting = exposed(self.network, asked, self.kernel)
        # Each GPU copies its own part besides, which no link sees.
        own = own_part(self.kernel, self.op, size, len(members))
        return replace(asked, latency=waiting + own)

    def demands(self, groups: Links, size: float) -> Demands:
        """Return the demands of a buffer [B] in several groups. groups: ranks [group, member]."""
        size *= self.buffer
        asked = units(self.network, self.algorithm, self.op, groups, self.kernel).scaled(size)
        waiting = exposed_each(self.network, asked, self.kernel)
        own = own_part(self.kernel, self.op, size, groups.shape[1])
        return replace(asked, latency=waiting + own)


@dataclass(frozen=True, slots=True)
class Communication:
    """What the groups of a scenario run, as its workload says."""

    scenario: Scenario
    """Whose groups they are."""
    dispatcher: Dispatcher
    """Of tokens to experts."""

    @classmethod
    def of(cls, scenario: Scenario) -> Communication:
        """Return a scenario's communication. Errors: InputError with the key and what works."""
        try:
            _check_algorithms(scenario)
            _check_sms(scenario)
            return cls(scenario, dispatcher_of(scenario))
        except InputError as error:
            raise _located(scenario, error) from error

    def plan(self, kind: CoflowKind, members: Sequence[int], size: float) -> Plan:
        """Return how groups of a kind run a collective over a buffer.

        members: of the first group, for which the others choose too. size: of the buffer [B].
        Errors: InputError if the algorithm cannot run on such a group.
        """
        if kind is CoflowKind.USERBUFFERS:  # a library of its own, which knows one way
            kernel = self.scenario.kernels.communication[kind]
            return Plan(self.scenario.network, "ring", kind.op, kernel)
        if self._sums(kind):
            # Transfers count both passes of an all-reduce, whose buffer is half of that.
            whole = self._plan(kind.traffic, "all_reduce", members, size / 2)
            return replace(whole, buffer=0.5)
        # An all-to-all is no pass of a ring, and a send no gather, whatever the group's gathers run.
        named = _OWN_WAY.get(kind, "")
        plan = self._plan(kind.traffic, kind.op, members, size, named)
        if self._keeps_parts(kind):
            return plan
        return replace(plan, kernel=plan.kernel.model_copy(update={"own_part": 0.0}))

    def gather_seconds(self, members: Sequence[int], size: float) -> float:
        """Return how long a tensor parallel group gathers a buffer, alone [s].

        members: ranks of the group. size: of the whole buffer [B].
        """
        plan = self._plan(Traffic.TENSOR, "all_gather", members, size)
        return plan.demand(members, size).seconds(self.scenario.network, plan.kernel)

    def _sums(self, kind: CoflowKind) -> bool:
        """Tell whether transfers of a kind are all-reduces that the group's algorithm runs."""
        whole = kind is CoflowKind.ALL_REDUCE
        if kind is CoflowKind.TENSOR:
            whole = not self.scenario.workload.layout.sequence_parallel
        row = ALGORITHMS.get(_chosen(self.scenario, kind.traffic))
        return whole and (row is None or "all_reduce" in row.ops)

    def _keeps_parts(self, kind: CoflowKind) -> bool:
        """Tell whether a GPU copies a part of its own.

        In a ring of sends the own keys are where they are read, and sums are made in place.
        """
        config = self.scenario.workload.layout
        if kind is CoflowKind.CONTEXT_RING:
            return False
        if kind in (CoflowKind.TENSOR, CoflowKind.ALL_REDUCE):
            return kind is CoflowKind.TENSOR and config.sequence_parallel
        return kind is not CoflowKind.CONTEXT or self.scenario.cp_comm == "all_gather"

    def exchange(
        self, kind: CoflowKind, members: Sequence[int], load: Load, size: float, tokens: float
    ) -> Exchange:
        """Return an exchange of tokens in one expert group.

        size: of all tokens of one GPU, each once [B]. tokens: how many these are. Errors:
        InputError.
        """
        kernels = self._token_kernels()
        kernel, algorithm = kernels.models[kind], ""
        # Tokens travel with a header to their experts; what comes back knows where it belongs.
        if not kind.returns:
            size += kernels.header * tokens
        if self.dispatcher.op:
            plan = self._plan(Traffic.EXPERT, self.dispatcher.op, members, load.rows * size)
            kernel, algorithm = plan.kernel, plan.algorithm
        network = self.scenario.network
        batch = Batch(network, tuple(members), load, kind, kernel, algorithm)
        try:
            asked = self.dispatcher.demand(batch).scaled(size)
        except InputError as error:
            raise _located(self.scenario, error) from error
        work = SmWork(
            sms=sms_of(self.scenario),
            enough=self.dispatcher.sms,
            tokens=tokens,
            token=size / tokens,
            copies=self.dispatcher.copied(load),
            across=load.ep_nodes > 1,
        )
        cast = self._cast(kind, size, tokens)
        kernel = kernel.started(len(members), across=work.across, cast_bytes=cast)
        runs = limited(network, asked, kernel, work)
        return Exchange(asked, runs.kernel, runs.share)

    def _cast(self, kind: CoflowKind, size: float, tokens: float) -> float:
        """Return what a cast before an exchange reads and writes [B]; 0 where there is none.

        What dispatch carries in the forward pass was cast with the input of the experts' GEMMs.
        """
        cast = BYTES[self.scenario.recipe.dispatch] < BYTES["bf16"]
        if kind is not CoflowKind.CACHED_DISPATCH or not cast:
            return 0.0
        read = tokens * self.scenario.model.hidden_size * BYTES["bf16"]
        return read + size

    def _token_kernels(self) -> TokenKernels:
        try:
            return self.dispatcher.kernels(self.scenario.kernels)
        except InputError as error:
            refused = InputError(
                error.rule,
                key="experts.dispatcher",
                value=self.dispatcher.name,
                remedy=f"Choose from: {', '.join(running(self.scenario.kernels))}.",
            )
            raise _located(self.scenario, refused) from error

    def _plan(
        self, traffic: Traffic, op: str, members: Sequence[int], size: float, named: str = ""
    ) -> Plan:
        """Return how a group runs an op. named: algorithm; empty: that of the workload."""
        name = named or _chosen(self.scenario, traffic)
        network = self.scenario.network
        names = (name,) if name in ALGORITHMS else tuple(of_nccl(op))
        kernels = _kernels(self.scenario.kernels, op, names)
        try:
            possible = _choices(network, tuple(members), kernels, op, names)
        except InputError as error:
            refused = self._refused(traffic, op, members, error)
            raise _located(self.scenario, refused) from error
        best = chosen(possible, size)
        return Plan(network, best.algorithm, op, best.at(size))

    def _refused(
        self, traffic: Traffic, op: str, members: Sequence[int], error: InputError
    ) -> InputError:
        """Return why an algorithm cannot run on a group, with those that can."""
        network, kernels = self.scenario.network, Kernels.of(self.scenario.kernels)
        works = []
        for name in _open_to(traffic):
            alone = {name: ALGORITHMS[name]}
            try:
                choices(network, members, kernels, op, alone)
            except InputError:
                continue
            works.append(name)
        return InputError(
            f"cannot run on {traffic} groups of {len(members)} ranks: it {error.rule}",
            key=f"communication.{traffic}.algorithm",
            value=_chosen(self.scenario, traffic),
            remedy=f"Choose from: {', '.join((*works, NCCL))}.",
        )


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange of tokens: what it asks of the links, and the kernel that runs it."""

    demand: Demand
    """Bytes on links, and the latency of its rounds."""
    kernel: CommunicationModel
    """Rates that its SMs allow, and start."""
    sm_share: float
    """Of the rates that it reaches with SMs enough."""


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
        raise _located(scenario, unknown)
    return DISPATCHERS[name]


def sms_of(scenario: Scenario) -> int:
    """Return the SMs that dispatch and combine get. Errors: InputError on an unknown dispatcher."""
    given = scenario.workload.experts.sms
    return dispatcher_of(scenario).sms if given is None else given


def _check_sms(scenario: Scenario) -> None:
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


def _chosen(scenario: Scenario, traffic: Traffic) -> str:
    if traffic == Traffic.PIPELINE:  # between two ranks there is one way
        return "direct"
    name: str = getattr(scenario.workload.communication, traffic).algorithm
    return name


def _open_to(traffic: Traffic) -> list[str]:
    """Return the algorithms that run all ops that groups of a kind need."""
    needed = set(NEEDS[traffic])
    return [name for name, row in ALGORITHMS.items() if needed <= set(row.ops)]


def _check_algorithms(scenario: Scenario) -> None:
    """Refuse algorithms that do not exist, lack an op or are not used. Errors: InputError."""
    for traffic, ops in NEEDS.items():
        name = _chosen(scenario, traffic)
        works = _open_to(traffic)
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


def _located(scenario: Scenario, error: InputError) -> InputError:
    """Return an error with the file and the line of its key, where the workload has it."""
    workload = scenario.documents[1]
    path = tuple(error.key.split("."))
    return error.at(**workload.locate(path))


def _kernels(table: KernelConfig, op: str, names: Sequence[str]) -> Kernels:
    """Return the kernels that some algorithms may use, as a value that can be remembered."""
    rows: dict[str, CommunicationModel] = {}
    for name in names:
        for row in ALGORITHMS[name].protocols(op, table.communication).values():
            rows[row] = table.communication[row]
    return Kernels(tuple(rows.items()), table.nccl)


@lru_cache(maxsize=256)  # stages have groups alike
def _choices(
    network: Network,
    members: tuple[int, ...],
    kernels: Kernels,
    op: str,
    names: tuple[str, ...],
) -> tuple[Choice, ...]:
    table: dict[str, Algorithm] = {name: ALGORITHMS[name] for name in names}
    return tuple(choices(network, members, kernels, op, table))
