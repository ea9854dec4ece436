"""The ops of one action on one rank, on streams, with what waits for what.

The order of an overlapped pair is the one that DeepSeek's published profile shows, layer pair by
layer pair:

    compute:        attn(F)     mlp(B)       mlp(W) mlp(F)   attn(B)  attn(W)
    communication:  combine(B)  dispatch(F)  dispatch(B)     combine(F)   combine(B) of the next pair with attn(W)
    side:                                    half of the experts' mlp(W)

`combine(B)`, the gradient of combine, is a dispatch over the layout of the forward pass;
`dispatch(B)` is a combine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest

from simulator.costs import BlockCost, Costs, Hop, PhaseKey, Segment
from simulator.ops import LATE, Phase
from simulator.ops.streams import Stream
from simulator.schedules import Action

COMPUTE, SIDE, COMMUNICATION, DATA, SEND, TENSOR, GRADIENT = Stream
STREAMS = tuple(stream.label for stream in Stream)

FORWARD_INPUT, GRADIENT_INPUT = -1, -2
"""Dependencies on what another action hands over, until the program knows which row that is."""

After = tuple[int, ...]
Mark = tuple[str, int, int]
"""(F or B, stage, block of that stage)"""


@dataclass(slots=True)
class Chunk:
    """Rows of one action, as columns.

    seconds: of compute rows [s]. exchange: (kind of communication or '', which of it). after: rows
    that a row waits for, besides its stream's order. forward_out/gradient_out: rows that make the
    outputs. begins: where a block's parameters are needed first; ends: the rows after which a
    block's gradients are there.
    """

    stream: list[int] = field(default_factory=list)
    label: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    exchange: list[tuple[str, int]] = field(default_factory=list)
    after: list[After] = field(default_factory=list)
    forward_out: After = (FORWARD_INPUT,)
    gradient_out: After = (GRADIENT_INPUT,)
    begins: dict[Mark, int] = field(default_factory=dict)
    ends: dict[Mark, After] = field(default_factory=dict)
    classes: dict[str, float] = field(default_factory=dict)
    flops: dict[str, float] = field(default_factory=dict)
    recomputed: float = 0.0

    def _add(
        self,
        stream: int,
        label: str,
        after: After,
        seconds: float = 0.0,
        exchange: tuple[str, int] = ("", 0),
    ) -> int:
        self.stream.append(stream)
        self.label.append(label)
        self.seconds.append(seconds)
        self.exchange.append(exchange)
        self.after.append(after)
        return len(self.stream) - 1

    def last(self) -> After:
        """Return the last rows on the compute and the side stream."""
        found: dict[int, int] = {}
        for row in range(len(self.stream) - 1, -1, -1):
            if self.stream[row] in (COMPUTE, SIDE):
                found.setdefault(self.stream[row], row)
                if len(found) == 2 or (self.stream[row] == COMPUTE and SIDE not in self.stream):
                    break
        return tuple(found.values())

    def compute(
        self,
        block: BlockCost,
        phase: Phase,
        label: str,
        overlapped: bool,
        after: After,
        stream: int = COMPUTE,
    ) -> Done:
        """Add a phase with its transfers; return what waits for it: `after` where the block has no such phase."""
        line = _Line(self, label, stream, after)
        key = PhaseKey(phase, overlapped)
        means = iter((block.mean or block).phases[key].segments)
        for item in block.phases[key].items:
            if isinstance(item, Hop):
                line.transfer(item)
            else:
                self._count(item, next(means))
                line.kernels(item.total)
        return line.done()

    def _count(self, worst: Segment, mean: Segment) -> None:
        """Add a segment to the sums; what the busiest GPU takes beyond a mean one is waiting."""
        mean = mean if mean.total < worst.total else worst
        for name, seconds in (*mean.seconds.items(), ("expert_waiting", worst.total - mean.total)):
            self.classes[name] = self.classes.get(name, 0.0) + seconds
        for dtype, flops in mean.flops.items():
            self.flops[dtype] = self.flops.get(dtype, 0.0) + flops
        self.recomputed += mean.recomputed

    def exchange_tokens(self, block: BlockCost, kind: str, label: str, after: After) -> After:
        """Add dispatch or combine; return its row, or `after` where the block has no experts."""
        if not block.exchanges_experts:
            return after
        return (self._add(COMMUNICATION, label, after, exchange=(kind, block.load)),)


@dataclass(frozen=True, slots=True)
class Done:
    """What waits for a phase. row: its last kernels. gathered: transfers that weight gradients wait for too.

    late: transfers that only what uses the phase's output waits for.
    """

    row: After
    gathered: After = ()
    late: After = ()

    @property
    def output(self) -> After:
        """Return what a reader of the phase's output waits for."""
        return (*self.row, *self.gathered, *self.late)

    @property
    def kept(self) -> After:
        """Return what weight gradients wait for."""
        return (*self.row, *self.gathered)


