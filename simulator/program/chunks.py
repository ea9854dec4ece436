"""The ops of one action on one rank, on three streams, with what waits for what.

The order of an overlapped pair is the one that DeepSeek's published profile shows, layer pair by layer pair:

    compute:        attn(F)     mlp(B)       mlp(W) mlp(F)   attn(B)  attn(W)
    communication:  combine(B)  dispatch(F)  dispatch(B)     combine(F)   combine(B) of the next pair with attn(W)
    side:                                    half of the experts' mlp(W)

`combine(B)`, the gradient of combine, is a dispatch over the layout of the forward pass; `dispatch(B)` is a combine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest

from simulator.program.costs import BlockCost, Costs
from simulator.schedules import Action

COMPUTE, SIDE, COMMUNICATION, DATA, SEND = range(5)
STREAMS = ("compute", "side", "communication", "data", "send")

FORWARD_INPUT, GRADIENT_INPUT = -1, -2
"""Dependencies on what another action hands over, until the program knows which row that is."""


@dataclass(slots=True)
class Chunk:
    """Rows of one action, as columns.

    seconds: of compute rows [s]. exchange: kind of communication, or ''. load: the expert load that it carries. after:
    rows that a row waits for, besides its stream's order. forward_out/gradient_out: rows that make the outputs.
    """

    stream: list[int] = field(default_factory=list)
    label: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    exchange: list[str] = field(default_factory=list)
    load: list[int] = field(default_factory=list)
    after: list[tuple[int, ...]] = field(default_factory=list)
    forward_out: int = FORWARD_INPUT
    gradient_out: int = GRADIENT_INPUT
    classes: dict[str, float] = field(default_factory=dict)
    flops: dict[str, float] = field(default_factory=dict)
    recomputed: float = 0.0

    def _add(self, stream: int, label: str, after: tuple[int, ...], seconds: float = 0.0,
             exchange: tuple[str, int] = ("", 0)) -> int:
        self.stream.append(stream)
        self.label.append(label)
        self.seconds.append(seconds)
        self.exchange.append(exchange[0])
        self.load.append(exchange[1])
        self.after.append(after)
        return len(self.stream) - 1

    def compute(self, block: BlockCost, phase: str, label: str, *, beside: bool, after: int, stream: int = COMPUTE
                ) -> int:
        """Add a phase to the compute or side stream; return its row, or `after` where the block has no such phase."""
        cost = block.phases[phase, beside]
        if not cost.total:
            return after
        mean = block.mean.phases[phase, beside] if block.mean else cost
        mean = mean if mean.total < cost.total else cost
        for name, seconds in (*mean.seconds.items(), ("expert_waiting", cost.total - mean.total)):
            self.classes[name] = self.classes.get(name, 0.0) + seconds
        for dtype, flops in mean.flops.items():
            self.flops[dtype] = self.flops.get(dtype, 0.0) + flops
        self.recomputed += mean.recomputed
        return self._add(stream, label, (after,), cost.total)

    def exchange_tokens(self, block: BlockCost, kind: str, label: str, after: int) -> int:
        """Add dispatch or combine; return its row, or `after` where the block has no experts."""
        if not block.exchanges_experts:
            return after
        return self._add(COMMUNICATION, label, (after,), exchange=(kind, block.load))


def chunk(action: Action, costs: Costs) -> Chunk:
    """Return the rows of one action."""
    rows = Chunk()
    if action.kind == "FB":
        _pairs(rows, costs.stage(action.stage), costs.stage(action.stage_b)[::-1])
    elif action.kind == "F":
        for block in costs.stage(action.stage):
            _forward(rows, block)
    elif action.kind == "W":
        for block in costs.stage(action.stage)[::-1]:
            _weights(rows, block)
    else:
        for block in costs.stage(action.stage)[::-1]:
            _backward(rows, block, weights=action.kind == "B")
    return rows


def _forward(rows: Chunk, block: BlockCost) -> None:
    attention = rows.compute(block, "attention_f", "attn(F)", beside=False, after=rows.forward_out)
    arrived = rows.exchange_tokens(block, "dispatch", "dispatch(F)", attention)
    mlp = rows.compute(block, "mlp_f", "mlp(F)", beside=False, after=arrived)
    rows.forward_out = rows.exchange_tokens(block, "combine", "combine(F)", mlp)


def _backward(rows: Chunk, block: BlockCost, *, weights: bool) -> None:
    """Add a backward pass outside of a pair; with weights, as autograd runs it: nothing beside communication.

    A linear layer's weight gradient is computed in place, together with its input gradient, before the next exchange
    (github deepseek-ai/DualPipe, examples; Megatron-LM likewise).
    """
    arrived = rows.exchange_tokens(block, "cached_dispatch", "combine(B)", rows.gradient_out)
    last = rows.compute(block, "mlp_b", "mlp(B)", beside=False, after=arrived)
    if weights:
        last = _mlp_weights(rows, block, last, beside=False)
    home = rows.exchange_tokens(block, "combine", "dispatch(B)", last)
    last = rows.compute(block, "attention_b", "attn(B)", beside=False, after=home)
    rows.gradient_out = rows.compute(block, "attention_w", "attn(W)", beside=False, after=last) if weights else last


def _mlp_weights(rows: Chunk, block: BlockCost, after: int, *, beside: bool) -> int:
    # A persistent GEMM keeps its SMs to its end, so the side stream's kernels come between those of the compute stream.
    first = rows.compute(block, "mlp_w", "mlp(W)", beside=beside, after=after)
    return rows.compute(block, "side_w", "side(W)", beside=beside, after=first, stream=SIDE)


def _weights(rows: Chunk, block: BlockCost) -> None:
    before = len(rows.stream) - 1 if rows.stream else GRADIENT_INPUT
    _mlp_weights(rows, block, before, beside=False)
    rows.compute(block, "attention_w", "attn(W)", beside=False, after=before)


def _pairs(rows: Chunk, ahead: list[BlockCost], back: list[BlockCost]) -> None:
    """Pair the MoE blocks of both directions; the other blocks run alone as soon as their turn comes."""
    forward_runs, backward_runs = _split(ahead), _split(back)
    for (lone_f, moe_f), (lone_b, moe_b) in zip_longest(forward_runs, backward_runs, fillvalue=([], None)):
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


def _split(blocks: list[BlockCost]) -> list[tuple[list[BlockCost], BlockCost | None]]:
    """Return runs of blocks without expert traffic, each with the block with expert traffic that ends it."""
    runs: list[tuple[list[BlockCost], BlockCost | None]] = []
    lone: list[BlockCost] = []
    for block in blocks:
        if block.exchanges_experts:
            runs.append((lone, block))
            lone = []
        else:
            lone.append(block)
    return [*runs, (lone, None)] if lone else runs


def _pair(rows: Chunk, ahead: BlockCost, back: BlockCost) -> None:
    arrived_b = rows.exchange_tokens(back, "cached_dispatch", "combine(B)", rows.gradient_out)
    attention_f = rows.compute(ahead, "attention_f", "attn(F)", beside=True, after=rows.forward_out)
    mlp_b = rows.compute(back, "mlp_b", "mlp(B)", beside=True, after=arrived_b)
    arrived_f = rows.exchange_tokens(ahead, "dispatch", "dispatch(F)", attention_f)
    home_b = rows.exchange_tokens(back, "combine", "dispatch(B)", mlp_b)
    _mlp_weights(rows, back, mlp_b, beside=True)
    mlp_f = rows.compute(ahead, "mlp_f", "mlp(F)", beside=True, after=arrived_f)
    rows.forward_out = rows.exchange_tokens(ahead, "combine", "combine(F)", mlp_f)
    rows.gradient_out = rows.compute(back, "attention_b", "attn(B)", beside=True, after=home_b)
    rows.compute(back, "attention_w", "attn(W)", beside=True, after=rows.gradient_out)
