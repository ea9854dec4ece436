"""A cluster, as a topology file describes it."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from simulator.errors import InputError
from simulator.topology.families import FABRICS
from simulator.topology.faults import Fault
from simulator.topology.jitter import Jitter
from simulator.topology.parts import Cluster, Fabric, Prices
from simulator.units import Price

_COMMON = {"kind", "switch_ports", "latency", "leaf_latency", "routing", "seed"}


class TopologyConfig(Cluster):
    """A cluster of equal nodes, what is broken in it, and what it costs."""

    price: Price = Field(description="rent [USD per GPU-hour]")
    prices: Prices | None = Field(None, description="of the network's parts, for its cost")
    faults: tuple[Fault, ...] = Field((), description="what is down or unlike the rest")
    jitter: Jitter | None = Field(None, description="GPUs that are slower by chance")

    @field_validator("fabric")
    @classmethod
    def _the_family_takes_these_keys(cls, fabric: Fabric, _: ValidationInfo) -> Fabric:
        if fabric.kind not in FABRICS:
            raise InputError(
                "is no kind of fabric known here",
                key="kind",
                value=fabric.kind,
                remedy=f"Known: {', '.join(FABRICS)}.",
            )
        family, given = FABRICS[fabric.kind], fabric.model_fields_set
        known = (*family.needs, *family.takes)
        for key in sorted(given - _COMMON - set(known)):
            owners = [
                kind for kind, other in FABRICS.items() if key in (*other.needs, *other.takes)
            ]
            raise InputError(
                f"is a key of {', '.join(owners)}, not of {fabric.kind}",
                key=key,
                value=key,
                remedy=f"Leave it out; {fabric.kind} knows {', '.join(known) or 'no key of its own'}.",
            )
        for key in family.needs:
            if not getattr(fabric, key):
                raise InputError(
                    f"is missing, which {fabric.kind} needs", key=key, remedy=f"Add '{key}:' there."
                )
        if fabric.seed and fabric.routing != "ecmp":
            raise InputError(
                "is a seed that nothing hashes with",
                key="seed",
                value=fabric.seed,
                remedy="Write routing: ecmp, or leave it out.",
            )
        return fabric

    @property
    def at_full_speed(self) -> TopologyConfig:
        """Return the same cluster with no GPU slower than the others; what is down stays down."""
        healthy = tuple(fault.model_copy(update={"speed": None}) for fault in self.faults)
        return self.model_copy(update={"jitter": None, "faults": healthy})

    @property
    def routing(self) -> str:
        """Return how traffic finds its way: the file's word, or the family's."""
        return self.fabric.routing or FABRICS[self.fabric.kind].routing
