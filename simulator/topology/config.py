"""A cluster, as a topology file describes it."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from simulator.errors import InputError, leave_out
from simulator.topology.cluster import Cluster, Fabric, Prices
from simulator.topology.families import FABRICS
from simulator.topology.faults import Fault
from simulator.topology.jitter import Jitter
from simulator.units import Number, Price

_COMMON = {"kind", "switch_ports", "transport", "latency", "leaf_latency", "routing", "seed"}
"""Keys of `fabric` that every family takes."""


class TopologyConfig(Cluster):
    """A cluster of equal nodes, what is broken in it, and what it costs."""

    price: Price = Field(
        description="Rent of one GPU [USD per GPU-hour].", examples=["2 USD per GPU-hour"]
    )
    prices: Prices | None = Field(
        None, description="Prices of the network's parts; without them its cost is not computed."
    )
    faults: tuple[Fault, ...] = Field(
        (),
        description="Parts that are down or unlike the rest.",
        examples=[[{"nic": [3, 0], "down": True}, {"gpu": 7, "speed": 0.9}]],
    )
    jitter: Jitter | None = Field(None, description="GPUs that are slower by chance.")
    spread: Number | None = Field(
        None,
        gt=0,
        le=0.2,
        description=(
            "Standard deviation of the time that kernels take from GPU to GPU, relative: every group "
            "is as slow as its slowest member is expected to be. Default: GPUs are alike."
        ),
        examples=[0.01],
    )

    @field_validator("fabric")
    @classmethod
    def _the_family_takes_these_keys(cls, fabric: Fabric) -> Fabric:
        if fabric.kind not in FABRICS:
            raise InputError(
                "is not a known kind of fabric",
                key="kind",
                value=fabric.kind,
                remedy=f"Choose from: {', '.join(FABRICS)}.",
            )
        # Before what is missing: a key of another family often means that the kind is wrong.
        _refuse_keys_of_other_families(fabric)
        for key in FABRICS[fabric.kind].needs:
            if not getattr(fabric, key):
                raise InputError(
                    f"is missing, which {fabric.kind} needs", key=key, remedy=f"Add '{key}:' there."
                )
        if fabric.seed and fabric.routing != "ecmp":
            raise InputError(
                "is a seed that nothing hashes with",
                key="seed",
                value=fabric.seed,
                remedy="Write routing: ecmp, or leave it out: --set fabric.seed=null removes it.",
            )
        return fabric

    @model_validator(mode="after")
    def _one_kind_of_chance(self) -> TopologyConfig:
        if self.spread and self.jitter:
            raise InputError(
                "is what jitter draws GPU by GPU",
                key="spread",
                value=self.spread,
                remedy="Leave out one of them: --set spread=null or --set jitter=null.",
            )
        return self

    @property
    def at_full_speed(self) -> TopologyConfig:
        """Return the same cluster with no GPU slower than the others; what is down stays down."""
        faults = []
        for fault in self.faults:
            faults.append(fault.model_copy(update={"speed": None}))
        return self.model_copy(update={"jitter": None, "faults": tuple(faults)})

    @property
    def routing(self) -> str:
        """Return how traffic finds its way: the file's word, or the family's."""
        return self.fabric.routing or FABRICS[self.fabric.kind].routing


def _refuse_keys_of_other_families(fabric: Fabric) -> None:
    """Refuse keys that the fabric's family does not read. Errors: InputError."""
    known = FABRICS[fabric.kind].keys
    foreign = fabric.model_fields_set - _COMMON - set(known)
    for key in sorted(foreign):
        owners = [kind for kind, family in FABRICS.items() if key in family.keys]
        raise InputError(
            f"is a key of {', '.join(owners)}, not of {fabric.kind}",
            key=key,
            value=key,
            remedy=(
                f"{leave_out(f'fabric.{key}')} "
                f"Keys of {fabric.kind}: {', '.join(known) or 'none of its own'}."
            ),
        )
