"""What GPUs of unequal speed would cost runs whose weak scaling was published, next to what they lost."""

from __future__ import annotations

from typing import NamedTuple

from cells import row

from simulator.validate.case import StepCase, files
from simulator.whatif import Study, study


class Ladder(NamedTuple):
    """Two runs of one model that differ in the number of GPUs."""

    name: str
    """What is trained."""
    small: str
    """Case of the smaller run."""
    large: str
    """Case of the larger run."""


LADDERS = (
    Ladder("Llama 8B, H100", "dgxc_h100/8b-8", "dgxc_h100/8b-16"),
    Ladder("Llama 70B, H100", "dgxc_h100/70b-64", "dgxc_h100/70b-128"),
    Ladder(
        "MPT 7B, FSDP, H100",
        "user_measurements/mpt7b-fsdp-128h100",
        "user_measurements/mpt7b-fsdp-512h100",
    ),
)


class Cost(NamedTuple):
    """A run, and how much longer a token takes on unequal GPUs."""

    seconds: float
    """Time of one GPU that a token takes with equal GPUs [s]."""
    longer: tuple[float, ...]
    """Relative, of each deviation [deviation]."""


def page() -> str:
    """Return the published losses next to the simulated ones, with and without a spread of GPU speeds."""
    cases = {case.case: case for table in files().values() for case in table.cases}
    lines = [
        "# What is lost from few GPUs to many",
        "",
        "Weak scaling that was published, next to what the simulator says of equal GPUs and of GPUs whose speeds",
        "differ by 1, 2 or 3% (`topology.spread`, standard deviation). More time of one GPU for a token than in the",
        "smaller run.",
        "",
        "| runs | GPUs | published | equal GPUs | spread 1% | 2% | 3% |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    lines += [_row(ladder, cases[ladder.small], cases[ladder.large]) for ladder in LADDERS]
    lines += [
        "",
        "What unequal GPUs cost a run by itself, against one of equal GPUs:",
        "",
        "| run | GPUs | 1% | 2% | 3% |",
        "|---|---:|---:|---:|---:|",
    ]
    for ladder in LADDERS:
        for name in (ladder.small, ladder.large):
            lines.append(_alone(cases[name]))
    lines += [
        "",
        "Order statistics of the groups that wait for each other, in closed form. A few GPUs lose most of it already:",
        "the slowest of 8 is expected at 1.4 deviations, of 64 at 2.4, of 512 at 3.0. Doubling adds a quarter of a",
        "deviation, so that Llama's +0.1 and +0.2% leave no room for more than 1%, of GPUs that were chosen by chance",
        "in both runs. MPT's loss is larger than any such spread explains. No spread is the default.",
        "",
        "Reproduce: `python results/make.py scaling.md`.",
        "",
    ]
    return "\n".join(lines)


def _row(ladder: Ladder, small: StepCase, large: StepCase) -> str:
    few, many = study(small.scenario()), study(large.scenario())
    before, after = _cost(few), _cost(many)
    grown = after.seconds / before.seconds
    cells = [f"{grown - 1:+.1%}"]
    for less, more in zip(before.longer, after.longer, strict=True):
        cells.append(f"{grown * (1 + more) / (1 + less) - 1:+.1%}")
    published = _published(large, many) / _published(small, few)
    gpus = f"{few.report.scenario.topology.gpus} -> {many.report.scenario.topology.gpus}"
    return row(ladder.name, gpus, f"{published - 1:+.1%}", *cells)


def _alone(case: StepCase) -> str:
    found = study(case.scenario())
    cells = [f"{longer:+.1%}" for longer in _cost(found).longer]
    return row(case.case, str(found.report.scenario.topology.gpus), *cells)


def _cost(found: Study) -> Cost:
    report = found.report
    assert found.spread is not None
    longer = tuple(cost.lost / report.step_time for cost in found.spread.costs)
    return Cost(1.0 / report.quantities()["tokens_per_second_per_gpu"], longer)


def _published(case: StepCase, found: Study) -> float:
    """Return the published time of one GPU that a token takes [s]."""
    if case.quantity == "tokens_per_second_per_gpu":
        return 1.0 / case.published
    scenario = found.report.scenario
    return case.published * scenario.topology.gpus / scenario.tokens_per_step
