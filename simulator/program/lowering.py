"""Schedule + costs + coflows -> Program.

Of each rank the different pieces are written down (`_Builder`), then all rows are laid at once
(`_Layer`): large programs have millions of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simulator.costs import Costs, price
from simulator.layout import ZeroStage
from simulator.program.chunks import (
    COMMUNICATION,
    FORWARD_INPUT,
    GRADIENT_INPUT,
    SEND,
    Chunk,
    chunk,
)
from simulator.program.coflows import SENDS, Coflows, coflows, stage_hosts
from simulator.program.data_parallel import Shared
from simulator.program.folding import Partition, fold, members, unfolded
from simulator.program.orders import Key, Order, handed_from, orders
from simulator.program.program import Ints, Program
from simulator.program.quotient import fold_coflows
from simulator.program.templates import FORWARD, GRADIENT, Far, Piece, Places, csr, stream_order
from simulator.program.timed import schedule_of
from simulator.scenario import Scenario
from simulator.schedules import Action, Schedule
from simulator.topology import Network

Totals = tuple[dict[str, float], dict[str, float], float]
"""of one rank: class of op -> busy compute [s], dtype -> FLOPs, FLOPs that ran before"""
_INPUTS = {FORWARD_INPUT: FORWARD, GRADIENT_INPUT: GRADIENT}


def lower(scenario: Scenario, *, folded: bool = True) -> Program:
    """Return the program of one step. folded: ranks that are alike are simulated once."""
    costs = price(scenario)
    return lower_schedule(scenario, schedule_of(scenario, costs), costs, folded=folded)


def lower_schedule(
    scenario: Scenario, schedule: Schedule, costs: Costs, *, folded: bool = True
) -> Program:
    """Return the program of a schedule and of costs that need not be the scenario's own."""
    net = scenario.network
    layout = scenario.layout
    table = coflows(net, layout, schedule, costs)
    loads = members(layout) if costs.per_gpu else ()
    parts = (
        fold(net, schedule, table, layout, loads) if folded else unfolded(net, table, layout.gpus)
    )
    builder = _Builder(scenario, schedule, costs, table)
    for rank in parts.first_rank.tolist():
        builder.add_rank(rank, float(net.speed[rank]))
    return _Layer(builder, parts).program(net)


@dataclass
class _Builder:
    """Collects the pieces of one rank after the other. Local state of `lower`; nothing outside sees it.

    which: pieces in the order of their places, rank by rank: one before the actions, each action,
    one behind. far: what waits for rows of other pieces, by place. indices: pipeline index of each
    rank.
    """

    scenario: Scenario
    schedule: Schedule
    costs: Costs
    table: Coflows
    pieces: list[Piece] = field(default_factory=list)
    which: list[Ints] = field(default_factory=list)
    far: list[Far] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    totals: list[Totals] = field(default_factory=list)
    chunks: dict[tuple[Key, int], Chunk] = field(default_factory=dict)
    places: int = 0
    member: int = (
        -1
    )  # of its expert group, of the rank that is being added, where each has a load of its own

    def __post_init__(self) -> None:
        self.hosts = stage_hosts(self.schedule)
        self.members = members(self.scenario.layout) if self.costs.per_gpu else ()
        self.orders = orders(
            self.schedule, every_pass=self.scenario.layout.zero >= ZeroStage.GRADIENTS
        )
        # The SMs that are kept for communication run one kernel at a time: DeepSeek-V3 sends
        # between stages on the stream of dispatch and combine, after the last combine(F) of a chunk
        # pair (arXiv 2412.19437, figure 4).
        self.send_stream = COMMUNICATION if self.costs.processor.reserved_sms else SEND

    def add_rank(self, rank: int, speed: float) -> None:
        """Add all rows of the rank that stands for its class. speed: of its kernels, 1 for a healthy GPU."""
        index = self.scenario.layout.pipeline_index(rank)
        self.member = self.members[self.scenario.layout.place(rank)] if self.members else -1
        order = self.orders[index]
        shared = Shared(self.scenario, self.costs, self.table, self.hosts, rank, speed, order.final)
        begin = shared.begin_step(order.first)
        actions = [self._piece(key, (index, rank), shared) for key in order.keys]
        end, seconds, far = shared.end_step(_owed(actions, order))
        number, behind = len(self.pieces), self.places + len(order.code) + 1
        self.pieces += [begin, *actions, end]
        self.which.append(
            np.concatenate([[number], number + 1 + order.code, [number + 1 + len(actions)]])
        )
        self.far += [(behind, row, self.places + at, due) for _, row, at, due in far]
        for stage, position in order.first.items():
            key = order.keys[order.code[position]]
            piece = actions[order.code[position]]
            for mark, row in self._chunk(key).begins.items():
                if mark[:2] == ("F", stage) and row < len(self._chunk(key).stream):
                    self.far += [
                        (self.places + 1 + position, piece.base + row, self.places, due)
                        for due in shared.gathers.get(mark, ())
                    ]
        self.indices.append(index)
        self.totals.append(
            _totals([self._chunk(key) for key in order.keys], order.code, seconds, speed)
        )
        self.places = behind + 1

    def _chunk(self, key: Key) -> Chunk:
        shape = (Key(*key[:3]), self.member)
        if shape not in self.chunks:
            action = Action(key.kind, 0, key.stage, 0 if key.kind == "FB" else -1, key.stage_b)
            self.chunks[shape] = chunk(action, self.costs, self.member)
        return self.chunks[shape]

    def _piece(self, key: Key, place: tuple[int, int], shared: Shared) -> Piece:
        """Return the rows of an action and of what goes with it. place: (pipeline index, rank)."""
        piece, rows = Piece(shared.speed), self._chunk(key)
        gathered = shared.before(piece, rows)
        piece.kinds.append(str(key.kind))
        base = piece.base = len(piece.stream)
        last = self.schedule.stages - 1
        comes = {FORWARD_INPUT: key.forward > 0, GRADIENT_INPUT: 0 <= key.backward < last}
        for stream, label, seconds, what, after in zip(
            rows.stream, rows.label, rows.seconds, rows.exchange, rows.after, strict=True
        ):
            row = piece.row(
                stream, label, seconds, self.table.index[(*what, place[1])] if what[0] else -1
            )
            piece.waits += [(row, base + due) for due in after if due >= 0]
            piece.wanted += [(row, _INPUTS[due]) for due in after if due < 0 and comes[due]]
        if 0 <= key.forward < last:
            self._hand_on(piece, rows.forward_out, ("F", place[0], key.to), place[1])
        if key.backward > 0:
            self._hand_on(piece, rows.gradient_out, ("B", place[0], key.to_b), place[1])
        shared.after(piece, rows, gathered, key.final)
        return piece

    def _hand_on(
        self, piece: Piece, made: tuple[int, ...], edge: tuple[str, int, int], rank: int
    ) -> None:
        """Send what an action makes to the rank that runs the next stage, or leave it where it is.

        made: rows of the chunk.
        """
        out = [piece.base + row for row in made if row >= 0]
        number = self.table.edges.get(edge)
        if number is not None:
            sent = piece.row(
                self.send_stream, f"send {edge[0]}", 0.0, self.table.index[edge[0], number, rank]
            )
            piece.waits += [(sent, row) for row in out]
            out = [sent]
        piece.handed[FORWARD if edge[0] == "F" else GRADIENT].extend(out)


