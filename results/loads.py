"""What uneven experts cost steps: forced balance, published spreads, and none at all."""

from __future__ import annotations

from typing import Any, NamedTuple

from cells import row

from simulator import load
from simulator.costs import loads
from simulator.whatif import simulate


class Run(NamedTuple):
    """A shipped workload on the cluster that it was published on."""

    name: str
    """What the page calls it."""
    topology: str
    """Name of a shipped topology."""
    workload: str
    """Name of a shipped workload."""
    changes: dict[str, Any]
    """To the workload, beside how its experts are chosen."""


class Spread(NamedTuple):
    """One way to choose experts."""

    name: str
    """Heading of its column."""
    distribution: str
    """`experts.distribution`."""
    keys: dict[str, float]
    """Of `experts`."""


_FOLDED = {"layout.tp": 1, "layout.cp": 8, "layout.ep": 8, "layout.etp": 1, "layout.cp_comm": "p2p"}
RUNS = (
    Run("DeepSeek-V3, EP64", "h800-2048", "deepseek-v3", {}),
    Run("DeepSeek-V3 on Megatron, EP64", "h100-1024", "deepseek-v3-megatron", {}),
    Run("Qwen3-235B, EP32", "h100-256", "qwen3-235b-a22b", {}),
    Run("Qwen3-30B, EP8", "h100-16", "qwen3-30b-a3b", {}),
    Run("MegaScale-MoE, EP8", "h800-240", "megascale-moe-352b", _FOLDED),
    Run("Mixtral 8x7B, EP8", "h100-64", "mixtral-8x7b", {}),
)
SPREADS = (
    Spread("balanced", "balanced", {}),
    Spread("random", "random", {}),
    Spread("Gini 0.021", "log_normal", {"experts.gini": 0.021}),
    Spread("MaxVio 0.04", "log_normal", {"experts.max_violation": 0.04}),
    Spread("Gini 0.105", "log_normal", {"experts.gini": 0.105}),
    Spread("Gini 0.24", "log_normal", {"experts.gini": 0.24}),
)
_CLEARED = {"experts.gini": None, "experts.max_violation": None}


def page() -> str:
    """Return the busiest GPU and the step of each run under each spread."""
    heads = [spread.name for spread in SPREADS]
    lines = [
        "# What uneven experts cost a step",
        "",
        "Above: rows of the busiest GPU of a layer over the mean, mean over layers. Below: step, and how much longer",
        "than with balanced experts.",
        "",
        row("run", *heads),
        row("---", *["---:"] * len(heads)),
    ]
    for run in RUNS:
        lines += _rows(run)
    lines += [
        "",
        "`random` is Megatron's forced balance, chance alone. MaxVio 0.04 is what loss-free balancing reaches over a",
        "validation set (arXiv 2408.15664), a Gini coefficient of 0.105 DeepSeek-MoE-16B on text, 0.24 the least of",
        "the two least even of five models (arXiv 2605.20982), 0.021 a training run with 8 experts, less chance:",
        "`simulator/data/measured/expert_loads.yaml`. Which workload has which follows from how it was run: forced",
        "(`random`), even by construction or by dropping tokens (`balanced`), real tokens (a published spread).",
        "No source gives the spread of single micro-batches of a run of V3's size: what the log-normal spreads say of",
        "many experts on many GPUs (EP64) is an extrapolation from one model each. Chance makes DeepSeek-V3's step a",
        "little shorter though kernels take no less and the longest chain of ops grows: stages wait less for sends",
        "and for each other. With EP32, or half as many micro-batches, it makes the step longer.",
        "",
        "Reproduce: `python results/make.py loads.md`.",
        "",
    ]
    return "\n".join(lines)


def _rows(run: Run) -> list[str]:
    shares, steps = [], []
    for spread in SPREADS:
        keys = {"experts.distribution": spread.distribution, **_CLEARED, **spread.keys}
        one = load(run.topology, run.workload, {**run.changes, **keys})
        found = loads(one)
        shares.append(found.mean_share if found else 1.0)
        steps.append(simulate(one).step_time)
    even = steps[0]
    first = row(run.name, *[f"{share:.3f}" for share in shares])
    cells = [f"{even:.2f} s", *[f"{step / even - 1.0:+.1%}" for step in steps[1:]]]
    return [first, row("", *cells)]
