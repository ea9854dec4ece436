"""What the kernels of exchanges take, in many groups under many loads at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from simulator.collectives.batch import Batches
from simulator.collectives.dispatchers import Dispatcher
from simulator.collectives.paths import Floats, Links
from simulator.collectives.replicas import Demands
from simulator.collectives.sms import Alone, Limited, SmWork, limited
from simulator.experts import Load
from simulator.hardware import CommunicationModel


class Tokens(NamedTuple):
    """What each GPU exchanges."""

    size: float
    """Of all tokens, each once, headers included [B]."""
    tokens: float
    """How many these are."""
    cast: float
    """What a cast before the exchange reads and writes [B]."""


class Asked(NamedTuple):
    """What tells exchanges apart that one kernel runs."""

    alone: Alone
    """How long it takes at the kernel's rates."""
    work: SmWork
    """What SMs have to do."""


class Kernels(NamedTuple):
    """A kernel as SMs limit it."""

    start: CommunicationModel
    """With what precedes it in its setup."""
    known: dict[Asked, Limited]
    """What was found."""

    def limited(self, alone: Alone, work: SmWork) -> Limited:
        """Return the kernel that runs an exchange."""
        key = Asked(alone, work)
        if key not in self.known:
            self.known[key] = limited(alone, self.start, work)
        return self.known[key]


@dataclass(frozen=True, slots=True)
class Exchanges:
    """Exchanges under some loads in some groups, in all of which a load's kernel takes equally long."""

    groups: Links
    """Which of the groups [group]."""
    loads: Sequence[int]
    """Which of the loads [load]."""
    demands: Demands
    """Bytes on links, a size per load, and the latency of the rounds of each."""
    runs: Sequence[Limited]
    """Kernel under each load, with the rates that its SMs allow, and start [load]."""


class Work(NamedTuple):
    """What a kernel has to do under one load."""

    kernels: Kernels
    """The kernel."""
    work: SmWork
    """What its SMs have to do."""


@dataclass(frozen=True, slots=True)
class Running:
    """What runs the exchanges of some groups."""

    dispatcher: Dispatcher
    """Brings the tokens."""
    sms: int
    """SMs that dispatch and combine get."""
    tokens: Tokens
    """Of each GPU."""
    groups: Links
    """Which of the groups [group]."""
    loads: Sequence[int]
    """Which of the loads [load]."""
    known: dict[CommunicationModel, dict[Asked, Limited]]
    """What was found: stages that mirror each other have layers of the same loads."""

    def priced(self, asked: Demands, batches: Batches) -> list[Exchanges]:
        """Return the exchanges under all loads. asked: the whole exchanges, a size per load."""
        kernel, ranks = batches.kernel, batches.groups.shape[1]
        seconds = asked.seconds(batches.network, kernel)  # [load, group]
        times = np.stack([np.broadcast_to(asked.latency, seconds.shape), seconds], axis=-1)
        across = batches.loads[0].ep_nodes > 1
        works = [self._work(load, across=across) for load in batches.loads]
        start = kernel.started(ranks, across=across, cast_bytes=self.tokens.cast)
        kernels = Kernels(start, self.known.setdefault(start, {}))
        # Groups that lie alike take equally long, by one kernel. Of a cluster with faults some do.
        if (times == times[:, :1]).all():
            alone = itertools.starmap(Alone, times[:, 0].tolist())
            runs = [kernels.limited(*each) for each in zip(alone, works, strict=True)]
            return [Exchanges(self.groups, self.loads, asked, runs)]
        found: list[Exchanges] = []
        for place, work in enumerate(works):
            found += self._apart(place, asked, times[place], Work(kernels, work))
        return found

    def _apart(self, place: int, asked: Demands, times: Floats, work: Work) -> Iterator[Exchanges]:
        """Yield sets of groups of equal times under one load.

        place: of the load. times: latency and seconds [group, 2].
        """
        each = asked.of_size(place).each()
        different, number = np.unique(times, axis=0, return_inverse=True)
        for index, alone in enumerate(different.tolist()):
            some = np.flatnonzero(number == index)
            of_these = Demands.of([each[group] for group in some.tolist()]).beside()
            runs = [work.kernels.limited(Alone(*alone), work.work)]
            yield Exchanges(self.groups[some], self.loads[place : place + 1], of_these, runs)

    def _work(self, load: Load, *, across: bool) -> SmWork:
        return SmWork(
            sms=self.sms,
            enough=self.dispatcher.sms,
            tokens=self.tokens.tokens,
            token=self.tokens.size / self.tokens.tokens,
            copies=self.dispatcher.copied(load),
            across=across,
        )
