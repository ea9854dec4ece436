"""Gathers and reductions of one action, laid among the rows of its blocks.

Where a row stands says when the host launches it: a stack that prefetches launches a block's gather
before the kernels of the block in front of it, others behind these. What it waits for says when it
may run, until a buffer is free: FSDP2 copies parameters out of one, others compute with what has
been gathered, and free it behind the block.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from simulator.program.chunk_rows import Mark
from simulator.program.data_parallel import DataParallel
from simulator.program.templates import Owed, Template, Use


@dataclass
class BlockTraffic:
    """What one action's blocks share with data parallel peers. Local state of `lower`."""

    data: DataParallel
    """Adds the rows."""
    template: Template
    """Takes them."""
    use: Use
    """The action."""
    syncs: bool
    """Whether the gradients that it completes are summed."""
    gathered: list[list[int]] = field(default_factory=list)
    """Rows that gather each block [block]."""
    freed: list[list[int]] = field(default_factory=list)
    """Rows behind which the buffer of an earlier gather is free [block]."""

    def __post_init__(self) -> None:
        rows, mark = self.use.rows, self.use.mark
        begins = rows.begins.items() if self.data.resharded else ()
        ends = rows.ends.items() if self.syncs else ()
        self.blocks = [mark(block) for block, _ in begins]
        self.at_begin = _by_row((mark(block), row) for block, row in begins)
        self.at_end = _by_row((mark(block), max(last, default=-1)) for block, last in ends)
        self.made = {mark(block): made for block, made in ends}

    def lay(self) -> None:
        """Add the action's own rows to the template, and what its blocks gather and reduce."""
        template, rows = self.template, self.use.rows.rows
        stops = sorted(self.at_begin.keys() | self.at_end.keys())
        for row in stops:
            if 0 <= row < rows:
                template.place_to(row)
                parameters = self._before(row)
                template.place_to(row + 1)
                template.wait(template.place[row], parameters)
                self._behind(row)
        template.place_to(rows)
        # Blocks without rows of their own.
        self._before(rows)
        self._behind(-1)

    def _before(self, row: int) -> list[int]:
        """Add what stands in front of a row of the action; return what that row waits for."""
        waits: list[int] = []
        for mark in self.at_begin.get(row, ()):
            waits += self._begin(mark)
        return waits

    def _behind(self, row: int) -> None:
        """Add what stands behind a row of the action."""
        for mark in self.at_end.get(row, ()):
            self._end(mark)

    def _begin(self, mark: Mark) -> list[int]:
        """Gather a block, unless that has been done ahead; return the rows that bring it."""
        number = len(self.freed)
        self._gather(number)
        whole = self.data.copy_out(self.template, mark, self.gathered[number])
        # Without copies a block frees its buffer when the next one begins.
        copied = whole if self.data.stack.copies_out else ()
        self.freed.append(list(copied) or self.template.place[-1:])
        if number + 1 < len(self.blocks) and self._prefetches(self.blocks[number + 1]):
            self._gather(number + 1)
        return whole

    def _prefetches(self, mark: Mark) -> bool:
        """Tell whether a block's gather is launched before the block in front of it."""
        stack = self.data.stack
        if mark.direction == "B":
            return stack.backward_prefetch
        experts = self.data.scenario.layout.ep > 1
        return stack.forward_prefetch == "always" or (
            stack.forward_prefetch == "with_experts" and experts
        )

    def _gather(self, number: int) -> None:
        """Gather a block, if nobody has."""
        if number < len(self.gathered):
            return
        mark = self.blocks[number]
        buffers = self.data.stack.buffers if mark.direction == "F" else 1
        due = self.freed[number - buffers] if number >= buffers else ()
        rows = []
        if not self._kept(mark):
            rows = self.data.collect(self.template, "all_gather", mark, due)
        self.gathered.append(rows)

    def _kept(self, mark: Mark) -> bool:
        """Tell whether a block has been whole since its forward pass."""
        kind = self.data.costs.stages[mark.stage][mark.number]
        return mark.direction == "B" and kind in self.data.stack.kept

    def _end(self, mark: Mark) -> None:
        """Sum the gradients of a block, or note that they are owed."""
        made = self.template.placed(self.made[mark])
        if self.data.config.overlap_grad_reduce:
            self.data.reduce(self.template, mark, made)
        else:
            self.template.owed.append(Owed(mark, made))


def _by_row(rows: Iterable[tuple[Mark, int]]) -> defaultdict[int, list[Mark]]:
    """Return row -> blocks, in their order."""
    found: defaultdict[int, list[Mark]] = defaultdict(list)
    for mark, row in rows:
        found[row].append(mark)
    return found
