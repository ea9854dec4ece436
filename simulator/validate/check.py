"""One published figure compared with the simulated one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple


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
    note: str = ""
    """What a reader must know to judge the error."""
    scored: bool = True
    """Whether it counts in the mean error."""
    fits: bool | None = None
    """Whether peak memory is below the GPU's; None where it is not known."""

    @property
    def error(self) -> float:
        """Return the signed relative error."""
        return self.simulated / self.published - 1.0

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
            "note": self.note,
            "scored": self.scored,
            "fits": self.fits,
        }


class Score(NamedTuple):
    """How far the validation checks that count are off."""

    checks: int
    """Number of checks that count."""
    mean: float
    """Mean of their absolute relative errors."""
    worst: Check
    """The one that is furthest off."""


def score(checks: Sequence[Check]) -> Score | None:
    """Return how far the validation checks that count are off, None if none counts."""
    counted = [check for check in checks if check.scored and check.use == "validation"]
    if not counted:
        return None
    # Of absolute errors: too slow in one case and too fast in another do not cancel.
    worst = max(counted, key=lambda check: abs(check.error))
    mean = fmean(abs(check.error) for check in counted)
    return Score(checks=len(counted), mean=mean, worst=worst)
