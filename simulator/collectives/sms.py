"""SMs work both ways: an exchange is as fast as its links, and as its SMs copy tokens.

Fewer SMs leave more to GEMMs and copy less; from some number on the links bind.
"""

from __future__ import annotations

from typing import NamedTuple

from simulator.collectives.demand import Demand
from simulator.collectives.paths import Floats
from simulator.collectives.replicas import Demands
from simulator.hardware import CommunicationModel
from simulator.topology import Network


class SmWork(NamedTuple):
    """What the SMs of the busiest GPU of an exchange have to do."""

    sms: int
    """SMs that the kernel gets."""
    enough: int
    """SMs with which a kernel reaches its rate that was not measured over them; 0: needs none."""
    tokens: float
    """Tokens of each GPU."""
    token: float
    """Size of a token [B]."""
    copies: float
    """Copies that the SMs make of a token."""
    across: bool
    """Whether the group spans nodes."""


class Alone(NamedTuple):
    """How long an exchange takes alone at its kernel's rates."""

    latency: float
    """Of its rounds [s]."""
    seconds: float
    """With the transfer [s]."""

    @classmethod
    def of(cls, network: Network, asked: Demand, kernel: CommunicationModel) -> Alone:
        """Return the time of a demand."""
        return cls(asked.latency, asked.seconds(network, kernel))


class Limited(NamedTuple):
    """A kernel with the SMs that it gets."""

    kernel: CommunicationModel
    """Rates that its SMs allow, with the time to fill in its setup."""
    share: float
    """Of the rate that it reaches with SMs enough."""


def limited(alone: Alone, kernel: CommunicationModel, work: SmWork) -> Limited:
    """Return a kernel as its SMs let it run an exchange. alone: the whole exchange."""
    if kernel.own_part:  # each GPU copies its own part besides, which no link sees
        own = work.tokens * work.token / kernel.own_part
        kernel = kernel.model_copy(update={"setup": kernel.setup + own, "own_part": 0.0})
    sending = alone.seconds - alone.latency
    extra = 0.0
    if kernel.hidden or kernel.ramp is not None:
        extra = kernel.waiting(alone.latency, sending) - alone.latency
    if extra:
        # It depends on bytes, which are known here: whoever resolves rounds must not add it again.
        held = {"setup": kernel.setup + extra, "hidden": 0.0, "ramp": None}
        kernel = kernel.model_copy(update=held)
    if kernel.copies is None:
        # NCCL takes as few CTAs as reach the links' rate, which one CTA's rate bounds
        # (NVIDIA/nccl issue 689): fewer reach their share of it.
        share = min(1.0, work.sms / work.enough) if work.enough else 1.0
        return Limited(at_rate(kernel, share), share)
    part = kernel.copies.across if work.across else kernel.copies.inside
    copied = work.tokens * work.copies * (work.token + part.overhead)
    copying = copied / (part.sm * work.sms)
    share = min(1.0, sending / copying) if sending else 1.0
    filled = {"setup": kernel.setup + part.filling(work.token), "copies": None}
    return Limited(at_rate(kernel.model_copy(update=filled), share), share)


def exposed(network: Network, asked: Demand, kernel: CommunicationModel) -> float:
    """Return what a collective takes besides its transfer and its setup [s]."""
    if not kernel.hidden and kernel.ramp is None:
        return asked.latency
    transfer = asked.seconds(network, kernel) - asked.latency
    return kernel.waiting(asked.latency, transfer)


def exposed_each(network: Network, asked: Demands, kernel: CommunicationModel) -> Floats:
    """Return what a collective takes in each group besides its transfer and its setup [group] s."""
    if not kernel.hidden and kernel.ramp is None:
        return asked.latency
    transfer = asked.seconds(network, kernel) - asked.latency  # [group] s
    return kernel.waiting_each(asked.latency, transfer)


def at_rate(kernel: CommunicationModel, rate: float) -> CommunicationModel:
    """Return a kernel that reaches a share of its rates."""
    if rate == 1.0:
        return kernel
    slower = {"nic": kernel.nic * rate, "nvlink": kernel.nvlink * rate}
    return kernel.model_copy(update=slower)
