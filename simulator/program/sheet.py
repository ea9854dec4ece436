"""The rows of all templates as columns, one template behind another.

A template is the rows of an action, which are arrays already, and a few rows added among them: each
column takes those of all actions at once, then what is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.costs import Busy, Hosts
from simulator.costs.columns import TIMINGS, Timing, joined, timing
from simulator.program.chunk_columns import NO_ROWS
from simulator.program.chunk_rows import launched
from simulator.program.program import Floats, Ints
from simulator.program.ragged import flat, lengths, starts
from simulator.program.ragged import joined as joined_ints
from simulator.program.step_columns import StepColumns, lags
from simulator.program.templates import Template, Use

_NO_USE = Use(-1, NO_ROWS, (-1, -1), (0, 0, 0), ())
"""Of templates that no action is in."""


class Pairs(NamedTuple):
    """Waits within templates; rows are numbered within theirs."""

    counts: Ints
    """How many each template has [template]."""
    row: Ints
    """Row that waits [wait]."""
    on: Ints
    """Row that it waits for [wait]."""


class Labels(NamedTuple):
    """Names of rows."""

    names: tuple[str, ...]
    """Different names."""
    number: Ints
    """Index into names [row]."""


class Kept(NamedTuple):
    """What rows keep busy."""

    timing: Floats
    """At the speed of their GPU [TIMINGS, row]."""
    lag: Floats
    """When the last kernel ends, see `Program.lag` [row] s."""
    drains: NDArray[np.bool_]
    """Whether the host waits for what the row waits for before it launches it [row]."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """All templates, and where their rows stand among those of all."""

    templates: Sequence[Template]
    """The templates."""
    uses: Sequence[Use]
    """The action in each [template]."""
    first: Ints
    """Where the rows of each begin, and the number of all [template + 1]."""
    template: Ints
    """Which template an action's row is in [action's row]."""
    place: Ints
    """Where it stands in it [action's row]."""
    added: Ints
    """Where an added row stands among all rows [added]."""

    @classmethod
    def of(cls, templates: Sequence[Template]) -> Sheet:
        """Return the sheet of templates."""
        first = starts(np.array([template.length for template in templates], dtype=np.int64))
        place = [template.place for template in templates]
        added = [template.added for template in templates]
        return cls(
            templates=templates,
            uses=[template.use or _NO_USE for template in templates],
            first=first,
            template=_owners(place),
            place=flat(place),
            added=flat(added) + first[_owners(added)],
        )

    @property
    def counts(self) -> Ints:
        """Return the number of rows of each template [template]."""
        return np.diff(self.first)

    def stream(self) -> Ints:
        """Return the Stream of each row [row]."""
        own = joined_ints([use.rows.stream for use in self.uses])
        return self._column(own, flat([template.stream for template in self.templates]))

    def action(self) -> Ints:
        """Return the index of each row into the kinds of its template [row]."""
        own = np.array([template.own_action for template in self.templates], dtype=np.int64)
        added = flat([template.action for template in self.templates])
        return self._column(own[self.template], added)

    def labels(self) -> Labels:
        """Return the labels."""
        names = [*chain.from_iterable(use.rows.names for use in self.uses)]
        added = [*chain.from_iterable(template.label for template in self.templates)]
        code = {name: number for number, name in enumerate(dict.fromkeys((*names, *added)))}
        first = starts(lengths([use.rows.names for use in self.uses]))  # [template]
        label = joined_ints([use.rows.label for use in self.uses])  # [action's row] within its use
        own = _ints([code[name] for name in names])[first[self.template] + label]
        return Labels(tuple(code), self._column(own, _ints([code[name] for name in added])))

    def coflow(self) -> Ints:
        """Return the number of each row's coflow in the whole cluster's table, -1 of kernels [row]."""
        calls = [template.calls for template in self.templates]
        first = starts(lengths(calls))  # [template]
        call = joined_ints([use.rows.call for use in self.uses])  # [action's row] within its use
        # The -1 behind the last is that of kernels.
        number = np.where(call < 0, -1, first[self.template] + call)
        own = np.append(flat(calls), -1)[number]
        return self._column(own, flat([template.coflow for template in self.templates]))

    def waits(self) -> tuple[Pairs, Pairs]:
        """Return the waits of actions' rows for each other, and the others."""
        waiting = [use.rows.waiting for use in self.uses]
        on = joined_ints([use.rows.waited_for for use in self.uses])
        counts = lengths(waiting)
        # Rows of an action stand where the template has put them.
        first = starts(lengths([template.place for template in self.templates]))[:-1]
        begins = np.repeat(first, counts)  # [wait]
        row = self.place[begins + joined_ints(waiting)]
        own = Pairs(counts, row, self.place[begins + on])
        rows = [template.wait_row for template in self.templates]
        others = [template.wait_on for template in self.templates]
        return own, Pairs(lengths(rows), flat(rows), flat(others))

    def kept(self, columns: StepColumns, hosts: Hosts) -> Kept:
        """Return what rows keep busy. columns: of the step's blocks. hosts: what launches transfers."""
        # Behind the segments of blocks stands what hosts launch: transfers in actions, added rows.
        added = [*chain.from_iterable(template.busy for template in self.templates)]
        code = {busy: number for number, busy in enumerate(dict.fromkeys(added))}
        others: list[Busy] = [*launched(hosts), *code]
        behind = columns.segments + len(others) - len(code)
        first = np.array([use.first for use in self.uses], dtype=np.int64)  # [template, Source]
        first[:, 0] = columns.segments
        source = joined_ints([use.rows.busy.source for use in self.uses])
        number = joined_ints([use.rows.busy.number for use in self.uses])
        own = first[self.template, source] + number
        row = self._column(own, behind + _ints([code[busy] for busy in added]))
        whole = joined([columns.timing(), timing(others)])
        speed = np.repeat([template.speed for template in self.templates], self.counts)
        return self._at_speed(whole, row, speed, self._drains(columns.segments, others, row))

    def _drains(self, segments: int, others: Sequence[Busy], row: Ints) -> NDArray[np.bool_]:
        """Return which rows' hosts wait. row: see `lags`."""
        kept = np.zeros(segments + len(others), dtype=bool)
        kept[segments:] = [busy.drains for busy in others]
        drains = kept[row]
        drained = [template.drained for template in self.templates]
        drains[self.first[_owners(drained)] + flat(drained)] = True
        return drains

    def _at_speed(self, whole: Timing, row: Ints, speed: Floats, drains: NDArray[np.bool_]) -> Kept:
        columns = whole.columns.take(row, axis=1)
        columns[TIMINGS.index("seconds")] /= speed
        return Kept(columns, lags(whole, row, speed), drains)

    def _column(self, own: Ints, added: Ints) -> Ints:
        """Return a column of all rows from those of actions' rows and of added ones."""
        column = np.empty(self.first[-1], dtype=np.int64)
        column[self.first[self.template] + self.place] = own
        column[self.added] = added
        return column


def _owners(lists: Sequence[Sequence[int]]) -> Ints:
    """Return which list each entry is in [entry]."""
    return np.repeat(np.arange(len(lists)), lengths(lists))


def _ints(values: Sequence[int]) -> Ints:
    return np.array(values, dtype=np.int64)
