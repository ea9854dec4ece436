"""The rows of all ranks -> the columns of a program, all at once: there may be millions of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np

from simulator.program.data_parallel import UPDATE
from simulator.program.folding import Partition
from simulator.program.numbering import by_appearance, instances
from simulator.program.orders import handed_from
from simulator.program.program import Ints, Program, RankAction
from simulator.program.quotient import fold_coflows
from simulator.program.ragged import lengths, starts
from simulator.program.rank_rows import RankRows, Step
from simulator.program.sheet import Labels
from simulator.program.slots import Slots
from simulator.program.step_columns import StepColumns
from simulator.program.templates import Handed
from simulator.program.totals import totals
from simulator.program.waits import Waits, csr, stream_order
from simulator.progress import doing
from simulator.topology import KINDS


class _Actions(NamedTuple):
    """Actions of all ranks."""

    actions: tuple[RankAction, ...]
    """Every action."""
    number: Ints
    """Index into actions [row]."""


@doing("laying rows")
def lay(step: Step, parts: Partition, ranks: Sequence[RankRows], columns: StepColumns) -> Program:
    """Return the program of one rank of each class. ranks: [rank class]. columns: of all blocks."""
    # What templates hold is copied to every slot; what depends on the slot is worked out for all of
    # them as arrays.
    net = step.scenario.network
    laid = _Laid.of(ranks, parts)
    slots = laid.slots
    rank = laid.rank[slots.slot]
    entry = slots.entry
    stream = slots.sheet.stream()[entry]
    labels = laid.labels()
    # Number in the whole cluster's table -> class; -1 picks the -1 behind the last.
    coflow = np.append(parts.coflow, -1)[slots.sheet.coflow()][entry]
    first_labels = [step.table.columns.label(first) for first in parts.first_coflow.tolist()]
    is_send = np.array(
        [step.table.one_sided(label) for label in first_labels], dtype=bool
    )  # [class]
    actions = laid.actions()
    # The order of these does not matter: they are sorted, and each is kept once.
    waits = [
        *slots.waits(),
        slots.inputs(laid.sources(step)),
        laid.far_waits(),
        laid.optimizer_waits(),
        stream_order(rank, stream),
    ]
    pointer, wait = csr(slots.rows, waits)
    touched, flows = fold_coflows(net, step.table, parts, step.costs.loads)
    links = parts.first_link[touched]
    kept = slots.sheet.kept(columns, step.costs.hosts)
    seconds, sms, hbm, both, host, lead = kept.timing.take(entry, axis=1)  # TIMINGS
    sums = totals(ranks, columns.sums())
    return Program(
        scenario=step.scenario,
        costs=step.costs,
        schedule=step.schedule,
        labels=labels.names,
        rank=rank,
        stream=stream,
        label=labels.number,
        seconds=seconds,
        sms=sms,
        hbm=hbm,
        both=both,
        host=host,
        lead=lead,
        lag=kept.lag[entry],
        drains=kept.drains[entry],
        coflow=coflow,
        instance=instances(rank, coflow, is_send),
        action=actions.number,
        wait_ptr=pointer,
        wait=wait,
        actions=actions.actions,
        coflows=flows,
        capacity=net.capacity[links],
        link_names=tuple(net.name[link] for link in links.tolist()),
        link_kinds=tuple(KINDS[code] for code in net.kind_code[links].tolist()),
        first_rank=parts.first_rank,
        multiplicity=np.bincount(parts.rank, minlength=len(parts.first_rank)),
        class_seconds=tuple(total.seconds for total in sums),
        flops=tuple(total.flops for total in sums),
        recomputed=tuple(total.recomputed for total in sums),
    )


@dataclass(frozen=True, slots=True)
class _Laid:
    """The slots of all classes of ranks, one class behind another."""

    ranks: Sequence[RankRows]
    """What each class runs [rank class]."""
    parts: Partition
    """Which ranks each class stands for."""
    slots: Slots
    """All slots."""
    start: Ints
    """First slot of each class, and the number of all slots [rank class + 1]."""
    rank: Ints
    """Class of ranks [slot]."""

    @classmethod
    def of(cls, ranks: Sequence[RankRows], parts: Partition) -> _Laid:
        templates = list(chain.from_iterable(rows.templates for rows in ranks))
        # Templates are numbered within their rank; all of them, rank by rank.
        first_template = starts(lengths([rows.templates for rows in ranks]))
        counts = lengths([rows.sequence for rows in ranks])  # [rank class] slots
        rank = np.repeat(np.arange(len(ranks)), counts)  # [slot]
        sequence = np.concatenate([rows.sequence for rows in ranks]) + first_template[rank]
        return cls(ranks, parts, Slots.of(templates, sequence), starts(counts), rank)

    @property
    def last(self) -> Ints:
        """Return the last slot of each class of ranks [rank class]."""
        return self.start[1:] - 1

    def labels(self) -> Labels:
        """Return the labels in the order in which they appear, and that of each row."""
        # Numbered by template to have numbers at all, then by appearance, so as not to depend
        # on how rows were cut into templates.
        labels = self.slots.sheet.labels()
        used, number = by_appearance(labels.number[self.slots.entry])
        return Labels(tuple(labels.names[label] for label in used.tolist()), number)

    def actions(self) -> _Actions:
        """Return all actions, and that of each row."""
        number, slot, kind = self.slots.actions()
        rank = self.rank[slot]  # [action]
        position = slot - self.start[rank] - 1
        # Parameters are gathered before an action, but have no position of their own.
        update = np.array([name == UPDATE for name in kind], dtype=bool)
        position[update & (slot != self.last[rank])] = -1
        actions = map(RankAction, rank.tolist(), position.tolist(), kind)
        return _Actions(tuple(actions), number)

    def sources(self, step: Step) -> Ints:
        """Return the slots that make the inputs of each slot, -1 where none [slot, Handed]."""
        layout = step.scenario.layout
        table = step.schedule.table
        indices = range(len(step.schedule.ranks))
        maker_row = handed_from(step.schedule)  # [row of the table, half] row of the table
        sources = np.full((len(self.rank), len(Handed)), -1, dtype=np.int64)
        for number, rows in enumerate(self.ranks):
            # The pipeline of the rank that represents the class: the class at each of its indices.
            local_rank = layout.local_rank(int(self.parts.first_rank[number]))
            pipeline = [layout.rank(index, local_rank) for index in indices]
            peers = self.parts.rank[pipeline]
            begin = table.start[rows.pipeline_index]
            end = table.start[rows.pipeline_index + 1]
            made = maker_row[begin:end]  # [position, half]
            maker = table.rank[made]
            position = made - table.start[maker]
            # A rank's first slot stands before its actions.
            slot = self.start[peers[maker]] + 1 + position
            actions = slice(self.start[number] + 1, self.last[number])
            sources[actions, : Handed.POSTED] = np.where(made < 0, -1, slot)
            awaited = rows.awaited  # [position] slot of the rank
            sources[actions, Handed.POSTED] = np.where(
                awaited < 0, -1, self.start[number] + awaited
            )
        return sources

    def far_waits(self) -> Waits:
        """Return the waits between slots that ranks have written down."""
        waits = [np.empty((0, 4), dtype=np.int64)]  # fields of FarWait
        begins = self.start[:-1].tolist()  # [rank class]
        for first, rows in zip(begins, self.ranks, strict=True):
            if rows.far:
                # Slots are numbered within their rank.
                rank_waits = np.array(rows.far, dtype=np.int64)
                rank_waits[:, [0, 2]] += first
                waits.append(rank_waits)
        return self.slots.far(np.concatenate(waits))

    def optimizer_waits(self) -> Waits:
        """Return that each rank's optimizer waits for the rows that sum its gradients."""
        slot, row = self.slots.reductions()
        last = self.last[self.rank[slot]]  # [reduction] slot of the optimizer
        rows = [template.optimizer for template in self.slots.templates]
        template = self.slots.template[last]
        optimizer = np.array(rows, dtype=np.int64)[template]  # [reduction] row in its template
        return Waits(self.slots.first_row[last] + optimizer, row)
