"""Training runs of a campaign: which scenarios their spans need, and how much of each there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from simulator import inputs
from simulator.campaign.config import RampConfig, SpanConfig, TrainConfig
from simulator.campaign.spans import Amount, Span, tokens_of
from simulator.errors import InputError
from simulator.scenario import Scenario, load

BATCH = "training.global_batch_size"


@dataclass(frozen=True)
class Folder:
    """Where a campaign's file lies: files next to it are found first."""

    path: Path
    """The folder."""

    def file(self, name: str, kind: str) -> Path:
        """Return a file next to the campaign's, a path, or a shipped one. Errors: InputError."""
        neighbour = self.path / name
        if name and inputs.is_file(neighbour):
            return neighbour
        try:
            return inputs.find(name, kind)
        except InputError as error:
            error.file = ""  # the campaign's file names it, not that file itself
            raise


class Base(NamedTuple):
    """What a span simulates."""

    topology: str
    """Path of its topology."""
    workload: str
    """Path of its workload."""
    sets: dict[str, Any]
    """Keys of either that are different."""

    def load(self, more: dict[str, Any]) -> Scenario:
        """Return the scenario with more keys set. Errors: InputError."""
        return load(self.topology, self.workload, self.sets | more)


def spans(train: TrainConfig, topology: str, folder: Folder) -> tuple[Span, ...]:
    """Return the spans of a training run. topology: where a stage trains that names no other.

    Errors: InputError where a scenario is refused, or where amounts do not add up.
    """
    parts = train.spans or (SpanConfig(),)
    if not train.spans and train.ramp:
        parts = (SpanConfig(ramp=train.ramp),)
    read = [_scenarios(train, part, topology, folder) for part in parts]
    amounts = _amounts(train, parts, read)
    labels = _labels(parts, read)
    rows = zip(labels, read, amounts, strict=True)
    return tuple(Span(label, scenarios, amount) for label, scenarios, amount in rows)


def _scenarios(
    train: TrainConfig, part: SpanConfig, topology: str, folder: Folder
) -> tuple[Scenario, ...]:
    """Return the scenario of a span, or those along its ramp."""
    workload = part.workload or train.workload
    if not workload:
        raise InputError(
            "names no workload", key="workload", remedy="Write for example workload: deepseek-v3."
        )
    base = Base(
        str(folder.file(part.topology or train.topology or topology, "topologies")),
        str(folder.file(workload, "workloads")),
        {**train.set, **part.set},
    )
    if part.ramp is None:
        return (base.load({}),)
    return tuple(base.load({BATCH: batch}) for batch in _batches(base, part.ramp))


def _batches(base: Base, ramp: RampConfig) -> list[int]:
    """Return the batches that are simulated, rising: evenly spaced, in whole rounds of replicas."""
    last = base.load({BATCH: ramp.to})
    training = last.workload.training
    # What divides both ends divides what is between: bidirectional schedules want pairs.
    unit = last.layout.dp * training.micro_batch_size
    if not (ramp.start % (2 * unit) or ramp.to % (2 * unit)):
        unit *= 2
    gaps = ramp.points - 1
    exact = [ramp.start + (ramp.to - ramp.start) * gap / gaps for gap in range(gaps + 1)]
    inner = {round(batch / unit) * unit for batch in exact[1:-1]}
    return sorted({ramp.start, *inner, ramp.to})


def _amounts(
    train: TrainConfig, parts: Sequence[SpanConfig], read: Sequence[Sequence[Scenario]]
) -> list[Amount]:
    """Return how much of each span there is; the one that says nothing gets what is left."""
    amounts = [_own(part, scenarios) for part, scenarios in zip(parts, read, strict=True)]
    open_ended = [index for index, amount in enumerate(amounts) if amount is None]
    if len(open_ended) > 1:
        raise InputError(
            "leaves the amounts of two spans open",
            key=f"spans.{open_ended[1]}",
            remedy="Give all but one of them tokens or steps.",
        )
    whole = _own(train, read[-1])
    if whole and not open_ended:
        raise InputError(
            "stands next to spans that all have their own amounts",
            key=next(key for key in ("tokens", "steps", "duration") if getattr(train, key)),
            remedy="Leave it out, or leave out that of one span.",
        )
    closed = [amount for amount in amounts if amount is not None]
    for index in open_ended:
        left = _rest(whole, read[index], closed)
        return [amount or left for amount in amounts]
    return closed


def _own(part: SpanConfig, scenarios: Sequence[Scenario]) -> Amount | None:
    """Return the amount that a span gives, steps as tokens; None where it takes what others leave."""
    if part.tokens is not None:
        return Amount(tokens=part.tokens)
    if part.steps is not None:
        batches = [scenario.tokens_per_step for scenario in scenarios]
        return Amount(tokens=tokens_of(batches, part.steps))
    if part.duration is not None:
        return Amount(seconds=part.duration)
    if part.workload and not isinstance(part, TrainConfig):
        return Amount(tokens=scenarios[-1].workload.training.tokens)  # a run of its own
    return None


def _rest(whole: Amount | None, scenarios: Sequence[Scenario], others: Sequence[Amount]) -> Amount:
    """Return what is left for the span that names no amount. Errors: InputError."""
    total = whole or Amount(tokens=scenarios[-1].workload.training.tokens)
    counted_in_time = any(amount.seconds for amount in others)
    if not total.seconds and counted_in_time:
        raise InputError(
            "cannot be the rest of spans that count time",
            key="spans",
            value="the tokens of the run",
            remedy="Give every span tokens or steps, or each a duration.",
        )
    if total.seconds:
        if len(scenarios) > 1:
            raise InputError(
                "cannot be the amount of a ramp",
                key="duration",
                remedy="Give its tokens or its steps.",
            )
        if any(amount.tokens for amount in others):
            raise InputError(
                "cannot be shared with spans that count tokens",
                key="duration",
                remedy="Give every span a duration, or none.",
            )
        left = Amount(seconds=total.seconds - sum(amount.seconds for amount in others))
    else:
        left = Amount(tokens=total.tokens - sum(amount.tokens for amount in others))
    if max(left) <= 0:
        raise InputError(
            "are used up by the other spans",
            key="spans",
            value="the tokens of the run",
            remedy="Give them fewer, or leave no span open.",
        )
    return left


def _labels(parts: Sequence[SpanConfig], read: Sequence[Sequence[Scenario]]) -> Iterator[str]:
    """Yield what tells each span from the others: its batch and its length, and a workload of its own."""
    for part, scenarios in zip(parts, read, strict=True):
        last = scenarios[-1].workload
        batch = f"{last.training.global_batch_size:,}"
        if part.ramp:
            batch = f"{part.ramp.start:,} to {part.ramp.to:,}"
        own = f"{last.name}: " if part.workload else ""
        yield f"{own}{batch} x {last.training.seq_length:,}"
