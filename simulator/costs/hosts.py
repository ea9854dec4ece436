"""What the host of a rank needs to launch ops and transfers.

A host launches what a rank runs in the order of the program, one op after another, and a GPU begins
nothing before it is launched. What a CUDA graph has captured is launched at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from simulator.compute import Sensitivity
from simulator.costs.segments import Busy, Launches
from simulator.hardware import LAUNCHES, Drain, HostConfig
from simulator.ops import Op, Pass, Phase
from simulator.ops.expert_kernels import CASTS, GEMMS

_CLASSES = {
    "gemm": "gemm",
    "wgrad": "gemm",
    "attention": "attention",
    "attention_backward": "attention",
    "norm": "norm",
    "norm_backward": "norm",
    "fused_norm": "norm",
    "fused_norm_backward": "norm",
    "apex_norm": "norm",
    "apex_norm_backward": "norm",
    # Compiled code launches it like any kernel of its own: no module's code stands around it.
    "compiled_norm": "elementwise",
    "compiled_norm_backward": "elementwise",
}
"""Op kind -> class of launches; every other kind is elementwise."""

_FROM_ONE_CALL = GEMMS | CASTS

_ATTENTION = frozenset((Phase.ATTENTION_F, Phase.ATTENTION_B, Phase.ATTENTION_T, Phase.ATTENTION_W))
_SCOPES: dict[str, frozenset[Phase]] = {
    "none": frozenset(),
    "attention": _ATTENTION,
    "full": frozenset(Phase),
}
"""`training.cuda_graphs` -> phases that are captured."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """The hosts of one run: a software stack, and what CUDA graphs take off it."""

    config: HostConfig
    """Their pace."""
    drains: tuple[Drain, ...]
    """What they wait for."""
    graphs: str
    """`training.cuda_graphs`."""
    sharded: float = 0.0
    """What a gather of sharded parameters takes, the profiler on; 0: as any collective [s]."""

    def captured(self, phase: Phase) -> bool:
        """Tell whether a phase is launched as a graph."""
        return phase in _SCOPES[self.graphs]

    def seconds(self, op: Op, phase: Phase, *, first: bool) -> float:
        """Return what launching an op takes [s]. first: none of its phase came before."""
        config = self.config
        if self.captured(phase):
            return config.graph / config.profiler if first else 0.0
        forward = phase.computes == Pass.FORWARD
        table = config.forward if forward else config.backward
        own = table[_CLASSES.get(op.kind, "elementwise")]
        # GEMMs of several experts and their casts are launched from one call, small kernels of a
        # router from as many.
        further = config.repeat if op.kind in _FROM_ONE_CALL else own
        return (own + (op.launches - 1) * further) * config.launches / config.profiler

    def transfer(self, phase: Phase) -> Busy:
        """Return what launching a transfer inside a phase takes."""
        return NO_LAUNCH if self.captured(phase) else self.collective()

    def collective(self, *, drains: bool = False) -> Busy:
        """Return what launching a transfer outside of phases takes. drains: see `Busy`."""
        host = self.config.communication / self.config.profiler
        return Busy(0.0, Launches((host,), (0.0,)), drains)

    def of_shards(self, *, drains: bool = False) -> Busy:
        """Return what a gather of sharded parameters, or a reduction to shards, takes."""
        if not self.sharded:
            return self.collective(drains=drains)
        host = self.sharded / self.config.profiler
        return Busy(0.0, Launches((host,), (0.0,)), drains)

    def copy(self, seconds: float, sensitivity: Sensitivity) -> Busy:
        """Return what a copy outside of phases takes. seconds: on a healthy GPU [s]."""
        config = self.config
        host = config.forward["elementwise"] * config.launches / config.profiler
        return Busy(seconds, Launches((host,), (seconds,)), sensitivity=sensitivity)

    def optimizer(self, seconds: float, sensitivity: Sensitivity) -> Busy:
        """Return what the update takes. seconds: on a healthy GPU [s]."""
        # The norm of the gradients is read on the host before parameters are updated.
        copying = self.copy(seconds, sensitivity)
        return copying._replace(drains="gradient_norm" in self.drains)

    def receive(self, busy: Busy, virtual: int) -> Busy:
        """Return what the first row behind what another stage sends takes. virtual: stages per rank."""
        blocks = "receive" in self.drains and virtual == 1 and self.graphs != "full"
        return busy._replace(drains=True) if blocks else busy

    def exchange(self, *, counts: bool) -> Busy:
        """Return what launching dispatch or combine takes. counts: the host asks how many tokens arrive."""
        if self.graphs == "full":
            return NO_LAUNCH
        return self.collective(drains=counts and "token_counts" in self.drains)


NO_LAUNCH = Busy(0.0)
"""Of a transfer that a graph has captured."""

_NO_TIME = dict.fromkeys(LAUNCHES, 0.0)
AT_ONCE = Hosts(
    HostConfig.model_construct(
        name="at once",
        forward=_NO_TIME,
        backward=_NO_TIME,
        communication=0.0,
        repeat=0.0,
        launches=1.0,
        profiler=1.0,
        graph=0.0,
        sources={},
    ),
    (),
    "none",
)
"""Hosts that launch everything in no time."""