def _owed(
    actions: list[Piece], order: Order
) -> Iterator[tuple[int, tuple[str, int, int], list[int]]]:
    """Yield gradients that are summed at the end of the step: position of the action, block, rows that make them."""
    owing = np.array([bool(piece.owed) for piece in actions], dtype=bool)
    for position in np.flatnonzero(owing[order.code]).tolist():
        for mark, made in actions[order.code[position]].owed:
            yield position, mark, made


def _totals(chunks: list[Chunk], code: Ints, optimizer: float, speed: float) -> Totals:
    """Return a rank's sums. code: chunk of each action in order. optimizer: of a healthy GPU [s]."""

    def summed(tables: list[dict[str, float]]) -> dict[str, float]:
        _, first = np.unique(code, return_index=True)
        names = dict.fromkeys(
            name for number in code[np.sort(first)].tolist() for name in tables[number]
        )
        # Summed one by one, as they are laid; numpy's sum adds pairwise.
        return {
            name: _last(np.array([table.get(name, 0.0) for table in tables])[code])
            for name in names
        }

    seconds = summed(
        [{name: value / speed for name, value in rows.classes.items()} for rows in chunks]
    )
    seconds["optimizer"] = seconds.get("optimizer", 0.0) + optimizer / speed
    recomputed = _last(np.array([rows.recomputed for rows in chunks], dtype=np.float64)[code])
    return seconds, summed([rows.flops for rows in chunks]), recomputed


def _last(values: NDArray[np.float64]) -> float:
    return float(np.cumsum(values)[-1]) if len(values) else 0.0


