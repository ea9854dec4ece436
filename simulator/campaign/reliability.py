"""What failures, restarts and checkpoints add to a training run, from what happened to others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from simulator import inputs
from simulator.campaign.section import Section
from simulator.errors import InputError
from simulator.frozen import FROZEN
from simulator.goodput import (
    Cause,
    Checkpoints,
    Goodput,
    Maintenance,
    Risks,
    Slow,
    daly_interval,
    goodput,
)
from simulator.scenario import Scenario
from simulator.units import Integer, MemoryBandwidth, Number, Seconds, format_seconds

DAY = 86400.0


class Interruptions(BaseModel):
    """What happened to a run: `simulator/data/goodput/<name>.yaml`."""

    model_config = FROZEN

    gpus: Integer = Field(gt=0, description="Number of GPUs of the run.", examples=[16384])
    days: Number = Field(gt=0, description="Days of the run that were counted.", examples=[54])
    unexpected: Integer = Field(ge=0, description="Number of unexpected interruptions.")
    planned: Integer = Field(ge=0, description="Number of planned interruptions.")
    causes: dict[str, Integer] = Field(
        description="Cause -> number of unexpected interruptions.",
        examples=[{"faulty GPU": 148}],
    )
    effective: Number = Field(
        gt=0, le=1, description="Share of the time that was training.", examples=[0.9]
    )
    source: str = Field(description="Where it was published.", examples=["arXiv 2407.21783"])

    def rates(self, gpus: int) -> tuple[Cause, ...]:
        """Return the causes on a cluster of another size: as many for each GPU and hour."""
        gpu_seconds = self.gpus * self.days * DAY
        return tuple(Cause(name, count / gpu_seconds * gpus) for name, count in self.causes.items())


def _known(like: str) -> str:
    """Return the name of a run whose interruptions are known. Errors: InputError."""
    interruptions(like)
    return like


class ReliabilityConfig(Section):
    """What may happen to a training run, and how soon it goes on."""

    like: Annotated[str, AfterValidator(_known)] = Field(
        "llama-3.1-405b",
        description="The run whose interruptions per GPU and hour are taken.",
        examples=["llama-3.1-405b"],
    )
    factor: Number = Field(
        1.0, ge=0, description="Failures over those of that run; 0: none.", examples=[0.5]
    )
    detection: Seconds = Field(
        600.0,
        validate_default=False,
        description="From a failure until the run is stopped [s]; assumed.",
        examples=["10 min"],
    )
    restart: Seconds = Field(
        1200.0,
        validate_default=False,
        description="From there until it trains again, loading included [s]; assumed.",
        examples=["20 min"],
    )
    checkpoint_every: Seconds | None = Field(
        None,
        gt=0,
        description="Training between checkpoints [s]; default: the best, by Daly's formula.",
        examples=["30 min"],
    )
    storage: MemoryBandwidth = Field(
        2e12,
        gt=0,
        validate_default=False,
        description=(
            "Bandwidth of the storage that checkpoints are written to [B/s]; default: what Llama 3's "
            "sustained (arXiv 2407.21783, section 3.3.1)."
        ),
        examples=["2 TB/s"],
    )
    bytes_per_parameter: Number = Field(
        14.0,
        gt=0,
        description="Bytes of a checkpoint for each parameter: weights, master copy and moments.",
        examples=[14],
    )
    asynchronous: bool = Field(
        False,
        description="Whether the run goes on while a checkpoint is written from the hosts' memory.",
    )
    copy_time: Seconds = Field(
        5.0,
        validate_default=False,
        description="How long it waits for the copy to that memory then [s]; assumed.",
        examples=["5 s"],
    )
    spares: Integer = Field(
        -1,
        ge=-1,
        description="Number of nodes that stand ready; -1 for as many as it takes.",
        examples=[16],
    )
    repair: Seconds = Field(
        2 * DAY,
        validate_default=False,
        description="How long a failed node is away [s]; assumed.",
        examples=["2 d"],
    )
    maintenance_every: Seconds = Field(
        0.0,
        validate_default=False,
        description="Wall time between planned stops [s]; 0 for none.",
        examples=["7 d"],
    )
    maintenance_takes: Seconds = Field(
        0.0,
        validate_default=False,
        description="How long a planned stop takes [s].",
        examples=["2 h"],
    )
    slow_every: Seconds = Field(
        0.0,
        validate_default=False,
        description="Mean time between nodes that become slow, in the whole cluster [s]; 0 for none.",
        examples=["3 d"],
    )
    slow_pace: Number = Field(
        0.9,
        gt=0,
        le=1,
        description="Speed of the run while a node is slow, over its own.",
        examples=[0.9],
    )
    slow_found: Seconds = Field(
        4 * 3600.0,
        validate_default=False,
        description="How long until it is found [s].",
        examples=["4 h"],
    )
    replicas: Integer = Field(
        100, ge=10, le=10_000, description="Number of runs that are simulated.", examples=[100]
    )
    seed: Integer = Field(0, ge=0, description="Seed of their chance.")


def risks(config: ReliabilityConfig, scenario: Scenario) -> Risks:
    """Return what may happen to a run of a scenario's model on its cluster. Errors: InputError."""
    seen = interruptions(config.like)
    causes = tuple(
        Cause(cause.name, cause.rate * config.factor)
        for cause in seen.rates(scenario.topology.gpus)
    )
    write = scenario.model.parameters * config.bytes_per_parameter / config.storage
    stall = config.copy_time if config.asynchronous else write
    lag = write if config.asynchronous else 0.0
    return Risks(
        checkpoints=Checkpoints(_interval(config, causes, stall, lag), stall, lag),
        causes=causes,
        detection=config.detection,
        restart=config.restart,
        spares=config.spares,
        repair=config.repair,
        maintenance=Maintenance(config.maintenance_every, config.maintenance_takes),
        slow=Slow(
            1.0 / config.slow_every if config.slow_every else 0.0,
            config.slow_pace,
            config.slow_found,
        ),
    )


def _interval(
    config: ReliabilityConfig, causes: Sequence[Cause], stall: float, lag: float
) -> float:
    """Return the training between checkpoints [s]. Errors: InputError where one overtakes another."""
    # A checkpoint begins when the one before it is safe: hosts' memory holds one.
    if config.checkpoint_every is None:
        rate = sum(cause.rate for cause in causes)
        return max(daly_interval(stall, rate), lag) if rate else DAY
    if config.checkpoint_every < lag:
        raise InputError(
            f"is less than the {format_seconds(lag)} that a checkpoint takes to be written",
            key="checkpoint_every",
            value=format_seconds(config.checkpoint_every),
            remedy="Give more, or a faster storage.",
        )
    return config.checkpoint_every


def expected(config: ReliabilityConfig, scenario: Scenario, seconds: float) -> Goodput:
    """Return what a run comes to that would train so long [s] if nothing happened."""
    return goodput(seconds, risks(config, scenario), replicas=config.replicas, seed=config.seed)


@cache
def interruptions(like: str) -> Interruptions:
    """Return what happened to a run. Errors: InputError on an unknown one."""
    return inputs.validate(inputs.data("goodput", like), Interruptions)
