"""What the kernels of exchanges take, in many groups under many loads at once."""

from __future__ import annotations

from collections.abc import Iterator
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
    """Exchanges under one load in some groups, in which the kernel takes equally long."""

    groups: Links
    """Which of the groups [group]."""
    demands: Demands
    """Bytes on links, and the latency of the rounds of each."""
    kernel: CommunicationModel
    """Rates that its SMs allow, and start."""
    sm_share: float
    """Of the rates that it reaches with SMs enough."""


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
    known: dict[CommunicationModel, dict[Asked, Limited]]
    """What was found: stages that mirror each other have layers of the same loads."""

    def priced(self, asked: Demands, batches: Batches) -> Iterator[list[Exchanges]]:
        """Yield the exchanges under each load. asked: the whole exchanges, a size per load."""
        kernel, ranks = batches.kernel, batches.groups.shape[1]
        seconds = asked.seconds(batches.network, kernel)  # [load, group]
        # Groups that lie alike take equally long, by one kernel. Of a cluster with faults some do.
        times = np.stack([np.broadcast_to(asked.latency, seconds.shape), seconds], axis=-1)
        alike = bool((times == times[:, :1]).all())
        across = batches.loads[0].ep_nodes > 1
        start = kernel.started(ranks, across=across, cast_bytes=self.tokens.cast)
        kernels = Kernels(start, self.known.setdefault(start, {}))
        for number, load in enumerate(batches.loads):
            work = self._work(load, across=across)
            demands = asked.of_size(number)
            if alike:
                runs = kernels.limited(Alone(*times[number, 0].tolist()), work)
                yield [Exchanges(self.groups, demands, runs.kernel, runs.share)]
            else:
                yield list(self._apart(times[number], demands, kernels, work))

    def _apart(
        self, times: Floats, demands: Demands, kernels: Kernels, work: SmWork
    ) -> Iterator[Exchanges]:
        """Yield sets of groups of equal times. times: latency and seconds [group, 2]."""
        each = demands.each()
        different, number = np.unique(times, axis=0, return_inverse=True)
        for index, alone in enumerate(different.tolist()):
            some = np.flatnonzero(number == index)
            runs = kernels.limited(Alone(*alone), work)
            of_these = Demands.of([each[group] for group in some.tolist()])
            yield Exchanges(self.groups[some], of_these, runs.kernel, runs.share)

    def _work(self, load: Load, *, across: bool) -> SmWork:
        return SmWork(
            sms=self.sms,
            enough=self.dispatcher.sms,
            tokens=self.tokens.tokens,
            token=self.tokens.size / self.tokens.tokens,
            copies=self.dispatcher.copied(load),
            across=across,
        )
