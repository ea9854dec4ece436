"""The rows of one action, as columns, and how a phase with its transfers becomes rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from simulator.costs import BlockCost, Busy, Hop, Hosts, Join, Segment
from simulator.ops import LATE, Phase
from simulator.ops.streams import Stream

After: TypeAlias = tuple[int, ...]
"""Rows that something waits for, or inputs that another action hands over."""

FORWARD_INPUT, GRADIENT_INPUT = -1, -2
"""Of `After`: what another action hands over, until the program knows which row that is."""

_LABELS = {
    Phase.ATTENTION_F: "attn(F)",
    Phase.MLP_F: "mlp(F)",
    Phase.MLP_B: "mlp(B)",
    Phase.MLP_W: "mlp(W)",
    Phase.SIDE_W: "side(W)",
    Phase.ATTENTION_B: "attn(B)",
    Phase.ATTENTION_T: "attn(B)",
    Phase.ATTENTION_W: "attn(W)",
}


class Mark(NamedTuple):
    """A block of the model, in the forward or in the backward pass."""

    direction: str
    """F or B."""
    stage: int
    """Stage that holds the block."""
    number: int
    """Of the block on its stage."""


class Call(NamedTuple):
    """Which transfer a row takes part in; of kernels the kind is empty."""

    kind: str
    """Kind of coflow, as `program.coflows` names it."""
    which: int
    """Load of an exchange, bytes of a collective inside a layer."""


NO_CALL = Call("", 0)


class TokenExchange(NamedTuple):
    """An exchange of tokens between GPUs and their experts."""

    kind: str
    """Kind of coflow, as `program.coflows` names it."""
    label: str
    """What it is in the pass that it belongs to."""


DISPATCH_F = TokenExchange("dispatch", "dispatch(F)")
COMBINE_F = TokenExchange("combine", "combine(F)")
# The gradient of combine is a dispatch over the layout of the forward pass, that of dispatch a
# combine.
COMBINE_B = TokenExchange("cached_dispatch", "combine(B)")
DISPATCH_B = TokenExchange("combine", "dispatch(B)")


@dataclass(frozen=True, slots=True)
class Done:
    """What waits for a phase, and for which of its rows."""

    kernels: After
    """The phase's last kernels."""
    gathered: After = ()
    """Transfers that weight gradients wait for too."""
    late: After = ()
    """Transfers that only what uses the phase's output waits for."""

    @property
    def output(self) -> After:
        """Return what a reader of the phase's output waits for."""
        return (*self.kernels, *self.gathered, *self.late)

    @property
    def saved(self) -> After:
        """Return what weight gradients wait for."""
        return (*self.kernels, *self.gathered)


