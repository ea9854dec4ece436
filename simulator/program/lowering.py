"""Schedule + costs + coflows -> Program."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from simulator.program.chunks import COMMUNICATION, FORWARD_INPUT, GRADIENT_INPUT, SEND, Chunk, chunk
from simulator.program.coflows import SENDS, Coflows, coflows, stage_hosts
from simulator.program.costs import Costs, costs
from simulator.program.folding import Partition, fold, members, unfolded
from simulator.program.program import Ints, Program
from simulator.program.quotient import fold_coflows
from simulator.program.shared import Shared
from simulator.program.timed import timed_schedule
from simulator.scenario import Scenario
from simulator.schedules import Action, Kind, Place, Schedule
from simulator.topology import Network, network


def lower(scenario: Scenario, *, folded: bool = True) -> Program:
    """Return the program of one step. folded: ranks that are alike are simulated once."""
    priced = costs(scenario)
    return lower_schedule(scenario, timed_schedule(scenario, priced), priced, folded=folded)


def lower_schedule(scenario: Scenario, schedule: Schedule, priced: Costs, *, folded: bool = True) -> Program:
    """Return the program of a schedule and of costs that need not be the scenario's own."""
    net = network(scenario.topology)
    layout = scenario.layout
    table = coflows(net, layout, schedule, priced)
    loads = members(layout) if priced.apart else ()
    parts = fold(net, schedule, table, layout, loads) if folded else unfolded(net, table, layout.gpus)
    builder = _Builder(scenario, schedule, priced, table, parts)
    for rank_class, rank in enumerate(parts.first_rank.tolist()):
        builder.add_rank(rank_class, rank, float(net.speed[rank]))
    return builder.finish(net)


