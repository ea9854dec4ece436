"""One published figure compared with the simulated one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

from simulator.trust import Kind

RATES = (
    "tokens_per_second",
    "tokens_per_day",
    "tokens_per_second_per_gpu",
    "tflops_per_gpu",
)
"""Quantities of which more means a shorter step."""


@dataclass(frozen=True, slots=True)
class Check:
    """One published figure compared with the simulated one."""

    case: str
    """Name of the case."""
    quantity: str
    """What was published."""
    unit: str
    """Unit of both figures."""
    published: float
    """The published figure [unit]."""
    simulated: float
    """The simulated figure [unit]."""
    use: str
    """What the comparison is: calibration or validation."""
    source: str
    """Where it was published."""
    span: tuple[float, ...] = ()
    """Least and most over other choices [unit]; empty where none were run."""
    hosts: tuple[float, ...] = ()
    """Least and most over the paces of hosts [unit]; empty where none were run, or one is known."""
    note: str = ""
    """What a reader must know to judge the error."""
    scored: bool = True
    """Whether it counts in the mean error."""
    fits: bool | None = None
    """Whether peak memory is below the GPU's; None where it is not known."""
    kind: Kind | None = None
    """Its kind; None where it is not a step."""
    gpus: int = 0
    """On how many GPUs; 0 where it is not a step."""
    twin_of: str = ""
    """Case with which it counts once; empty where it counts by itself."""
    published_cost: float = 0.0
    """Time of one GPU that a token takes by the published figure [s]; 0 where it is not a step."""

    @property
    def error(self) -> float:
        """Return the signed relative error."""
        return self.simulated / self.published - 1.0

    @property
    def slower(self) -> float:
        """Return the signed relative error of the time that the figure stands for.

        Rates turn round, so that a simulator that is too fast is below zero in every quantity.
        """
        if self.quantity in RATES:
            return self.published / self.simulated - 1.0
        return self.error

    @property
    def simulated_cost(self) -> float:
        """Return the time of one GPU that a token takes as simulated [s]."""
        return self.published_cost * (1.0 + self.slower)

    @property
    def group(self) -> str:
        """Return the name under which it counts once with its twins."""
        return self.twin_of or self.case

    def as_dict(self) -> dict[str, Any]:
        """Return the check as `simulate validate --json` writes it."""
        return {
            "case": self.case,
            "quantity": self.quantity,
            "unit": self.unit,
            "published": self.published,
            "simulated": self.simulated,
            "error_percent": 100 * self.error,
            "use": self.use,
            "source": self.source,
            "span": list(self.span),
            "hosts": list(self.hosts),
            "note": self.note,
            "scored": self.scored,
            "fits": self.fits,
            "kind": self.kind._asdict() if self.kind else None,
            "twin_of": self.twin_of,
        }


class Score(NamedTuple):
    """How far the validation checks that count are off."""

    checks: int
    """Number of checks that count."""
    groups: int
    """Number of them with twins counted once."""
    mean: float
    """Mean of the absolute relative errors of time."""
    signed: float
    """Mean of the signed ones: below zero is too fast."""
    worst: Check
    """The one that is furthest off."""

    def as_dict(self) -> dict[str, Any]:
        """Return the score as `simulate validate --json` writes it."""
        return {
            "checks": self.checks,
            "groups": self.groups,
            "mean_absolute_error_percent": 100 * self.mean,
            "mean_error_percent": 100 * self.signed,
            "worst": self.worst.case,
            "worst_error_percent": 100 * self.worst.slower,
        }


def score(checks: Sequence[Check]) -> Score | None:
    """Return how far the validation checks that count are off, None if none counts.

    A group of twins has the mean of its errors, and weighs as much as one check.
    """
    counted = [check for check in checks if check.scored and check.use == "validation"]
    if not counted:
        return None
    groups: dict[str, list[float]] = {}
    for check in counted:
        groups.setdefault(check.group, []).append(check.slower)
    # Of absolute errors: too slow in one case and too fast in another do not cancel.
    sizes = [fmean(abs(error) for error in errors) for errors in groups.values()]
    return Score(
        checks=len(counted),
        groups=len(groups),
        mean=fmean(sizes),
        signed=fmean(fmean(errors) for errors in groups.values()),
        worst=max(counted, key=lambda check: abs(check.slower)),
    )
