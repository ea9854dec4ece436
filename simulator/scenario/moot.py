"""Keys that do nothing at a degree of parallelism: said, not refused.

One rule for all: what a stack, a GPU or a model cannot do is refused; what a degree leaves nothing to
do for is taken and said, for at another point of a sweep over that degree it does something.
"""

from __future__ import annotations

from typing import NamedTuple

from simulator.layout import ZeroStage
from simulator.scenario.value import Scenario


class Moot(NamedTuple):
    """A key that does nothing in a scenario."""

    key: str
    """Path of the key."""
    value: object
    """What it says."""
    why: str
    """Degree that leaves it nothing to do."""

    def __str__(self) -> str:
        """Return it as a sentence."""
        value = str(self.value).lower() if isinstance(self.value, bool) else self.value
        return f"{self.key} = {value} does nothing with {self.why}"


class _Row(NamedTuple):
    """A key of `layout`, and when it does nothing."""

    name: str
    """Its name there."""
    idle: bool
    """Whether a degree leaves it nothing to do."""
    why: str
    """Which degree."""


def moot_keys(scenario: Scenario) -> tuple[Moot, ...]:
    """Return the keys that do nothing at the degrees of a scenario."""
    config, zero = scenario.workload.layout, scenario.layout.zero
    whole = "gathers before every pass" if zero else "gathers no parameters"
    rows = (
        _Row("tp_comm_overlap", scenario.layout.tp == 1, "layout.tp 1, which has no collectives"),
        _Row("cp_comm", scenario.layout.cp == 1, "layout.cp 1, which shares no sequence"),
        _Row(
            "reshard_after_forward",
            zero < ZeroStage.PARAMETERS,
            f"layout.zero {zero}, whose parameters are whole all the time",
        ),
        _Row(
            "overlap_param_gather",
            zero in (0, ZeroStage.PARAMETERS),
            f"layout.zero {zero}, which {whole}",
        ),
        _Row("grad_sync", scenario.micro_batches == 1, "one micro-batch, after which both sum"),
    )
    found = []
    for row in rows:
        value = getattr(config, row.name)
        if row.idle and value != type(config).model_fields[row.name].default:
            found.append(Moot(f"layout.{row.name}", value, row.why))
    send = scenario.workload.communication.pipeline.overlap
    if send != "stack" and scenario.layout.pp == 1:
        why = "layout.pp 1, which has nothing to send between stages"
        found.append(Moot("communication.pipeline.overlap", send, why))
    return tuple(found)
