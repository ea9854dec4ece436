"""A study as text for a terminal. Returns what `cli` prints; prints nothing itself."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from simulator.cli.tables import number, table
from simulator.compare import memory_line
from simulator.engine import CODE
from simulator.layout import Layout
from simulator.report import Report, mean_share
from simulator.report.parts import PARTS
from simulator.scenario import moot_keys
from simulator.trust import sentences
from simulator.units import format_bytes, format_seconds
from simulator.whatif import HostInterval, Imbalance, Stragglers, Study
from simulator.whatif.sentences import cost_sentence, spread_sentence, waits_sentence


def study_text(study: Study) -> Iterator[RenderableType]:
    """Yield the parts of a report and of what other scenarios say of it."""
    report = study.report
    # First of all, since no other figure means anything for a run that cannot run.
    if not report.fits:
        yield from _misfit(study)
        yield Text()
    yield from _scenario(report)
    yield Text()
    yield _step(report)
    yield from _trust(study)
    yield Text()
    yield _run(report)
    yield Text()
    yield _breakdown(report)
    hidden = mean_share(report.overlap)
    if hidden is not None:
        line = f"{hidden:.1%} of communication overlaps with compute, all ranks"
        yield Text(line, style="dim")
    yield Text()
    memory = memory_line(report)
    yield Text(f"Peak memory: {memory}", style="bold")
    yield _memory(report)
    yield Text()
    yield _bounds(report)
    yield Text()
    for penalty in _penalties(study):
        yield Text(penalty, style="bold")
        yield Text()
    if report.references():
        yield _references(report)
        yield Text()
    if study.assumed:
        yield from _assumed(study)
        yield Text()
    if study.sensitivity:
        yield _sensitivity(study)
        yield Text()
    yield Text(_kernels(report), style="dim")
    yield Text(_engine(study), style="dim")


def _misfit(study: Study) -> Iterator[Text]:
    """Yield that a run does not fit, and what would make it fit, the cheapest first."""
    report = study.report
    capacity = report.scenario.gpu.memory.capacity
    memory = memory_line(report)
    yield Text(f"This run does not fit: {memory}", style="bold red")
    for remedy in study.remedies:
        verdict = "fits" if remedy.peak <= capacity else "still too much"
        freed = format_bytes(report.worst_memory.peak - remedy.peak)
        peak = format_bytes(remedy.peak)
        # A change that saves time is not sold as one: the bubble is not counted.
        added = format_seconds(max(0.0, remedy.seconds))
        # In quotes, so that a shell takes the brackets of a list as they are.
        option = f"--set '{remedy.key}={remedy.value}'"
        line = (
            f"  {option} frees {freed}: {peak}, {verdict}; "
            f"adds {added} per step, not counting gradients and bubble"
        )
        yield Text(line, style="red")


def _scenario(report: Report) -> Iterator[Text]:
    scenario = report.scenario
    site = scenario.topology
    schedule = scenario.workload.schedule.name
    yield Text(f"{scenario.model.name} on {site.name}", style="bold")
    gpu = scenario.gpu.name.upper()
    tokens = number(scenario.tokens_per_step)
    parts = (
        f"{site.gpus:,} {gpu} GPUs",
        _degrees(scenario.layout),
        f"{schedule}, {scenario.micro_batches} micro-batches",
        scenario.recipe.name,
        f"{tokens} tokens per step",
    )
    yield Text("; ".join(parts))
    for moot in moot_keys(scenario):
        yield Text(f"{moot}.", style="dim")


def _degrees(layout: Layout) -> str:
    """Return the degrees of a layout; those of 1 are left out where others say more."""
    degrees = {
        "tp": layout.tp,
        "cp": layout.cp,
        "pp": layout.pp,
        "vpp": layout.vpp,
        "ep": layout.ep,
        "etp": layout.etp,
    }
    shown = [f"{name} {size}" for name, size in degrees.items() if size > 1]
    shown += [f"dp {layout.dp}", f"zero {layout.zero}"]
    return ", ".join(shown)


def _step(report: Report) -> Table:
    quantities = report.quantities()
    tera = report.peak_flops / 1e12
    peak = f"of {tera:.1f} TFLOP/s, {report.peak_name}"
    per_day = number(quantities["tokens_per_day"])
    rows = table("One step", "", "", "", left=3)
    rows.add_row("step time", format_seconds(report.step_time), "")
    rows.add_row("tokens per day", per_day, "")
    rows.add_row(
        "model FLOP/s per GPU",
        f"{quantities['tflops_per_gpu']:.1f} TFLOP/s",
        "causal attention, output head, no recompute, no MTP",
    )
    rows.add_row("MFU", f"{report.mfu:.1%}", peak)
    rows.add_row(
        "HFU",
        f"{report.hfu:.1%}",
        "everything that ran, including recompute and MTP; same peak",
    )
    return rows


def _trust(study: Study) -> Iterator[Text]:
    """Yield the interval on the step, and where it comes from."""
    interval, *sources = sentences(study.trust)
    yield Text(interval, style="bold")
    for source in sources:
        yield Text(f"  {source}", style="dim")


def _run(report: Report) -> Table:
    scenario = report.scenario
    rows = table("The run", "", "", "", left=3)
    tokens = number(scenario.workload.training.tokens)
    steps = f"{report.steps:,.0f} steps at this batch size"
    rows.add_row("tokens", tokens, steps)
    rows.add_row("wall time", f"{report.wall_days:.1f} days", "")
    rows.add_row("GPU-hours", number(report.gpu_hours), "")
    cost = number(report.cost)
    price = f"at {scenario.topology.price:g} USD per GPU-hour"
    rows.add_row("cost", f"{cost} USD", price)
    return rows


def _breakdown(report: Report) -> Table:
    rows = table("Where the step goes (mean over ranks)", "part", "time", "share", "")
    for part in PARTS:
        seconds = report.breakdown.get(part.name, 0.0)
        absent = part.name not in report.breakdown
        if absent or (part.hidden_if_zero and not seconds):
            continue
        share = seconds / report.step_time
        rows.add_row(part.name, format_seconds(seconds), f"{share:.1%}", part.meaning)
    # The sum is shown because it is the step: nothing is counted twice or left out.
    total = format_seconds(sum(report.breakdown.values()))
    rows.add_row("sum", total, "100.0%", "", style="bold")
    return rows


def _memory(report: Report) -> Table:
    rows = table("", "category", "size")
    for name, size in report.worst_memory.by_category.items():
        rows.add_row(name, format_bytes(size))
    return rows


def _bounds(report: Report) -> Table:
    rows = table("Lower bounds: no step can be shorter", "bound", "time", "of step", "formula")
    for bound in report.bounds:
        seconds = format_seconds(bound.seconds)
        share = bound.seconds / report.step_time
        rows.add_row(bound.name, seconds, f"{share:.0%}", bound.formula)
    return rows


def _penalties(study: Study) -> Iterator[str]:
    """Yield what unequal experts, slow GPUs and hosts cost, where that says something."""
    if study.imbalance:
        yield _imbalance(study.report, study.imbalance)
    if study.stragglers:
        yield _stragglers(study.report, study.stragglers)
    if study.spread:
        yield spread_sentence(study.report, study.spread)
    if study.waits:
        yield waits_sentence(study.report, study.waits)
    if study.hosts:
        yield _hosts(study.report, study.hosts)


def _hosts(report: Report, interval: HostInterval) -> str:
    steps = [f"{format_seconds(step)} with {pace} ones" for pace, step in interval.steps.items()]
    return (
        f"Hosts of {report.scenario.stack.name} were not measured (simulated: {interval.pace}); "
        f"the step takes {', '.join(steps)}"
    )


def _imbalance(report: Report, penalty: Imbalance) -> str:
    cost = cost_sentence(report, "Expert imbalance costs", penalty.lost)
    return (
        f"{cost}; busiest GPU of a group: "
        f"{penalty.mean_share:.3f}x the mean load (mean over layers), "
        f"{penalty.worst_share:.3f}x in the worst layer; {penalty.dropped:.2%} of choices dropped"
    )


def _stragglers(report: Report, penalty: Stragglers) -> str:
    cost = cost_sentence(report, "Stragglers cost", penalty.lost)
    gpus = report.scenario.topology.gpus
    return (
        f"{cost}; {penalty.gpus:,} of {gpus:,} GPUs are slow, "
        f"the slowest runs at {penalty.slowest:.3f} of full speed"
    )


def _references(report: Report) -> Table:
    scenario = report.scenario
    title = "Compared with what was published"
    # An error would look like the simulator's where the user has changed the run.
    if not scenario.as_published:
        site = scenario.workload.published_on or "another cluster"
        title += f" (on {site} as shipped; this run differs)"
    rows = table(title, "quantity", "published", "simulated", "error", "source")
    for row in report.references():
        published = number(row.published)
        simulated = number(row.simulated)
        error = f"{row.error:+.1%}"
        rows.add_row(row.quantity, published, simulated, error, Text(row.source))
    return rows


def _assumed(study: Study) -> Iterator[Text]:
    yield Text("Assumed, because it was not published", style="bold")
    simulated = study.report.step_time
    for span in study.assumed:
        yield Text(f"{span.key} = {span.value}: {span.rule}")
        for other in span.alternatives:
            said = "does not fit this scenario"
            if other.step_time is not None:
                ratio = other.step_time / simulated - 1
                step = format_seconds(other.step_time)
                said = f"step {step} ({ratio:+.1%})"
            yield Text(f"  with {other.value}: {said}")


def _sensitivity(study: Study) -> Table:
    rows = table("What the step hangs on", "constant", "value", "a tenth more", "a tenth less")
    for row in study.sensitivity:
        rows.add_row(row.name, number(row.value), f"{row.up:+.2%}", f"{row.down:+.2%}")
    return rows


def _kernels(report: Report) -> str:
    gpu = report.scenario.gpu.name.upper()
    return (
        f"{report.measured_share:.0%} of the time of GEMMs is of shapes between measured ones on "
        f"{gpu}; the rest follows from fits"
    )


def _engine(study: Study) -> str:
    report = study.report
    ranks = report.scenario.topology.gpus
    one = report.rank_classes == 1
    classes = "1 class" if one else f"{report.rank_classes} classes"
    what = f"{report.ops:,} ops on {classes} of {ranks:,} ranks"
    return f"{_executor(report)}: {what}, {study.wall:.2f} s{_hint(report)}"


def _executor(report: Report) -> str:
    """Return who ran a step: where nobody was asked for, the compiled executor if its code is there."""
    if report.executor != "auto":
        return report.executor
    return "compiled" if CODE.on_disk() else "simpy"


def _hint(report: Report) -> str:
    slow = report.executor == "auto" and not CODE.on_disk()
    return "; `simulate compile`, once, makes runs faster" if slow else ""
