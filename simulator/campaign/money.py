"""What GPU-hours cost rented or owned, and what energy they take.

A GPU draws a share of its power limit while it waits and all of it while it computes; its server draws
a share more whatever the GPU does (`data/power/node.yaml`). PUE is what the building adds.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from pydantic import BaseModel, Field

from simulator import inputs
from simulator.campaign.section import Section
from simulator.frozen import FROZEN
from simulator.report import Report
from simulator.units import Dollars, Emissions, EnergyPrice, Number

COMPUTE = ("gemm", "attention", "memory_bound", "kernel_gaps", "optimizer", "interference")
"""Parts of a step during which a GPU computes."""
HOURS_PER_YEAR = 8766.0


class OwnConfig(Section):
    """What it costs to own the GPUs instead of renting them."""

    gpu: Dollars = Field(
        gt=0,
        description="Price of a GPU with its share of the server [USD].",
        examples=["30000 USD"],
    )
    network: Number = Field(
        0.25,
        ge=0,
        description="What network, storage and building add to that, as a share; assumed.",
        examples=[0.25],
    )
    years: Number = Field(
        4.0, gt=0, description="Years over which the price is written off.", examples=[4]
    )
    used: Number = Field(
        0.8,
        gt=0,
        le=1,
        description="Share of these years in which somebody computes on it; assumed.",
        examples=[0.8],
    )
    staff: Dollars = Field(
        0.0,
        validate_default=False,
        description="Salaries that are put down to the campaign [USD].",
        examples=["5000000 USD"],
    )


class EnergyConfig(Section):
    """What the building adds, what energy costs and what it emits."""

    pue: Number = Field(
        1.2,
        ge=1,
        description="Energy of the building over that of its servers; assumed.",
        examples=[1.2],
    )
    price: EnergyPrice | None = Field(
        None, description="Price of energy, for ownership [USD/J].", examples=["0.08 USD per kWh"]
    )
    grid: Emissions | None = Field(
        None, description="Emissions of the grid [kg CO2e per J].", examples=["0.4 kg per kWh"]
    )


class Rent(BaseModel):
    """What a GPU was rented for."""

    model_config = FROZEN

    gpu: str = Field(description="Name of the GPU, as topologies write it.", examples=["h100"])
    low: Number = Field(
        gt=0, description="Lowest price of its source [USD per GPU-hour].", examples=[1.7]
    )
    high: Number = Field(
        gt=0, description="Highest price of its source [USD per GPU-hour].", examples=[2.35]
    )
    date: str = Field(description="When, as far as the source says.", examples=["2026-05"])
    source: str = Field(description="Who said so.", examples=["Vast.ai"])


class _Rents(BaseModel):
    model_config = FROZEN
    rents: tuple[Rent, ...] = Field(description="Every published rent.")


class _Node(BaseModel):
    model_config = FROZEN
    rest: Number = Field(
        ge=0,
        description="What a server draws beyond its GPUs, over their power limit.",
        examples=[0.5],
    )
    idle: Number = Field(
        ge=0,
        le=1,
        description="Share of its power limit that a GPU draws while it waits.",
        examples=[0.279],
    )
    sources: dict[str, str] = Field(
        description="Key of this file -> where its value is from.",
        examples=[{"rest": "arXiv 2412.08602"}],
    )


class Owned(NamedTuple):
    """What owning the GPUs costs for a campaign."""

    hardware: float
    """Written off during its hours [USD]."""
    energy: float
    """Paid for energy [USD]."""
    staff: float
    """Salaries [USD]."""

    @property
    def total(self) -> float:
        """Return all of it [USD]."""
        return self.hardware + self.energy + self.staff


def rents(gpu: str) -> tuple[Rent, ...]:
    """Return what a GPU was rented for, by whom and when."""
    return tuple(rent for rent in _rents() if rent.gpu == gpu)


def watts(report: Report) -> float:
    """Return what a GPU and its share of the server draw during a step, on average [W]."""
    node = _node()
    computing = sum(report.breakdown.get(part, 0.0) for part in COMPUTE)
    busy = computing / report.step_time
    share = node.idle + (1.0 - node.idle) * busy + node.rest
    return share * report.scenario.gpu.power


def owned(own: OwnConfig, energy: EnergyConfig, gpu_hours: float, joules: float) -> Owned:
    """Return what a campaign costs who owns its GPUs. joules: of servers, without the building."""
    hours = own.years * own.used * HOURS_PER_YEAR
    return Owned(
        hardware=gpu_hours / hours * own.gpu * (1.0 + own.network),
        energy=joules * energy.pue * (energy.price or 0.0),
        staff=own.staff,
    )


@cache
def _rents() -> tuple[Rent, ...]:
    return inputs.validate(inputs.data("money", "rents"), _Rents).rents


@cache
def _node() -> _Node:
    return inputs.validate(inputs.data("power", "node"), _Node)
