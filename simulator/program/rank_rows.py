"""The templates of one rank: each different action, what it runs before them, and behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from simulator.costs import NO_LAUNCH, Busy, Costs
from simulator.ops.streams import Stream
from simulator.program.alike import Alike, renumbered
from simulator.program.block_traffic import BlockTraffic
from simulator.program.chunk_columns import ChunkRows
from simulator.program.chunk_rows import FORWARD_INPUT, GRADIENT_INPUT, After
from simulator.program.chunks import DUALPIPE, Pairing
from simulator.program.coflows import Coflows, stage_hosts
from simulator.program.data_parallel import UPDATE, DataParallel, OwedAt
from simulator.program.folding import members
from simulator.program.orders import Key, Operations, Order, Post, orders
from simulator.program.program import Ints
from simulator.program.step_sums import StepSums
from simulator.program.templates import FarWait, Handed, Template, Use
from simulator.program.transfers import CoflowKey
from simulator.program.uses import Runs, Uses
from simulator.scenario import Scenario
from simulator.schedules import PipelineOverlap, Schedule

_HALVES = {"F": Handed.FORWARD, "B": Handed.GRADIENT}
_INPUTS = {FORWARD_INPUT: Handed.FORWARD, GRADIENT_INPUT: Handed.GRADIENT}


@dataclass(frozen=True, slots=True)
class Step:
    """What is lowered."""

    scenario: Scenario
    """What is simulated."""
    schedule: Schedule
    """Order of the actions of each pipeline rank."""
    costs: Costs
    """What its blocks cost."""
    table: Coflows
    """Every transfer between the ranks of the cluster."""


@dataclass(frozen=True, slots=True)
class RankRows:
    """What one rank runs in a step. Its slots: one before the actions, each action, one behind."""

    pipeline_index: int
    """Of the rank."""
    templates: list[Template]
    """Different templates, as many as it has different actions and two."""
    sequence: Ints
    """Index into templates [slot]."""
    awaited: Ints
    """Slot whose messages an action waits for, -1 if none [position]."""
    far: list[FarWait]
    """Waits between slots, besides those for inputs and for reductions."""


@dataclass
class RankBuilder:
    """Writes down the rows of one rank after the other. Local state of `lower`."""

    step: Step
    """What is lowered."""

    def __post_init__(self) -> None:
        step = self.step
        layout = step.scenario.layout
        self.sums = StepSums(step.scenario, step.costs)
        self.hosts = stage_hosts(step.schedule)
        self.virtual = step.schedule.stages // len(step.schedule.ranks)
        self.members = members(layout) if step.costs.per_gpu else ()
        self.sends = step.scenario.pipeline.sends
        self.uses = Uses(step.costs, _pairing(step.scenario))
        self.syncs_every_pass = step.scenario.workload.layout.syncs_every_pass
        self.orders = orders(step.schedule, self.sends, every_pass=self.syncs_every_pass)
        # The SMs that are kept for communication run one kernel at a time: DeepSeek-V3 sends
        # between stages on the stream of dispatch and combine, after the last combine(F) of a chunk
        # pair (arXiv 2412.19437, figure 4).
        reserved = step.costs.processor.reserved_sms
        self.send_stream = Stream.COMMUNICATION if reserved else Stream.SEND
        self.first: dict[Alike, int] = {}  # the first of some ranks that are alike
        self.written: dict[int, RankRows] = {}  # what such a rank runs

    def build(self, rank: int, speed: float) -> RankRows:
        """Return all rows of a rank. speed: of its kernels, 1 for a healthy GPU."""
        layout = self.step.scenario.layout
        # Member of its expert group, where each of these has a load of its own.
        member = self.members[layout.local_rank(rank)] if self.members else -1
        table = self.step.table
        # Where receivers take part in sends, ranks name transfers that they do not call themselves.
        if table.meets:
            return self._write(rank, speed, member)
        # Ranks of a stage write the same: where each of them is a class of its own, all but the
        # first copy it, in a tenth of the time.
        calls = table.calls(rank)
        alike = Alike(layout.pipeline_index(rank), speed, member, frozenset(calls))
        if alike not in self.first:
            self.first[alike] = rank
            self.written[rank] = self._write(rank, speed, member)
            return self.written[rank]
        first = self.first[alike]
        rows = self.written[first]
        return replace(rows, templates=renumbered(rows.templates, table.calls(first), calls))

    def _write(self, rank: int, speed: float, member: int) -> RankRows:
        """Write down all rows of a rank. member: of its expert group, see `Alike`."""
        step = self.step
        index = step.scenario.layout.pipeline_index(rank)
        order = self.orders[index]
        data = DataParallel(
            scenario=step.scenario,
            costs=step.costs,
            table=step.table,
            sums=self.sums,
            hosts=self.hosts,
            rank=rank,
            speed=speed,
            stages=tuple(order.final),
        )
        # Each different action is written once, in whatever order: `sequence` says where it stands.
        begin = data.begin_step(order.first)
        self._post(begin, order.posts[0], rank, {})
        actions = []
        for key in order.keys:
            use = self.uses.of(Runs(key.kind, key.stage, key.stage_b, member))
            template = self._template(key, use, data)
            if key.posts >= 0:
                posted = order.posts[key.posts]
                self._post(template, posted, rank, self._behind(key, use.rows, template))
            actions.append(template)
        last_slot = len(order.code) + 1
        end = data.end_step(_owed(actions, order), last_slot)
        last_template = len(actions) + 1
        return RankRows(
            pipeline_index=index,
            templates=[begin, *actions, end.template],
            sequence=np.concatenate([[0], 1 + order.code, [last_template]]),
            awaited=order.awaited,
            far=[*end.waits, *_parameter_waits(order, actions, data)],
        )

    def _template(self, key: Key, use: Use, data: DataParallel) -> Template:
        """Return the rows of an action and of what goes with it."""
        kinds = [UPDATE] if data.resharded else []
        template = Template(data.speed, kinds=[*kinds, str(key.kind)])
        handed_over = self._handed_over(key)
        if key.receives or key.awaits:
            self._wait(template, key, handed_over)
        calls = self.step.table.calls(data.rank)
        template.begin(use, [calls[key] for key in use.keys])
        BlockTraffic(data, template, use, syncs=key.final or self.syncs_every_pass).lay()
        # Where compute waits for what comes, rows wait for that.
        self._take(template, use.rows, {} if key.receives else handed_over)
        if 0 <= key.forward < self.step.schedule.stages - 1:
            self._hand_on(template, Handed.FORWARD, use.rows.forward_out, key.to, data.rank)
        if key.backward > 0:
            self._hand_on(template, Handed.GRADIENT, use.rows.gradient_out, key.to_b, data.rank)
        return template

    def _handed_over(self, key: Key) -> dict[int, bool]:
        """Tell which inputs another action hands over."""
        # The first stage reads its input from the data, the last one makes its gradient from the
        # loss: nobody hands them over.
        last_stage = self.step.schedule.stages - 1
        return {
            FORWARD_INPUT: key.forward > 0,
            GRADIENT_INPUT: 0 <= key.backward < last_stage,
        }

    def _take(self, template: Template, rows: ChunkRows, handed_over: dict[int, bool]) -> None:
        """Make an action's rows wait for what other actions hand over.

        handed_over: inputs that rows wait for themselves, nothing if the first row of the template does.
        """
        drains = self._receiving(NO_LAUNCH, self.virtual).drains
        for one in rows.inputs:
            row = template.place[one.row]
            if not handed_over:
                template.wait(row, (0,))
            elif handed_over[one.due]:
                template.wait_for_input(row, _INPUTS[one.due])
                if drains:
                    template.drained.append(row)

    def _receiving(self, busy: Busy, virtual: int) -> Busy:
        """Return what a row that takes what another stage sends keeps busy."""
        return self.step.costs.hosts.receive(busy, virtual)

    def _wait(self, template: Template, key: Key, handed_over: dict[int, bool]) -> None:
        """Add a row at which the compute stream waits for messages, as it does for an event."""
        nothing = Busy(0.0)
        # Megatron synchronises behind batched messages, which are those that do not overlap.
        blocks = self.sends.blocks and key.awaits
        busy = self._receiving(nothing, 1) if blocks else nothing
        row = template.row(Stream.COMPUTE, "wait", busy)
        if key.awaits:
            template.wait_for_input(row, Handed.POSTED)
        for due, comes in handed_over.items():
            if comes:
                template.wait_for_input(row, _INPUTS[due])

    def _hand_on(
        self, template: Template, kind: Handed, made: After, taker: int, rank: int
    ) -> None:
        """Send what an action makes to the rank that runs the next stage, or leave it where it is.

        made: rows of the chunk. taker: pipeline index of that rank.
        """
        direction = "F" if kind == Handed.FORWARD else "B"
        index = self.step.scenario.layout.pipeline_index(rank)
        rows = template.placed(made)
        # A rank that holds both stages, as in a V-shaped schedule, sends nothing.
        edge = self.step.table.edges.get((direction, index, taker))
        if edge is not None and self.step.table.meets:
            return  # `_post` does
        if edge is not None:
            coflow = self.step.table.calls(rank)[CoflowKey(direction, edge)]
            busy = self.step.costs.hosts.collective()
            sent = template.row(self.send_stream, f"send {direction}", busy, coflow)
            template.wait(sent, rows)
            rows = [sent]
        template.handed[kind].extend(rows)

    def _post(
        self,
        template: Template,
        operations: Operations,
        rank: int,
        after: Mapping[str, Sequence[int]],
    ) -> None:
        """Add both kinds of ends of messages.

        after: rows of the template behind which messages of either half begin.
        """
        if operations and not template.kinds:
            template.kinds.append(UPDATE)
        for operation in operations:
            rows: list[int] = []
            for message in operation:
                # The messages of an operation are launched by one call.
                busy = NO_LAUNCH if rows else self.step.costs.hosts.collective()
                row = template.row(Stream.SEND, message.label, busy, self._coflow_of(message, rank))
                template.wait(row, after.get(message.half, ()))
                rows.append(row)
                if self.sends.blocks:
                    template.handed[Handed.POSTED].append(row)
                elif message.sends:
                    template.handed[Handed.POSTED].append(row)
                    template.handed[_HALVES[message.half]].append(row)
            after = dict.fromkeys("FB", rows)

    def _behind(self, key: Key, rows: ChunkRows, template: Template) -> dict[str, list[int]]:
        """Return the rows of an action behind which messages of either half begin."""
        behind = dict.fromkeys("FB", template.latest(rows.latest))
        # Outputs of a pair leave before all of it is done: Megatron-LM posts a forward's on the
        # stream of its last combine, and a backward's before the last weight gradient.
        if key.kind == "FB" and self.sends is PipelineOverlap.STEADY:
            for half, made in (("F", rows.forward_out), ("B", rows.gradient_out)):
                behind[half] = template.placed(made) or behind[half]
        return behind

    def _coflow_of(self, message: Post, rank: int) -> int:
        """Return the coflow of a message between a rank and its peer."""
        layout = self.step.scenario.layout
        index = layout.pipeline_index(rank)
        source, target = (index, message.peer) if message.sends else (message.peer, index)
        edge = self.step.table.edges[message.half, source, target]
        sender = layout.rank(source, layout.local_rank(rank))
        return self.step.table.calls(sender)[CoflowKey(message.half, edge)]


def _pairing(scenario: Scenario) -> Pairing:
    """Return how pairs of a run's schedule run their blocks."""
    config = scenario.workload.schedule
    if not config.overlap_moe_expert_parallel_comm:
        return DUALPIPE
    return Pairing(by_layer=True, delayed=config.delay_wgrad_compute)


