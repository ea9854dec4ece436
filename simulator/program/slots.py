"""A sequence of templates: all columns of all rows of a program, laid at once.

Programs have millions of rows of few different templates: what is written down once per template is
copied to each slot by index arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from simulator.program.program import Ints
from simulator.program.ragged import flat, lengths, spread, starts
from simulator.program.sheet import Pairs, Sheet
from simulator.program.templates import Handed, Template
from simulator.program.waits import Waits


class SlotActions(NamedTuple):
    """The actions of all slots."""

    of_row: Ints
    """Which action a row belongs to [row]."""
    slot: Ints
    """Where it stands [action]."""
    kind: list[str]
    """Kind of chunk, or update [action]."""


class Reductions(NamedTuple):
    """The rows that sum gradients."""

    slot: Ints
    """Slot of the row [reduction]."""
    row: Ints
    """The row [reduction]."""


@dataclass(frozen=True, slots=True)
class Slots:
    """Which template stands at each slot, and where its rows begin."""

    sheet: Sheet
    """Different templates."""
    template: Ints
    """Index into the templates [slot]."""
    first_row: Ints
    """Row of the program at which the slot begins, and the number of all rows [slot + 1]."""
    slot: Ints
    """Where each row stands [row]."""
    entry: Ints
    """Which row it is of those of all templates [row]."""

    @classmethod
    def of(cls, templates: Sequence[Template], sequence: Ints) -> Slots:
        """Return the slots of templates in an order. sequence: index into templates [slot]."""
        sheet = Sheet.of(templates)
        rows = spread(sheet.counts, sequence)
        return cls(sheet, sequence, starts(sheet.counts[sequence]), rows.owner, rows.entry)

    @property
    def templates(self) -> Sequence[Template]:
        """Return the different templates."""
        return self.sheet.templates

    @property
    def rows(self) -> int:
        """Return the number of all rows."""
        return len(self.entry)

    def actions(self) -> SlotActions:
        """Return the actions of all slots."""
        kinds = [template.kinds for template in self.templates]
        slot, entry = spread(lengths(kinds), self.template)
        # A template counts its actions from 0; the first one of a slot has this number among all.
        first_action = starts(np.bincount(slot, minlength=len(self.template)))
        of_row = self.sheet.action()[self.entry] + first_action[self.slot]
        names = [kind for template_kinds in kinds for kind in template_kinds]
        return SlotActions(of_row, slot, [names[number] for number in entry.tolist()])

    def waits(self) -> list[Waits]:
        """Return the waits within templates."""
        return [self._spread(pairs) for pairs in self.sheet.waits()]

    def _spread(self, pairs: Pairs) -> Waits:
        slot, entry = spread(pairs.counts, self.template)
        # Rows are numbered within their template: in the program they begin where the slot does.
        first = self.first_row[slot]  # [wait]
        return Waits(first + pairs.row[entry], first + pairs.on[entry])

    def inputs(self, sources: Ints) -> Waits:
        """Return the waits for what other slots hand over.

        sources: slots that make what each slot takes [slot, Handed].
        """
        rows = [template.input_row for template in self.templates]
        kinds = [template.input_kind for template in self.templates]
        slot, entry = spread(lengths(rows), self.template)
        row = self.first_row[slot] + flat(rows)[entry]  # [input]
        kind = flat(kinds)[entry]
        source = sources[slot, kind]
        # A template hands on a list of rows of each kind: an input waits for each of them.
        handed = [made for template in self.templates for made in template.handed]
        made_list = len(Handed) * self.template[source] + kind  # [input]
        number, entry = spread(lengths(handed), made_list)  # [wait] input, entry of the lists
        source_begins = self.first_row[source[number]]  # [wait]
        return Waits(row[number], source_begins + flat(handed)[entry])

    def reductions(self) -> Reductions:
        """Return the rows that sum gradients."""
        columns = [template.reduced for template in self.templates]
        slot, entry = spread(lengths(columns), self.template)
        row = self.first_row[slot] + flat(columns)[entry]
        return Reductions(slot, row)

    def far(self, waits: Ints) -> Waits:
        """Return waits between slots.

        waits: the fields of `FarWait`, with the slots of all ranks numbered as one [wait, field].
        """
        slot, row, on_slot, on_row = waits.T
        waiting = self.first_row[slot] + row
        waited_for = self.first_row[on_slot] + on_row
        return Waits(waiting, waited_for)
