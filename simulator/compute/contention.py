"""How fast kernels run next to transfers, which hold SMs and take HBM bandwidth.

One rule for all pairs of kernel and transfer. On the share of a resource that is left, work that is
bound by it takes 1 / (1 - share) of its time, share / (1 - share) more; a kernel feels as much of
that as it is bound by the resource. The power limit has no term of its own: the sensitivities
follow from measurements next to transfers, at the clock that both left.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from simulator import inputs
from simulator.hardware import ContentionLimit


@lru_cache(maxsize=1)  # data of the package: it is the same whoever asks first
def most() -> float:
    """Return the share of a resource that transfers get at most."""
    return inputs.validate(inputs.data("contention", "limit"), ContentionLimit).most


class Sensitivity(NamedTuple):
    """How much of what transfers take is missing to kernels; sums of those of kernels in time."""

    sms: float = 0.0
    """To SMs: 1 of work that keeps all SMs busy, more where a last wave of tiles is added."""
    hbm: float = 0.0
    """To HBM bandwidth: 1 of work that is bound by it."""
    both: float = 0.0
    """The product of both."""

    def plus(self, other: Sensitivity, seconds: float) -> Sensitivity:
        """Add that of a kernel, times its time [s]."""
        return Sensitivity(
            self.sms + other.sms * seconds,
            self.hbm + other.hbm * seconds,
            self.both + other.both * seconds,
        )

    def mean(self, seconds: float) -> Sensitivity:
        """Return the mean over a time, of a sum over its kernels. seconds: of all of them [s]."""
        if not seconds:
            return INSENSITIVE
        return Sensitivity(self.sms / seconds, self.hbm / seconds, self.both / seconds)


INSENSITIVE = Sensitivity()
"""Of what transfers do not slow."""


def sensitivity(sms: float, hbm: float) -> Sensitivity:
    """Return that of one kernel."""
    return Sensitivity(sms, hbm, sms * hbm)


def speed(kernels: Sensitivity, held: float, taken: float) -> float:
    """Return the speed of kernels next to transfers, relative to their speed alone: 1 alone, to the last bit.

    held: share of the SMs that transfers hold. taken: share of HBM's bandwidth that they take.
    """
    return speed_within(kernels, held, taken, most())


def speed_within(kernels: Any, held: float, taken: float, limit: float) -> float:
    """Return the same; transfers get at most `limit` of either.

    Both executors call it, the compiled one with a record that has the fields of a Sensitivity.
    """
    held = min(held, limit)
    taken = min(taken, limit)
    fewer = held / (1.0 - held)
    slower = taken / (1.0 - taken)
    lost = kernels.sms * fewer + kernels.hbm * slower + kernels.both * fewer * slower
    return float(1.0 / (1.0 + lost))
