"""What is known of a GPU's clock under a power limit: `simulator/data/power/limit.yaml`."""

from __future__ import annotations

from pydantic import Field

from simulator.errors import InputError
from simulator.hardware.data import Data
from simulator.hardware.gpu import GpuConfig
from simulator.units import Number


class PowerLaw(Data):
    """How the rate of the SMs follows from the power limit, where that takes the clock down.

    rate = reference ((limit - idle x reference limit) / (reference limit - idle x reference
    limit))^(1 / exponent): what is not spent on the SMs' clock and voltage is lost first.
    """

    idle: Number = Field(
        ge=0,
        lt=1,
        description="Share of the reference limit that is drawn whatever the clock is.",
        examples=[0.2],
    )
    exponent: Number = Field(
        ge=1,
        description="Power of the clock with which the rest rises: 1 at a fixed voltage, up to 3.",
        examples=[1.8],
    )
    source: str = Field(
        description="The measurements behind the constants.",
        examples=["least squares over pairs of one chip at two limits"],
    )

    def drawn(self, known: GpuConfig) -> float:
        """Return what an SM of a measured GPU draws whatever its clock is [W]."""
        return self.idle * known.power / known.sms

    def clock(self, watts: float, known: GpuConfig) -> float:
        """Return the clock of an SM over that of a measured GPU's at its own limit.

        watts: for one SM. Errors: InputError where they are fewer than it draws at any clock.
        """
        idle = self.drawn(known)
        if watts <= idle:
            raise InputError(
                f"leaves nothing beyond the {idle:.2f} W that an SM draws", value=watts
            )
        share = (watts - idle) / (known.power / known.sms - idle)
        clock: float = share ** (1.0 / self.exponent)
        return clock

    def watts(self, clock: float, known: GpuConfig) -> float:
        """Return what an SM draws at a clock [W]. clock: see `clock`."""
        idle = self.drawn(known)
        beyond = known.power / known.sms - idle
        watts: float = idle + beyond * clock**self.exponent
        return watts
