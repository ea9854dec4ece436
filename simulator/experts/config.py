"""What a workload says about its experts: how tokens choose them, where they live, what is dropped."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from simulator.errors import InputError

Distribution = Literal["balanced", "power_law", "log_normal", "dirichlet", "recorded"]
USES: dict[str, tuple[str, ...]] = {
    "balanced": (),
    "power_law": ("exponent",),
    "log_normal": ("sigma", "max_violation"),
    "dirichlet": ("concentration",),
    "recorded": ("file",),
}
"""distribution -> the keys of which it needs exactly one; the others' keys are refused."""


class ExpertsConfig(BaseModel):
    """How tokens choose experts, and what the exchange costs the GPU.

    distribution: balanced | power_law (exponent) | log_normal (sigma or max_violation) | dirichlet (concentration)
    | recorded (file). None: the key is not used.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    distribution: Distribution = Field("balanced", description="popularity of the experts")
    dispatcher: str = Field(
        "deepep",
        description="what brings tokens to their experts: deepep (once per node, then over NVLink), deepep_flat "
        "(once per GPU), deepep_low_latency (once per expert), all_to_all (once per expert, by NCCL)",
    )
    seed: int = Field(0, ge=0, description="of popularities and of the sampled router scores")
    sms: int = Field(20, ge=0, description="SMs that dispatch and combine hold in overlapped pairs")
    exponent: float | None = Field(
        None, ge=0, description="power law: popularity of the n-th expert ~ n^-exponent"
    )
    sigma: float | None = Field(
        None, ge=0, description="log-normal: deviation of a popularity's logarithm"
    )
    max_violation: float | None = Field(
        None,
        ge=0,
        description="log-normal: MaxVio = (largest - mean load) / mean load, mean over layers",
    )
    concentration: float | None = Field(
        None, gt=0, description="Dirichlet: parameter of each expert, large is even"
    )
    file: str | None = Field(
        None, description="recorded: CSV or NPZ, [layer, expert] or [step, layer, expert]"
    )
    capacity_factor: float | None = Field(
        None,
        gt=0,
        description="tokens beyond this multiple of an even share are dropped, per GPU and expert",
    )
    resolve: Literal["worst", "each"] = Field(
        "worst",
        description="the busiest GPU of a group stands for all, or every GPU has its own load: exact, slower",
    )
    redundant_experts: int = Field(
        0, ge=0, description="replicas beside the experts themselves, placed by EPLB"
    )

    @property
    def even(self) -> bool:
        """Tell whether every expert gets the same and keeps all of it."""
        return (
            self.distribution == "balanced"
            and self.capacity_factor is None
            and not self.redundant_experts
        )

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
                        remedy=f"Leave it out, or write distribution: {owner}.",
                    )
        given = [key for key in needed if getattr(self, key) is not None]
        if needed and len(given) != 1:
            rule = f"needs {' or '.join(needed)}" + (", not both" if given else "")
            raise InputError(
                rule,
                key="distribution",
                value=self.distribution,
                remedy=f"Add '{needed[0]}:' there." if not given else f"Leave out {given[-1]}.",
            )
        return self