@dataclass
class _Builder:
    """Collects rows rank by rank. Local state of `lower`; nothing outside sees it."""

    scenario: Scenario
    schedule: Schedule
    costs: Costs
    table: Coflows
    parts: Partition
    rank: list[int] = field(default_factory=list)
    stream: list[int] = field(default_factory=list)
    label: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    coflow: list[int] = field(default_factory=list)
    instance: list[int] = field(default_factory=list)
    action: list[int] = field(default_factory=list)
    waits: list[tuple[int, int]] = field(default_factory=list)  # (row, row that it waits for)
    handed: dict[tuple[int, int, str], list[int]] = field(default_factory=dict)  # (class, position, F or B) -> rows
    wanted: list[tuple[int, tuple[int, int, str]]] = field(default_factory=list)
    actions: list[tuple[int, int, str]] = field(default_factory=list)
    calls: defaultdict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))
    instances: dict[tuple[int, int], int] = field(default_factory=dict)
    chunks: dict[tuple[Action, int], Chunk] = field(default_factory=dict)
    totals: list[tuple[dict[str, float], dict[str, float], float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.places = self.schedule.place()
        self.hosts = stage_hosts(self.schedule)
        self.members = members(self.scenario.layout) if self.costs.apart else ()
        self.speed = 1.0
        # The SMs that are kept for communication run one kernel at a time: DeepSeek-V3 sends between stages on the
        # stream of dispatch and combine, after the last combine(F) of a chunk pair (arXiv 2412.19437, figure 4).
        self.send_stream = COMMUNICATION if self.costs.processor.reserved_sms else SEND

    def add_rank(self, rank_class: int, rank: int, speed: float) -> None:
        """Add all rows of the rank that stands for its class. speed: of its kernels, 1 for a sound GPU."""
        self.speed = speed
        index = self.scenario.layout.pipeline_index(rank)
        order = self.schedule.ranks[index]
        seconds: defaultdict[str, float] = defaultdict(float)
        flops: defaultdict[str, float] = defaultdict(float)
        recomputed = 0.0
        shared = Shared(self, rank_class, rank)
        shared.begin_step(order)
        for position, action in enumerate(order):
            rows = self._chunk(action, rank)
            gathered = shared.before(rows)
            base = self._add_action(rank_class, rank, (index, position), action)
            shared.after(position, (base, rows), gathered)
            for name, value in rows.classes.items():
                seconds[name] += value / speed
            for dtype, value in rows.flops.items():
                flops[dtype] += value
            recomputed += rows.recomputed
        seconds["optimizer"] += shared.end_step() / speed
        self.totals.append((dict(seconds), dict(flops), recomputed))

    def _chunk(self, action: Action, rank: int) -> Chunk:
        member = int(self.members[self.scenario.layout.place(rank)]) if len(self.members) else -1
        shape = Action(action.kind, 0, action.stage, 0 if action.kind == "FB" else -1, action.stage_b)
        if (shape, member) not in self.chunks:
            self.chunks[shape, member] = chunk(shape, self.costs, member)
        return self.chunks[shape, member]

    def row(self, rank_class: int, stream: int, label: str, seconds: float, coflow: int = -1) -> int:
        """Add a row; return its number."""
        self.rank.append(rank_class)
        self.stream.append(stream)
        self.label.append(label)
        self.seconds.append(seconds / self.speed)
        self.action.append(len(self.actions) - 1)
        self.coflow.append(-1 if coflow < 0 else int(self.parts.coflow[coflow]))
        self.instance.append(-1 if coflow < 0 else self._instance(rank_class, int(self.parts.coflow[coflow])))
        return len(self.rank) - 1

    def _instance(self, rank_class: int, coflow: int) -> int:
        """Return the number of a coflow's next call; the n-th calls of all members are one instance."""
        call = self.calls[rank_class, coflow]
        self.calls[rank_class, coflow] += 1
        if self.table.label[int(self.parts.first_coflow[coflow])][0] in SENDS:
            return self.instances.setdefault((coflow, (rank_class + 1) << 32 | call), len(self.instances))
        return self.instances.setdefault((coflow, call), len(self.instances))

    def _add_action(self, rank_class: int, rank: int, place: Place, action: Action) -> int:
        """Add the rows of an action; return the number of the first."""
        base, rows = len(self.rank), self._chunk(action, rank)
        self.actions.append((rank_class, place[1], str(action.kind)))
        sources = self._sources(action, rank)
        for stream, label, seconds, what, after in zip(
            rows.stream, rows.label, rows.seconds, rows.exchange, rows.after, strict=True
        ):
            row = self.row(rank_class, stream, label, seconds, self.table.index[(*what, rank)] if what[0] else -1)
            self.waits += [(row, base + due) for due in after if due >= 0]
            self.wanted += [(row, sources[due]) for due in after if due in sources]
        self._hand_on(rank_class, rank, place, base)
        return base

    def _sources(self, action: Action, rank: int) -> dict[int, tuple[int, int, str]]:
        """Return which output each input of an action is: marker -> (class, position, F or B)."""
        sources = {}
        replica = self.scenario.layout.place(rank)
        for kind, micro_batch, stage in action.halves():
            if kind == "F" and stage:
                sources[FORWARD_INPUT] = (*self._producer(("F",), micro_batch, stage - 1, replica), "F")
            if kind in ("B", "I") and stage < self.schedule.stages - 1:
                sources[GRADIENT_INPUT] = (*self._producer(("B", "I"), micro_batch, stage + 1, replica), "B")
        return sources

    def _producer(self, kinds: Iterable[Kind], micro_batch: int, stage: int, replica: int) -> tuple[int, int]:
        """Return the class and the position of the rank of the same replica that makes an input."""
        found = (self.places.get((kind, micro_batch, stage)) for kind in kinds)
        index, position = next(place for place in found if place is not None)
        return int(self.parts.rank[self.scenario.layout.rank(index, replica)]), position

    def _hand_on(self, rank_class: int, rank: int, place: Place, base: int) -> None:
        """Send what an action makes to the rank that runs the next stage, or leave it where it is.

        base: the first of its rows.
        """
        action = self.schedule.ranks[place[0]][place[1]]
        rows = self._chunk(action, rank)
        for kind, micro_batch, stage in action.halves():
            half = "F" if kind == "F" else "B"
            following = stage + 1 if half == "F" else stage - 1
            if kind == "W" or not 0 <= following < self.schedule.stages:
                continue
            names: tuple[Kind, ...] = ("F",) if half == "F" else ("B", "I")
            target = next(self.places[name, micro_batch, following][0] for name in names
                          if (name, micro_batch, following) in self.places)
            out = [base + row for row in (rows.forward_out if half == "F" else rows.gradient_out) if row >= 0]
            edge = self.table.edges.get((half, place[0], target))
            if edge is not None:
                sent = self.row(rank_class, self.send_stream, f"send {half}", 0.0, self.table.index[half, edge, rank])
                self.waits += [(sent, row) for row in out]
                out = [sent]
            self.handed[rank_class, place[1], half] = out

    def finish(self, net: Network) -> Program:
        """Resolve what ranks hand to each other and return the columns."""
        waits = self.waits + [(row, made) for row, source in self.wanted for made in self.handed[source]]
        pointer, wait = _csr(len(self.rank), waits + _stream_order(self.rank, self.stream))
        labels = tuple(dict.fromkeys(self.label))
        code = {label: number for number, label in enumerate(labels)}
        touched, flows = fold_coflows(self.scenario, net, self.table, self.parts, self.costs.loads)
        count = np.bincount(self.parts.rank, minlength=len(self.parts.first_rank))
        return Program(
            scenario=self.scenario, costs=self.costs, schedule=self.schedule, labels=labels,
            rank=_ints(self.rank), stream=_ints(self.stream), label=_ints([code[label] for label in self.label]),
            seconds=np.array(self.seconds), coflow=_ints(self.coflow), instance=_ints(self.instance),
            action=_ints(self.action), wait_ptr=pointer, wait=wait, actions=tuple(self.actions), coflows=flows,
            capacity=net.capacity[self.parts.first_link[touched]],
            link_names=tuple(net.name[link] for link in self.parts.first_link[touched].tolist()),
            first_rank=self.parts.first_rank, multiplicity=count,
            class_seconds=tuple(total[0] for total in self.totals), flops=tuple(total[1] for total in self.totals),
            recomputed=tuple(total[2] for total in self.totals),
        )


def _ints(values: Iterable[int]) -> Ints:
    return np.array(list(values), dtype=np.int64)


def _stream_order(rank: list[int], stream: list[int]) -> list[tuple[int, int]]:
    """Return (row, row before it on its stream); sends are unordered, they only share links."""
    before: dict[tuple[int, int], int] = {}
    order = []
    for row, place in enumerate(zip(rank, stream, strict=True)):
        if place[1] != SEND:
            if place in before:
                order.append((row, before[place]))
            before[place] = row
    return order


def _csr(rows: int, pairs: list[tuple[int, int]]) -> tuple[Ints, Ints]:
    """Return (row, other) pairs as CSR by row, each pair once."""
    if not pairs:
        return np.zeros(rows + 1, np.int64), np.zeros(0, np.int64)
    table = np.unique(np.array(pairs, dtype=np.int64), axis=0)
    pointer = np.zeros(rows + 1, np.int64)
    np.cumsum(np.bincount(table[:, 0], minlength=rows), out=pointer[1:])
    return pointer, table[:, 1]
