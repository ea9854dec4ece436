"""A sequence of templates: all columns of all rows of a program, laid at once.

Programs have millions of rows of few different templates: what is written down once per template is
copied to each slot by index arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from simulator.program.program import Floats, Ints
from simulator.program.ragged import Entries, flat, lengths, spread, starts
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

    templates: Sequence[Template]
    """Different templates."""
    template: Ints
    """Index into templates [slot]."""
    first_row: Ints
    """Row of the program at which the slot begins, and the number of all rows [slot + 1]."""

    @classmethod
    def of(cls, templates: Sequence[Template], sequence: Ints) -> Slots:
        """Return the slots of templates in an order. sequence: index into templates [slot]."""
        rows = lengths([template.stream for template in templates])  # [template]
        return cls(templates, sequence, starts(rows[sequence]))

    @property
    def rows(self) -> int:
        """Return the number of all rows."""
        return int(self.first_row[-1])

    @property
    def slot(self) -> Ints:
        """Return the slot of each row [row]."""
        slots = np.arange(len(self.template))
        rows = np.diff(self.first_row)  # [slot]
        return np.repeat(slots, rows)

    def column(self, values: Sequence[Sequence[int]]) -> Ints:
        """Return a column of all rows. values: of each template, one per row."""
        return flat(values)[self._entries(values).entry]

    def ints(self, name: str) -> Ints:
        """Return a column of all rows by its name in Template."""
        return self.column([getattr(template, name) for template in self.templates])

    def floats(self, name: str) -> Floats:
        """Return a column of all rows by its name in Template."""
        columns = [getattr(template, name) for template in self.templates]
        entry = self._entries(columns).entry
        values: Floats = flat(columns, np.float64)[entry]
        return values

    def actions(self) -> SlotActions:
        """Return the actions of all slots."""
        kinds = [template.kinds for template in self.templates]
        slot, entry = self._entries(kinds)
        # A template counts its actions from 0; the first one of a slot has this number among all.
        first_action = starts(np.bincount(slot, minlength=len(self.template)))
        of_row = self.ints("action") + first_action[self.slot]
        names = [kind for template_kinds in kinds for kind in template_kinds]
        return SlotActions(of_row, slot, [names[number] for number in entry.tolist()])

    def waits(self) -> Waits:
        """Return the waits within templates."""
        rows = [template.wait_row for template in self.templates]
        others = [template.wait_on for template in self.templates]
        slot, entry = self._entries(rows)
        # Rows are numbered within their template: in the program they begin where the slot does.
        first = self.first_row[slot]  # [wait]
        row = flat(rows)[entry]
        on = flat(others)[entry]
        return Waits(first + row, first + on)

    def inputs(self, sources: Ints) -> Waits:
        """Return the waits for what other slots hand over.

        sources: slots that make what each slot takes [slot, Handed].
        """
        rows = [template.input_row for template in self.templates]
        kinds = [template.input_kind for template in self.templates]
        slot, entry = self._entries(rows)
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
        slot, entry = self._entries(columns)
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

    def _entries(self, columns: Sequence[Sequence[object]]) -> Entries:
        """Return the entries at all slots. columns: a list of each template."""
        return spread(lengths(columns), self.template)