@dataclass(slots=True)
class _Line:
    """A phase as it is laid down: kernels in order, transfers that they wait for or run beside."""

    rows: Chunk
    label: str
    stream: int
    after: After
    in_flight: list[list[int]] = field(default_factory=list)
    """Transfers on their way: [row, how many more segments do not wait for it]."""
    late: list[int] = field(default_factory=list)

    def kernels(self, seconds: float) -> None:
        if not seconds:
            return
        due = [row for row, left in self.in_flight if not left]
        row = self.rows._add(self.stream, self.label, (*self.after, *due), seconds)
        self.in_flight = [[other, left - 1] for other, left in self.in_flight if left]
        self.after = (row,)

    def transfer(self, hop: Hop) -> None:
        moved = hop.transfer
        due = tuple(row for row, left in self.in_flight if not left)
        what = (moved.group, round(moved.bytes))
        row = self.rows._add(TENSOR, moved.name, (*self.after, *due), exchange=what)
        if hop.concurrent == LATE:
            self.late.append(row)
        elif hop.concurrent:
            self.in_flight.append([row, hop.concurrent])
        else:
            self.after = (row,)

    def done(self) -> Done:
        return Done(self.after, tuple(row for row, _ in self.in_flight), tuple(self.late))


def chunk(action: Action, costs: Costs, member: int = -1) -> Chunk:
    """Return the rows of one action. member: of the expert group, where its GPUs have loads of their own."""
    rows = Chunk()
    if action.kind == "FB":
        _pairs(
            rows, _blocks(costs, action.stage, member), _blocks(costs, action.stage_b, member)[::-1]
        )
    elif action.kind == "F":
        for block in _blocks(costs, action.stage, member):
            _forward(rows, block)
    elif action.kind == "W":
        for block in _blocks(costs, action.stage, member)[::-1]:
            _weights(rows, block)
    else:
        for block in _blocks(costs, action.stage, member)[::-1]:
            _backward(rows, block, weights=action.kind == "B")
    return rows


Block = tuple[int, int, BlockCost]
"""stage, number of the model's block in it, cost of (a part of) that block"""


def _blocks(costs: Costs, stage: int, member: int) -> list[Block]:
    return [(stage, number, part) for number, part in costs.parts(stage, member)]


def _forward(rows: Chunk, block: Block, *, recompute: bool = False) -> None:
    """Add a forward pass; recompute: as the backward pass repeats it, when its own input, the gradient, has come."""
    stage, number, cost = block
    if not recompute:
        rows.begins.setdefault(("F", stage, number), len(rows.stream))
    before = rows.gradient_out if recompute else rows.forward_out
    flops = dict(rows.flops)
    attention = rows.compute(cost, Phase.ATTENTION_F, "attn(F)", False, before)
    arrived = rows.exchange_tokens(cost, "dispatch", "dispatch(F)", attention.output)
    mlp = rows.compute(cost, Phase.MLP_F, "mlp(F)", False, arrived)
    out = rows.exchange_tokens(cost, "combine", "combine(F)", mlp.output)
    if recompute:
        rows.gradient_out = out
        rows.recomputed += sum(rows.flops.values()) - sum(flops.values())
    else:
        rows.forward_out = out