def _owed(actions: Sequence[Template], order: Order) -> list[OwedAt]:
    """Return the gradients that are summed at the end of the step, in the order of the actions."""
    # Few of a rank's thousands of actions owe anything: look at each different one once.
    owes = np.array([bool(template.owed) for template in actions], dtype=bool)  # [template]
    return [
        OwedAt(position + 1, gradients)
        for position in np.flatnonzero(owes[order.code]).tolist()
        for gradients in actions[order.code[position]].owed
    ]


def _parameter_waits(
    order: Order, actions: Sequence[Template], data: DataParallel
) -> list[FarWait]:
    """Return that the first forward pass of each stage waits for the gathers of the first slot."""
    waits: list[FarWait] = []
    if not data.gathers:
        return waits
    for stage, position in order.first.items():
        action = actions[order.code[position]]
        assert action.use
        for half_mark, begin in action.use.rows.begins.items():
            mark = action.use.mark(half_mark)
            # The blocks of a pair's other half, or without rows, wait for nothing here.
            this_pass = mark.direction == "F" and mark.stage == stage
            if not this_pass or begin >= len(action.place):
                continue
            row = action.place[begin]
            for gather in data.gathers.get(mark, ()):
                waits.append(FarWait(position + 1, row, 0, gather))
    return waits
