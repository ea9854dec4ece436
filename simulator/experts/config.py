"""What a workload says of its experts: how tokens choose them, where they live, what is dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, Field, model_validator

from simulator.errors import InputError, leave_out
from simulator.frozen import FINITE
from simulator.units import Integer, Number

Distribution = Literal["balanced", "random", "power_law", "log_normal", "dirichlet", "recorded"]
USES: dict[str, tuple[str, ...]] = {
    "balanced": (),
    "random": (),
    "power_law": ("exponent",),
    "log_normal": ("sigma", "max_violation", "gini"),
    "dirichlet": ("concentration",),
    "recorded": ("file",),
}
"""distribution -> the keys of which it needs exactly one; the others' keys are refused."""


class ExpertsConfig(BaseModel):
    """How tokens choose experts, and what the exchange costs the GPU."""

    model_config = FINITE

    distribution: Distribution = Field(
        "balanced",
        description=(
            "How popular the experts are: balanced (each gets the same in every micro-batch), random "
            "(alike, but tokens choose by chance: Megatron's forced balance), power_law (with "
            "exponent), log_normal (with sigma, max_violation or gini), dirichlet (with "
            "concentration) or recorded (with file)."
        ),
    )
    dispatcher: str = Field(
        "stack",
        description=(
            "What brings tokens to their experts: deepep (once per node, then over NVLink), "
            "deepep_flat (once per GPU), deepep_low_latency (once per expert), hybridep (as deepep, "
            "with fewer SMs), all_to_all (once per expert, as a collective), all_gather (every "
            "token to every GPU), or stack: what the software stack takes, all_to_all where that "
            "does not run on the GPU."
        ),
        examples=["all_to_all"],
    )
    seed: Integer = Field(
        0, ge=0, description="Seed of the popularities and of the sampled router scores."
    )
    sms: Integer | None = Field(
        None,
        ge=0,
        description=(
            "Number of SMs that copy tokens in dispatch and combine, and that GEMMs do without in "
            "overlapped pairs of chunks; without it those that the dispatcher's library takes: 20 "
            "of deepep, 16 of hybridep, 32 and 24 of NCCL's all_to_all and all_gather."
        ),
        examples=[20],
    )
    exponent: Number | None = Field(
        None,
        ge=0,
        description="Exponent of power_law: the n-th expert's popularity goes as n^-exponent.",
        examples=[0.5],
    )
    sigma: Number | None = Field(
        None,
        ge=0,
        description="Standard deviation of the logarithm of an expert's popularity, of log_normal.",
        examples=[0.3],
    )
    max_violation: Number | None = Field(
        None,
        ge=0,
        description=(
            "MaxVio of log_normal: (largest - mean load) / mean load of the experts, mean over "
            "layers."
        ),
        examples=[0.04],
    )
    gini: Number | None = Field(
        None,
        ge=0,
        lt=1,
        description=(
            "Gini coefficient of log_normal: half the mean difference of two experts' loads over "
            "the mean load, mean over layers."
        ),
        examples=[0.105],
    )
    concentration: Number | None = Field(
        None,
        gt=0,
        description="Concentration of dirichlet for each expert: the larger, the more even.",
        examples=[10],
    )
    file: str | None = Field(
        None,
        description=(
            "Counts of recorded, [layer, expert] or [step, layer, expert], as CSV or NPZ; the path "
            "is relative to the workload file."
        ),
        examples=["loads.csv"],
    )
    capacity_factor: Number | None = Field(
        None,
        gt=0,
        description=(
            "Multiple of an even share beyond which tokens are dropped, per GPU and expert; "
            "without it none are."
        ),
        examples=[1.25],
    )
    resolve: Literal["worst", "each"] = Field(
        "worst",
        description=(
            "Whether the busiest GPU of an expert group represents all (worst), or every GPU has "
            "its own load (each), which is exact and slower."
        ),
    )
    redundant_experts: Integer = Field(
        0,
        ge=0,
        description="Number of replicas of experts, placed by EPLB next to the experts themselves.",
    )

    @property
    def even(self) -> bool:
        """Tell whether every expert gets the same and keeps all of it."""
        return (
            self.distribution == "balanced"
            and self.capacity_factor is None
            and not self.redundant_experts
        )

    @property
    def alike(self) -> bool:
        """Tell whether every expert of every layer is as popular as any other."""
        return self.distribution in ("balanced", "random")

    @property
    def by_chance(self) -> bool:
        """Tell whether loads differ from micro-batch to micro-batch, as tokens choose one by one."""
        # What capacity caps does not pile up, and recorded counts are as they were recorded.
        return self.distribution not in ("balanced", "recorded") and self.capacity_factor is None

    @model_validator(mode="after")
    def _keys_fit(self) -> ExpertsConfig:
        needed = USES[self.distribution]
        for owner, keys in USES.items():
            for key in keys:
                if key not in needed and getattr(self, key) is not None:
                    raise InputError(
                        f"is not used by distribution {self.distribution}",
                        key=key,
                        value=getattr(self, key),
                        remedy=f"{leave_out(f'experts.{key}')} It belongs to distribution: {owner}.",
                    )
        given = [key for key in needed if getattr(self, key) is not None]
        if needed and len(given) != 1:
            raise self._count_error(needed, given)
        return self

    def _count_error(self, needed: Sequence[str], given: Sequence[str]) -> InputError:
        """Return what to say where not exactly one of the needed keys is given."""
        *others, last = needed
        rule = f"needs {', '.join(others)} or {last}" if others else f"needs {last}"
        remedy = f"Add '{needed[0]}:' there."
        if given:
            rule += ", only one of them"
            remedy = f"Leave out {given[-1]}."
        return InputError(rule, key="distribution", value=self.distribution, remedy=remedy)