def _backward(rows: Chunk, block: Block, *, weights: bool) -> None:
    """Add a backward pass outside of a pair; with weights, as autograd runs it: nothing beside expert traffic.

    A linear layer's weight gradient is computed in place, together with its input gradient, before
    the next exchange (github deepseek-ai/DualPipe, examples; Megatron-LM likewise).
    """
    stage, number, cost = block
    rows.begins.setdefault(("B", stage, number), len(rows.stream))
    if cost.recompute:
        _forward(rows, block, recompute=True)
    arrived = rows.exchange_tokens(cost, "cached_dispatch", "combine(B)", rows.gradient_out)
    mlp = rows.compute(cost, Phase.MLP_B, "mlp(B)", False, arrived)
    if weights:
        last = _mlp_weights(rows, cost, mlp.kept, overlapped=False)
        mlp = Done(last, late=(*mlp.late, *mlp.gathered))
    home = rows.exchange_tokens(cost, "combine", "dispatch(B)", mlp.output)
    first = rows.compute(cost, Phase.ATTENTION_B, "attn(B)", False, home)
    end = rows.compute(cost, Phase.ATTENTION_W, "attn(W)", False, first.kept) if weights else first
    rows.gradient_out = rows.compute(
        cost, Phase.ATTENTION_T, "attn(B)", False, (*end.row, *first.output)
    ).output
    if weights:
        rows.ends["B", stage, number] = rows.last()


def _mlp_weights(rows: Chunk, block: BlockCost, after: After, *, overlapped: bool) -> After:
    # A persistent GEMM keeps its SMs to its end, so the side stream's kernels come between those of
    # the compute stream.
    first = rows.compute(block, Phase.MLP_W, "mlp(W)", overlapped, after)
    return rows.compute(block, Phase.SIDE_W, "side(W)", overlapped, first.output, SIDE).output


def _weights(rows: Chunk, block: Block) -> None:
    stage, number, cost = block
    before = (len(rows.stream) - 1,) if rows.stream else (GRADIENT_INPUT,)
    _mlp_weights(rows, cost, before, overlapped=False)
    rows.compute(cost, Phase.ATTENTION_W, "attn(W)", False, before)
    rows.ends["B", stage, number] = rows.last()


def _pairs(rows: Chunk, ahead: list[Block], back: list[Block]) -> None:
    """Pair the MoE blocks of both directions; the other blocks run alone as soon as their turn comes."""
    forward_runs, backward_runs = _split(ahead), _split(back)
    for (lone_f, moe_f), (lone_b, moe_b) in zip_longest(
        forward_runs, backward_runs, fillvalue=([], None)
    ):
        for block in lone_f:
            _forward(rows, block)
        for block in lone_b:
            _backward(rows, block, weights=True)
        if moe_f and moe_b:
            _pair(rows, moe_f, moe_b)
        elif moe_f:
            _forward(rows, moe_f)
        elif moe_b:
            _backward(rows, moe_b, weights=True)


def _split(blocks: list[Block]) -> list[tuple[list[Block], Block | None]]:
    """Return runs of blocks without expert traffic, each with the block with expert traffic that ends it."""
    runs: list[tuple[list[Block], Block | None]] = []
    lone: list[Block] = []
    for block in blocks:
        if block[2].exchanges_experts:
            runs.append((lone, block))
            lone = []
        else:
            lone.append(block)
    return [*runs, (lone, None)] if lone else runs


def _pair(rows: Chunk, forward: Block, backward: Block) -> None:
    ahead, back = forward[2], backward[2]
    rows.begins.setdefault(("F", *forward[:2]), len(rows.stream))
    rows.begins.setdefault(("B", *backward[:2]), len(rows.stream))
    if back.recompute:
        _forward(rows, backward, recompute=True)
    arrived_b = rows.exchange_tokens(back, "cached_dispatch", "combine(B)", rows.gradient_out)
    attention_f = rows.compute(ahead, Phase.ATTENTION_F, "attn(F)", True, rows.forward_out)
    mlp_b = rows.compute(back, Phase.MLP_B, "mlp(B)", True, arrived_b)
    arrived_f = rows.exchange_tokens(ahead, "dispatch", "dispatch(F)", attention_f.output)
    home_b = rows.exchange_tokens(back, "combine", "dispatch(B)", mlp_b.output)
    _mlp_weights(rows, back, mlp_b.kept, overlapped=True)
    mlp_f = rows.compute(ahead, Phase.MLP_F, "mlp(F)", True, arrived_f)
    rows.forward_out = rows.exchange_tokens(ahead, "combine", "combine(F)", mlp_f.output)
    first = rows.compute(back, Phase.ATTENTION_B, "attn(B)", True, home_b)
    rows.compute(back, Phase.ATTENTION_W, "attn(W)", True, first.kept)
    rows.gradient_out = rows.compute(back, Phase.ATTENTION_T, "attn(B)", True, first.output).output
    rows.ends["B", *backward[:2]] = rows.last()
