"""The rows of one action, as columns, and how a phase with its transfers becomes rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from simulator.costs import BlockCost, Busy, Hop, Hosts, Join
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
    """Stage that holds the block; in a `Chunk`, which half of the action runs it."""
    number: int
    """Of the block on its stage."""


class Call(NamedTuple):
    """Which transfer a row takes part in; of kernels the kind is empty."""

    kind: str
    """Kind of coflow, as `program.coflows` names it."""
    size: int = 0
    """Bytes of a collective inside a layer."""
    block: int = -1
    """Block of the action whose load an exchange carries, -1 of other collectives."""


NO_CALL = Call("")


class Block(NamedTuple):
    """A block of an action, or one part of an MTP module."""

    half: int
    """Of the action: 1 of the backward half of a pair, else 0."""
    number: int
    """Of the model's block on that stage."""
    is_layer: bool
    """Whether it is neither embedding nor head."""
    cost: BlockCost
    """What it costs."""
    place: int = 0
    """Among the blocks of the action."""
    segment: int = 0
    """Its first one among the segments of the action's blocks."""

    def mark(self, direction: str) -> Mark:
        """Return the block's parameters in a pass. direction: F or B."""
        return Mark(direction, self.half, self.number)


LAUNCHED = (*Phase, "exchange", "counts")
"""How hosts launch transfers: those inside each phase, exchanges, exchanges that ask for token counts."""


def launched(hosts: Hosts) -> list[Busy]:
    """Return what transfers keep busy [LAUNCHED]."""
    inside = [hosts.transfer(phase) for phase in Phase]
    return [*inside, hosts.exchange(counts=False), hosts.exchange(counts=True)]


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


class Recomputed(NamedTuple):
    """Segments that repeat a forward pass."""

    begin: int
    """The first of them, among all that an action runs in their order."""
    end: int
    """Behind the last."""


@dataclass(slots=True)
class Chunk:
    """The rows of one action, as columns, in the order in which they are launched.

    What they take is not among them: rows of every load, and of every micro-batch, are the same.
    """

    stream: list[Stream] = field(default_factory=list)
    """A Stream [row]."""
    label: list[str] = field(default_factory=list)
    """What traces call it [row]."""
    segment: list[int] = field(default_factory=list)
    """Of kernels which segment of the action's blocks; -1 - index into LAUNCHED of transfers [row]."""
    call: list[Call] = field(default_factory=list)
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
    counted: list[int] = field(default_factory=list)
    """Every segment that runs, those that take no time too, in order."""
    classes: dict[str, None] = field(default_factory=dict)
    """Classes of the ops of these, in order."""
    dtypes: dict[str, None] = field(default_factory=dict)
    """Dtypes in which they multiply, in order."""
    recomputed: list[Recomputed] = field(default_factory=list)
    """Runs of them that repeat the forward pass."""

    def add(
        self, stream: Stream, label: str, after: After, segment: int, call: Call = NO_CALL
    ) -> int:
        """Add a row; return its number."""
        row = len(self.stream)
        self.stream.append(stream)
        self.label.append(label)
        self.segment.append(segment)
        self.call.append(call)
        self.after.append(after)
        self.latest[stream] = row
        return row

    def last_kernels(self) -> After:
        """Return the last rows on the compute and the side stream."""
        streams = (Stream.COMPUTE, Stream.SIDE)
        return tuple(self.latest[stream] for stream in streams if stream in self.latest)

    def compute(
        self,
        block: Block,
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
        layer = _PhaseRows(self, phase, after)
        cost = block.cost.phases[phase]
        first = block.cost.columns.first[phase]
        runs = enumerate(cost.runs)
        for item in cost.items:
            if isinstance(item, Hop):
                layer.transfer(item)
            elif isinstance(item, Join):
                layer.after = (*layer.after, *late)
            else:
                number, takes_time = next(runs)
                self._count(block, first + number)
                if takes_time:
                    layer.kernels(block.segment + first + number)
        return layer.done()

    def _count(self, block: Block, number: int) -> None:
        """Add a segment of a block to those that run."""
        self.counted.append(block.segment + number)
        added = block.cost.columns.counted[number]
        self.classes.update(dict.fromkeys(added.seconds))
        self.dtypes.update(dict.fromkeys(added.flops))

    def exchange_tokens(self, block: Block, exchange: TokenExchange, after: After) -> After:
        """Add dispatch or combine; return its row, or `after` where the block has no experts."""
        if not block.cost.exchanges_experts:
            return after
        call = Call(exchange.kind, block=block.place)
        how = LAUNCHED.index("counts" if exchange == DISPATCH_F else "exchange")
        return (self.add(Stream.COMMUNICATION, exchange.label, after, -1 - how, call),)


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

    def kernels(self, segment: int) -> None:
        # Half of the experts' weight gradients run next to the compute stream's kernels.
        stream = Stream.SIDE if self.phase == Phase.SIDE_W else Stream.COMPUTE
        after = (*self.after, *self._due())
        row = self.chunk.add(stream, _LABELS[self.phase], after, segment)
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
        how = LAUNCHED.index(self.phase)
        row = self.chunk.add(Stream.TENSOR, moved.name, after, -1 - how, call)
        if hop.concurrent == LATE:
            self.late.append(row)
        elif hop.concurrent:
            self.in_flight.append(_InFlight(row, hop.concurrent))
        else:
            self.after = (row,)

    def done(self) -> Done:
        gathered = tuple(transfer.row for transfer in self.in_flight)
        return Done(self.after, gathered, tuple(self.late))