@dataclass(slots=True)
class Chunk:
    """The rows of one action, as columns, in the order in which they are launched."""

    hosts: Hosts
    """What launches them."""
    stream: list[Stream] = field(default_factory=list)
    """A Stream [row]."""
    label: list[str] = field(default_factory=list)
    """What traces call it [row]."""
    busy: list[Busy] = field(default_factory=list)
    """What it keeps busy [row]."""
    exchange: list[Call] = field(default_factory=list)
    """Which transfer it takes part in [row]."""
    after: list[After] = field(default_factory=list)
    """What it waits for besides the order of its stream [row]."""
    latest: dict[Stream, int] = field(default_factory=dict)
    """Stream -> its last row."""
    forward_out: After = (FORWARD_INPUT,)
    """Rows that make the output of the forward pass, so far."""
    gradient_out: After = (GRADIENT_INPUT,)
    """Rows that make the gradient of the action's input, so far."""
    begins: dict[Mark, int] = field(default_factory=dict)
    """Block -> the first row that needs its parameters."""
    ends: dict[Mark, After] = field(default_factory=dict)
    """Block -> the rows after which its gradients are there."""
    classes: dict[str, float] = field(default_factory=dict)
    """Class of op -> time of kernels on a GPU of mean load [s]."""
    flops: dict[str, float] = field(default_factory=dict)
    """Dtype -> executed FLOPs of a GPU of mean load."""
    recomputed: float = 0.0
    """Of those FLOPs, what the forward pass ran before."""

    def add(
        self, stream: Stream, label: str, after: After, busy: Busy, call: Call = NO_CALL
    ) -> int:
        """Add a row; return its number."""
        row = len(self.stream)
        self.stream.append(stream)
        self.label.append(label)
        self.busy.append(busy)
        self.exchange.append(call)
        self.after.append(after)
        self.latest[stream] = row
        return row

    def last_kernels(self) -> After:
        """Return the last rows on the compute and the side stream."""
        streams = (Stream.COMPUTE, Stream.SIDE)
        return tuple(self.latest[stream] for stream in streams if stream in self.latest)

    def compute(
        self,
        block: BlockCost,
        phase: Phase,
        after: After,
        *,
        late: After = (),
    ) -> Done:
        """Add a phase with its transfers; return what waits for it.

        That is `after` where the block has no such phase. late: transfers that an earlier phase
        left on their way.
        """
        # Rows take as long as on the busiest GPU of an expert group, which all its members wait
        # for; the sums are those of a GPU of mean load.
        mean = (block.mean or block).phases[phase]
        mean_segments = iter(mean.segments)
        layer = _PhaseRows(self, phase, after)
        for item in block.phases[phase].items:
            if isinstance(item, Hop):
                layer.transfer(item)
            elif isinstance(item, Join):
                layer.after = (*layer.after, *late)
            else:
                self._count(item, next(mean_segments))
                layer.kernels(
                    Busy(item.total, item.launches, sensitivity=item.sensitivity),
                )
        return layer.done()

    def _count(self, busiest: Segment, mean: Segment) -> None:
        """Add a segment to the sums.

        What the busiest GPU of an expert group takes beyond a mean one, the mean one waits.
        """
        # Where every GPU has a load of its own, that may be less than the mean. More rows may also
        # take less time, where they fill waves better: time and work are compared apart.
        shorter = mean if mean.total < busiest.total else busiest
        for name, seconds in shorter.seconds.items():
            self.classes[name] = self.classes.get(name, 0.0) + seconds
        waiting = self.classes.get("expert_waiting", 0.0)
        self.classes["expert_waiting"] = waiting + (busiest.total - shorter.total)
        fewer = min(mean, busiest, key=lambda segment: sum(segment.flops.values()))
        for dtype, flops in fewer.flops.items():
            self.flops[dtype] = self.flops.get(dtype, 0.0) + flops
        self.recomputed += fewer.recomputed

    def exchange_tokens(self, block: BlockCost, exchange: TokenExchange, after: After) -> After:
        """Add dispatch or combine; return its row, or `after` where the block has no experts."""
        if not block.exchanges_experts:
            return after
        call = Call(exchange.kind, block.load)
        busy = self.hosts.exchange(counts=exchange == DISPATCH_F)
        return (self.add(Stream.COMMUNICATION, exchange.label, after, busy, call),)


class _InFlight(NamedTuple):
    """A transfer on its way."""

    row: int
    """Its row."""
    concurrent: int
    """How many more segments of kernels do not wait for it."""


@dataclass(slots=True)
class _PhaseRows:
    """Lays down a phase: kernels in order, and the transfers that they wait for or overlap."""

    chunk: Chunk
    """Takes the rows."""
    phase: Phase
    """Says what the kernels are called and which stream they run on."""
    after: After
    """What the next row waits for."""
    in_flight: list[_InFlight] = field(default_factory=list)
    """Transfers that some of the next kernels do not wait for."""
    late: list[int] = field(default_factory=list)
    """Transfers that no kernel of the phase waits for."""

    def _due(self) -> list[int]:
        """Return the transfers in flight that the next row waits for."""
        return [transfer.row for transfer in self.in_flight if not transfer.concurrent]

    def kernels(self, busy: Busy) -> None:
        if not busy.seconds:
            return
        # Half of the experts' weight gradients run next to the compute stream's kernels.
        stream = Stream.SIDE if self.phase == Phase.SIDE_W else Stream.COMPUTE
        after = (*self.after, *self._due())
        row = self.chunk.add(stream, _LABELS[self.phase], after, busy)
        # What this segment has waited for is done; the others are one segment nearer to it.
        self.in_flight = [
            _InFlight(transfer.row, transfer.concurrent - 1)
            for transfer in self.in_flight
            if transfer.concurrent
        ]
        self.after = (row,)

    def transfer(self, hop: Hop) -> None:
        moved = hop.transfer
        call = Call(moved.group, round(moved.bytes))
        after = (*self.after, *self._due())
        busy = self.chunk.hosts.transfer(self.phase)
        row = self.chunk.add(Stream.TENSOR, moved.name, after, busy, call)
        if hop.concurrent == LATE:
            self.late.append(row)
        elif hop.concurrent:
            self.in_flight.append(_InFlight(row, hop.concurrent))
        else:
            self.after = (row,)

    def done(self) -> Done:
        gathered = tuple(transfer.row for transfer in self.in_flight)
        return Done(self.after, gathered, tuple(self.late))
