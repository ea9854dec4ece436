"""The published cases as data: `simulator/data/cases/<source>.yaml`, one file per publication."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from simulator import inputs
from simulator.scenario import Quantity, Scenario, load


class _Published(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    case: str = Field(description="<file>/<row>, unique over all files")
    topology: str = Field(description="a shipped topology")
    workload: str = Field(description="a shipped workload")
    set: dict[str, Any] = Field({}, description="changes, path -> value, as --set takes them")
    source: str = Field(
        description="table or section; how the figure was derived where it was not printed so"
    )
    note: str = Field("", description="what a reader must know to judge the error")
    scored: bool = Field(
        True, description="counts in the mean error; false where the source gives no layout"
    )

    def scenario(self, changes: dict[str, Any] | None = None) -> Scenario:
        """Return what is simulated. changes: applied over `set`. Errors: InputError."""
        return load(self.topology, self.workload, {**self.set, **(changes or {})})


class StepCase(_Published):
    """A training step or run whose figure was published."""

    quantity: Quantity = Field(description="one of scenario.QUANTITIES")
    published: float = Field(gt=0, description="in the quantity's unit")
    alternatives: tuple[dict[str, Any], ...] = Field(
        (), description="other choices for what the source does not say"
    )


class MemoryCase(_Published):
    """Bytes on one GPU that were published."""

    what: Literal["parameters_and_optimizer", "activations", "peak"] = Field(
        description="what was counted"
    )
    stage: Literal["first", "middle", "largest"] = Field(
        description="pipeline index that was counted"
    )
    published_gib: float = Field(0.0, ge=0, description="in GiB")
    published_gb: float = Field(0.0, ge=0, description="in GB, where the source writes that")

    @property
    def published(self) -> float:
        """Return the published figure [B]."""
        return self.published_gib * 2**30 or self.published_gb * 1e9


class CaseFile(BaseModel):
    """One publication."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="the publication")
    cases: tuple[StepCase, ...] = Field((), description="steps and runs")
    memory: tuple[MemoryCase, ...] = Field((), description="bytes on a GPU")


def files() -> dict[str, CaseFile]:
    """Return every file of published cases by its name."""
    names = sorted(path.stem for path in (inputs.ROOT / "data" / "cases").glob("*.yaml"))
    return {name: inputs.validate(inputs.data("cases", name), CaseFile) for name in names}