@dataclass
class _Layer:
    """Lays all rows. starts: first place of each class of ranks, and the number of all places."""

    builder: _Builder
    parts: Partition

    def __post_init__(self) -> None:
        lengths = np.array([len(which) for which in self.builder.which], dtype=np.int64)
        self.starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self.place = Places.of(self.builder.pieces, np.concatenate(self.builder.which))
        self.ranks = np.repeat(np.arange(len(lengths)), lengths)  # of each place

    def program(self, net: Network) -> Program:
        """Return the columns."""
        builder, parts, place = self.builder, self.parts, self.place
        rank = np.repeat(self.ranks, np.diff(place.base))
        stream = place.ints("stream")
        labels, label = self._labels()
        coflow = place.ints("coflow")
        coflow = np.where(coflow < 0, -1, np.append(parts.coflow, -1)[coflow])
        action, actions = self._actions()
        waits = [
            place.waits(),
            place.inputs(self._sources()),
            place.far(builder.far),
            self._updates(),
        ]
        pointer, wait = csr(place.rows, [*waits, stream_order(rank, stream)])
        touched, flows = fold_coflows(
            builder.scenario, net, builder.table, parts, builder.costs.loads
        )
        return Program(
            scenario=builder.scenario,
            costs=builder.costs,
            schedule=builder.schedule,
            labels=labels,
            rank=rank,
            stream=stream,
            label=label,
            seconds=place.floats("seconds"),
            coflow=coflow,
            instance=self._instances(rank, coflow),
            action=action,
            wait_ptr=pointer,
            wait=wait,
            actions=actions,
            coflows=flows,
            capacity=net.capacity[parts.first_link[touched]],
            link_names=tuple(net.name[link] for link in parts.first_link[touched].tolist()),
            link_kinds=tuple(net.kind[link] for link in parts.first_link[touched].tolist()),
            first_rank=parts.first_rank,
            multiplicity=np.bincount(parts.rank, minlength=len(parts.first_rank)),
            class_seconds=tuple(total[0] for total in builder.totals),
            flops=tuple(total[1] for total in builder.totals),
            recomputed=tuple(total[2] for total in builder.totals),
        )

    def _labels(self) -> tuple[tuple[str, ...], Ints]:
        """Return the labels in the order in which they appear, and that of each row."""
        code: dict[str, int] = {}
        for piece in self.builder.pieces:
            for label in piece.label:
                code.setdefault(label, len(code))
        used, number = _renumbered(
            self.place.column([[code[name] for name in one.label] for one in self.place.pieces])
        )
        names = list(code)
        return tuple(names[label] for label in used.tolist()), number

    def _actions(self) -> tuple[Ints, tuple[tuple[int, int, str], ...]]:
        """Return the action of each row, and all actions: (class of ranks, position, kind of chunk)."""
        of_row, place, kinds = self.place.action()
        rank = self.ranks[place]
        position = place - self.starts[rank] - 1
        # Parameters are gathered before an action, but have no position of their own.
        update = np.array([kind == "update" for kind in kinds], dtype=bool)
        position[update & (place != self.starts[rank + 1] - 1)] = -1
        return of_row, tuple(zip(rank.tolist(), position.tolist(), kinds, strict=True))

    def _sources(self) -> Ints:
        """Return the places that make the inputs of each place, -1 where none [place, 2]."""
        layout, starts, schedule = self.builder.scenario.layout, self.starts, self.builder.schedule
        table, made = schedule.table, handed_from(schedule)
        found = np.full((len(self.ranks), 2), -1, dtype=np.int64)
        for number, index in enumerate(self.builder.indices):
            replica = layout.place(int(self.parts.first_rank[number]))
            peers = self.parts.rank[
                [layout.rank(other, replica) for other in range(len(schedule.ranks))]
            ]
            own = made[table.start[index] : table.start[index + 1]]
            maker = table.rank[own]
            places = starts[peers[maker]] + 1 + own - table.start[maker]
            found[starts[number] + 1 : starts[number + 1] - 1] = np.where(own < 0, -1, places)
        return found

    def _updates(self) -> tuple[Ints, Ints]:
        """Return each rank's optimizer and the rows that sum its gradients."""
        place, row = self.place.reduced()
        last = self.starts[self.ranks[place] + 1] - 1
        optimizer = np.array([piece.base for piece in self.place.pieces], dtype=np.int64)[
            self.place.which[last]
        ]
        return self.place.base[last] + optimizer, row

    def _instances(self, rank: Ints, coflow: Ints) -> Ints:
        """Return the instance of each row, in the order in which they appear.

        The n-th calls of all members of a coflow are one; of a send, each call of each rank.
        """
        parts, table = self.parts, self.builder.table
        sends = np.array(
            [table.label[first][0] in SENDS for first in parts.first_coflow.tolist()], dtype=bool
        )
        rows = np.flatnonzero(coflow >= 0)
        kind = coflow[rows]
        order = np.argsort(rank[rows] * len(sends) + kind, kind="stable")
        line = (rank[rows] * len(sends) + kind)[order]
        begins = np.diff(line, prepend=-1) != 0
        number = np.arange(len(rows))
        call = np.empty(len(rows), dtype=np.int64)
        call[order] = number - np.maximum.accumulate(np.where(begins, number, 0))
        most = np.zeros(len(sends) + 1, dtype=np.int64)
        np.maximum.at(most, kind + 1, call + 1)
        ends = np.cumsum(most)
        instance = np.full(len(rank), -1, dtype=np.int64)
        instance[rows] = _renumbered(np.where(sends[kind], ends[-1] + number, ends[kind] + call))[1]
        return instance


def _renumbered(values: Ints) -> tuple[Ints, Ints]:
    """Return the different values in the order in which they appear, and for each value its place there."""
    first = np.full(values.max(initial=-1) + 1, len(values), dtype=np.int64)
    first[values[::-1]] = np.arange(len(values))[
        ::-1
    ]  # of equal ones the last write, the first place, stays
    order = np.argsort(first, kind="stable")[: np.count_nonzero(first < len(values))]
    number = np.empty(len(first), dtype=np.int64)
    number[order] = np.arange(len(order))
    return order, number[values]
