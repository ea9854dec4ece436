"""One published figure beside the simulated one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any


@dataclass(frozen=True, slots=True)
class Check:
    """One published figure beside the simulated one.

    unit: of both. use: calibration or validation. span: the least and the most that other choices
    for what the source does not say would give, the choice made among them; empty where none were
    run. scored: counts in the mean error. fits: peak memory is below the GPU's; None where it is
    not known.
    """

    case: str
    quantity: str
    unit: str
    published: float
    simulated: float
    use: str
    source: str
    span: tuple[float, ...] = ()
    note: str = ""
    scored: bool = True
    fits: bool | None = None

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


def score(checks: Sequence[Check]) -> tuple[int, float, Check] | None:
    """Return how many validation checks count, their mean absolute error, and the worst; None if none does."""
    counted = [check for check in checks if check.scored and check.use == "validation"]
    if not counted:
        return None
    return (
        len(counted),
        fmean(abs(check.error) for check in counted),
        max(counted, key=lambda check: abs(check.error)),
    )
