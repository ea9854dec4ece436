"""How the process groups of a scenario communicate: which algorithm or dispatcher, which kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from simulator.collectives.algorithms import ALGORITHMS, Algorithm, of_nccl
from simulator.collectives.batch import Batches, TokenKernels
from simulator.collectives.choose import Choice, Kernels, choices, chosen, own_part
from simulator.collectives.demand import Demand
from simulator.collectives.dispatchers import (
    Dispatcher,
    running,
)
from simulator.collectives.exchanges import Asked, Exchanges, Running, Tokens
from simulator.collectives.kinds import CoflowKind, Traffic
from simulator.collectives.named import (
    NCCL,
    check_algorithms,
    check_sms,
    chosen_for,
    dispatcher_of,
    located,
    open_to,
    sms_of,
)
from simulator.collectives.paths import Links
from simulator.collectives.replicas import Demands, units
from simulator.collectives.sms import Limited, exposed, exposed_each
from simulator.collectives.units import unit
from simulator.errors import InputError
from simulator.experts import Load
from simulator.hardware import CommunicationModel, KernelConfig
from simulator.precision import BYTES
from simulator.scenario import Scenario
from simulator.topology import Network

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
    _known: dict[tuple[str, tuple[int, ...], str], tuple[Choice, ...]] = field(
        default_factory=dict, compare=False
    )
    """(Op, members, algorithm) -> the ways that are open: buckets of a stage differ in size."""
    _limited: dict[CommunicationModel, dict[Asked, Limited]] = field(
        default_factory=dict, compare=False
    )
    """Kernel -> the exchanges that it runs: stages may have equal loads."""

    @classmethod
    def of(cls, scenario: Scenario) -> Communication:
        """Return a scenario's communication. Errors: InputError with the key and what works."""
        try:
            check_algorithms(scenario)
            check_sms(scenario)
            return cls(scenario, dispatcher_of(scenario))
        except InputError as error:
            raise located(scenario, error) from error

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
        row = ALGORITHMS.get(chosen_for(self.scenario, kind.traffic))
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
        (one,) = self.exchanges(kind, np.array([members]), (load,), size, tokens)
        return Exchange(one.demands.of_size(0).each()[0], *one.runs[0])

    def exchanges(
        self, kind: CoflowKind, groups: Links, loads: Sequence[Load], size: float, tokens: float
    ) -> list[Exchanges]:
        """Return exchanges of tokens under all loads, those of groups with equal kernels as one.

        groups: ranks of expert groups [group, member]. size, tokens: as in `exchange`. Errors:
        InputError.
        """
        kernels = self._token_kernels()
        # Tokens travel with a header to their experts; what comes back knows where it belongs.
        if not kind.returns:
            size += kernels.header * tokens
        given = Tokens(size, tokens, self._cast(kind, size, tokens))
        sms = sms_of(self.scenario)
        found: list[Exchanges] = []
        for bundle in self.dispatcher.bundles(loads):
            some = [loads[number] for number in bundle]
            for way in self._ways(kernels.models[kind], groups, some[0].rows * size):
                batches = Batches(
                    self.scenario.network, groups[way.groups], some, kind, way.kernel, way.algorithm
                )
                running = Running(self.dispatcher, sms, given, way.groups, bundle, self._limited)
                found += running.priced(self._asked(batches, size), batches)
        return found

    def _ways(self, kernel: CommunicationModel, groups: Links, size: float) -> list[_Way]:
        """Return how groups exchange a buffer [B]. kernel: of the dispatcher, if it has its own."""
        if not self.dispatcher.op:
            return [_Way(np.arange(len(groups)), kernel, "")]
        op, traffic = self.dispatcher.op, Traffic.EXPERT
        plans = [self._plan(traffic, op, members, size) for members in groups.tolist()]
        different: list[Plan] = []
        for plan in plans:
            if plan not in different:
                different.append(plan)
        number = np.array([different.index(plan) for plan in plans])
        return [
            _Way(np.flatnonzero(number == index), plan.kernel, plan.algorithm)
            for index, plan in enumerate(different)
        ]

    def _asked(self, batches: Batches, size: float) -> Demands:
        """Return the demands of exchanges. size: of all tokens of one GPU [B]."""
        try:
            return self.dispatcher.demands(batches).scaled(size)
        except InputError as error:
            raise located(self.scenario, error) from error

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
            raise located(self.scenario, refused) from error

    def _plan(
        self, traffic: Traffic, op: str, members: Sequence[int], size: float, named: str = ""
    ) -> Plan:
        """Return how a group runs an op. named: algorithm; empty: that of the workload."""
        name = named or chosen_for(self.scenario, traffic)
        key = (op, tuple(members), name)
        if key not in self._known:
            try:
                self._known[key] = self._choices(*key)
            except InputError as error:
                refused = self._refused(traffic, op, members, error)
                raise located(self.scenario, refused) from error
        best = chosen(self._known[key], size)
        return Plan(self.scenario.network, best.algorithm, op, best.at(size))

    def _choices(self, op: str, members: tuple[int, ...], name: str) -> tuple[Choice, ...]:
        """Return the ways that are open to a group. name: algorithm, or NCCL. Errors: InputError."""
        names = (name,) if name in ALGORITHMS else tuple(of_nccl(op))
        kernels = _kernels(self.scenario.kernels, op, names)
        return _choices(self.scenario.network, members, kernels, op, names)

    def _refused(
        self, traffic: Traffic, op: str, members: Sequence[int], error: InputError
    ) -> InputError:
        """Return why an algorithm cannot run on a group, with those that can."""
        network, kernels = self.scenario.network, Kernels.of(self.scenario.kernels)
        works = []
        for name in open_to(traffic):
            alone = {name: ALGORITHMS[name]}
            try:
                choices(network, members, kernels, op, alone)
            except InputError:
                continue
            works.append(name)
        return InputError(
            f"cannot run on {traffic} groups of {len(members)} ranks: it {error.rule}",
            key=f"communication.{traffic}.algorithm",
            value=chosen_for(self.scenario, traffic),
            remedy=f"Choose from: {', '.join((*works, NCCL))}.",
        )


class _Way(NamedTuple):
    """How some groups exchange tokens."""

    groups: Links
    """Which of the groups [group]."""
    kernel: CommunicationModel
    """That runs it."""
    algorithm: str
    """Of the collective that carries it, if one does."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange of tokens: what it asks of the links, and the kernel that runs it."""

    demand: Demand
    """Bytes on links, and the latency of its rounds."""
    kernel: CommunicationModel
    """Rates that its SMs allow, and start."""
    sm_share: float
    """Of the rates that it reaches with SMs enough."""


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
