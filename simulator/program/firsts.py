"""The first coflow of each class, which stands for it: how long its own links hold it up alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.collectives.paths import of_kind
from simulator.hardware import CommunicationModel
from simulator.program.coflows import Coflows
from simulator.program.program import Floats, Ints
from simulator.program.ragged import spread
from simulator.program.transfers import Block
from simulator.topology import LinkKind, Network


class Slowest(NamedTuple):
    """The slowest link of each coflow."""

    bytes: Floats
    """That it is busy for, kernel efficiency included [class] B."""
    rate: Floats
    """Its bandwidth [class] B/s."""


@dataclass(frozen=True)
class Firsts:
    """The coflows that stand for their classes, and their links as columns."""

    blocks: Sequence[Block]
    """What each does [class]."""
    owner: Ints
    """Class [entry]."""
    nvlink: NDArray[np.bool_]
    """Whether the link is of NVLink [entry]."""
    nic: NDArray[np.bool_]
    """Whether it is of a NIC [entry]."""
    capacity: Floats
    """Of the link [entry] B/s."""
    busy: Floats
    """Bytes over the share of the link's rate that the kernel reaches [entry] B."""

    @classmethod
    def of(cls, net: Network, table: Coflows, first: Ints) -> Firsts:
        """Return the coflows `first` [class] of a table."""
        columns = table.columns
        block = columns.block[first]  # [class]
        blocks = [columns.blocks[number] for number in block.tolist()]
        rows, number = np.unique(columns.row[first], return_inverse=True)
        lines = _Lines.of(net, table, rows)
        owner, line = spread(np.diff(lines.first), number)
        carried = columns.amounts[lines.which[line] + columns.to_amount[block][owner]]
        link = lines.link[line]
        nvlink = of_kind(net, LinkKind.NVLINK)[link]
        beyond = _of_kernels(blocks, lambda kernel: kernel.nic)
        inside = _of_kernels(blocks, lambda kernel: kernel.nvlink)
        busy = carried / np.where(nvlink, inside[owner], beyond[owner])
        nic = of_kind(net, LinkKind.NIC)[link]
        return cls(blocks, owner, nvlink, nic, net.capacity[link], busy)

    def kernels(self, value: Callable[[CommunicationModel], float]) -> Floats:
        """Return a value of each kernel [class]."""
        return _of_kernels(self.blocks, value)

    @cached_property
    def slowest(self) -> Slowest:
        """Return the slowest link of each, nothing within one GPU."""
        count = len(self.blocks)
        seconds = self.busy / self.capacity  # [entry]
        most = self._most(seconds)
        # The first of equals.
        slowest = np.flatnonzero(seconds == most[self.owner])[::-1]
        size, rate = np.zeros(count), np.ones(count)
        size[self.owner[slowest]] = self.busy[slowest]
        rate[self.owner[slowest]] = self.capacity[slowest]
        return Slowest(size, rate)

    def slowdown(self, alone: Floats) -> Floats:
        """Return how much longer each takes next to compute than alone on its own links [class].

        Next to compute the kernel has too few resources to move more than it did where it was
        measured. Where the links are slower than that by themselves, it waits for them anyway.
        alone: [class] s.
        """
        given = self.kernels(lambda kernel: kernel.overlap_slowdown)
        known = np.array(
            [block.kernel.measured_on is not None for block in self.blocks], dtype=bool
        )
        known &= alone > 0
        measured = np.zeros(len(self.blocks))  # of PCIe alone nothing is known
        for of_this, rate in (
            (self.nvlink, self.kernels(_measured_nvlink)),
            (self.nic, self.kernels(_measured_nic)),
        ):
            at = of_this & known[self.owner]
            measured = np.maximum(measured, self._there(at, rate))
        slower = given * measured / np.where(known, alone, 1.0)
        return np.where(known, np.maximum(1.0, slower), given)

    def _there(self, at: NDArray[np.bool_], rate: Floats) -> Floats:
        """Return the longest time on some links, were they as fast as where kernels were measured.

        at: whether a link counts [entry]. rate: of a link there [class] B/s. Returns [class] s.
        """
        owner = self.owner[at]
        share = np.array([block.sm_share for block in self.blocks])[owner]
        # SMs too few to fill a link fill more of a slower one.
        faster = np.maximum(1.0, self.capacity[at] / rate[owner])
        filled = np.minimum(1.0, share * faster)
        there = np.zeros(len(self.owner))
        there[at] = self.busy[at] * share / filled / rate[owner]
        return self._most(there)

    def _most(self, values: Floats) -> Floats:
        """Return the largest value of each class, 0 of one that crosses no link. values: [entry]."""
        most = np.zeros(len(self.blocks))
        np.maximum.at(most, self.owner, values)
        return most


class _Lines(NamedTuple):
    """One of the links of a row that are as fast and carry as much: a group has hundreds of them."""

    first: Ints
    """Where those of each row begin, and their number [row + 1]."""
    link: Ints
    """The first such link [line]."""
    which: Ints
    """Which amount crosses it, as in `Columns.which` [line]."""

    @classmethod
    def of(cls, net: Network, table: Coflows, rows: Ints) -> _Lines:
        """Return the links of some rows, each kind of them in the order of its first one."""
        columns = table.columns
        owner, entry = spread(np.diff(columns.first_link), rows)
        link, which = columns.links[entry], columns.which[entry]
        # Kind, speed and amount as one number.
        speeds, speed = np.unique(net.capacity, return_inverse=True)
        kinds = int(net.kind_code.max(initial=0)) + 1
        looks = (speed * kinds + net.kind_code)[link]  # [entry]
        amounts = int(columns.first_of_reach[-1])
        key = (owner * amounts + which) * (len(speeds) * kinds) + looks
        _, one = np.unique(key, return_index=True)
        one.sort()
        first = np.searchsorted(owner[one], np.arange(len(rows) + 1))
        return cls(first, link[one], which[one])


def _of_kernels(blocks: Sequence[Block], value: Callable[[CommunicationModel], float]) -> Floats:
    return np.array([value(block.kernel) for block in blocks], dtype=np.float64)


def _measured_nvlink(kernel: CommunicationModel) -> float:
    return kernel.measured_on.nvlink if kernel.measured_on else 1.0


def _measured_nic(kernel: CommunicationModel) -> float:
    return kernel.measured_on.nic if kernel.measured_on else 1.0
