"""Every published step, run and memory figure next to the simulated one, and the errors by kind."""

from __future__ import annotations

from collections.abc import Sequence

from earlier import before, commit

from simulator.validate import Check, by_kind, score, validate
from simulator.validate.case import files

REASONS = """
What the simulator leaves out, in the order of its size in these cases:

- Communication kernels next to compute take SMs and memory bandwidth from it. In DeepSeek's overlapped pairs both are
  measured and simulated, and so they are of Transformer Engine's userbuffers; NCCL's kernels next to GEMMs take nothing
  from them yet. NCCL holds 16 to 24 of an H100's 132 SMs while it runs: up to an eighth of the time that it is hidden.
- FP8 per tensor: the GEMM table rests on five medians of one benchmark, and nothing was published of how far the clock
  falls under FP8 at the power limit.
- The host: launches, data loading, logging, garbage collection, and ranks that wait for the slowest of thousands.
- Fully sharded runs of MoE models (FSDP rows of moe_parallel_folding) have no published layout; they are shown, not
  scored.

Beyond 20%: Llama 405B in FP8 (megatron_bridge_h100 twice, mlperf_llama31_405b) is where tensor-parallel transfers are
largest next to the GEMMs, a third of their time, and GEMMs fastest: the first three points add up, and with every
transfer exposed, the other end of the span, a fifth of the step is still missing. DeepSeek-V2's number of GPUs, layout
and schedule were not published, nor how its custom kernels overlapped dispatch and combine.

"""


def page() -> str:
    """Return every published step, run and memory figure next to the simulated one. Takes minutes."""
    checks = [check for name in files() for check in validate((name,), alternatives=True)]
    steps = [check for check in checks if check.kind]
    old = before(steps)
    lines = [
        "# Whole steps compared with what was published",
        "",
        "One profile per GPU and one per software stack, calibrated on kernels, links and hosts alone; nothing is",
        "fitted to a step. What a source does not say follows a rule that does not look at the result, and the span",
        "over the other choices stands next to the error. Cases whose layout was not published are shown in brackets",
        "and not scored. Runs of one model and layout that differ by release, number of GPUs or batch are twins and",
        "count once. Where nobody profiled the hosts of a stack, the errors at each measured pace of hosts, lean to",
        "ordinary, stand next to them.",
        "",
        _headline(steps, list(old.values())),
        "",
        "## By kind",
        "",
        "Errors of time: below zero the simulator is too fast. "
        f"Before: commit {commit()}, when nothing of software stacks was modelled.",
        "",
        "| kind | cases | twins once | mean absolute error | before | mean error | before | worst | its error |",
        "|---|---:|---:|---:|---:|---:|---:|---|---:|",
        *_kinds(steps, list(old.values())),
        "",
        "## Every step",
        "",
        "| case | quantity | published | simulated | error | before | over the alternatives | over the hosts | fits |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|",
        *(_row(check, old.get(check.case)) for check in steps),
        *REASONS.splitlines(),
        "## Memory",
        "",
        "| case | what | published | simulated | error |",
        "|---|---|---:|---:|---:|",
        *(_memory(check) for check in checks if check.unit == "B"),
        "",
        "## Collectives",
        "",
        "| case | what | published | simulated | error |",
        "|---|---|---:|---:|---:|",
        *(_collective(check) for check in checks if check.unit == "us"),
        "",
        *_reproduce(),
        "",
    ]
    return "\n".join(lines)


def _headline(steps: Sequence[Check], old: Sequence[Check]) -> str:
    """Return the sentence that the README quotes."""
    now, then = score(steps), score(old)
    if now is None or then is None:
        return "**No step counts.**"
    within = sum(abs(check.slower) <= 0.1 for check in steps if check.scored)
    return (
        f"**{now.checks} steps and runs ({now.groups} with twins once): mean absolute error {now.mean:.1%} of time "
        f"(before: {then.mean:.1%}), mean error {now.signed:+.1%} ({then.signed:+.1%}), {within} within 10%, worst "
        f"{now.worst.case} {now.worst.slower:+.1%}.**"
    )


def _kinds(steps: Sequence[Check], old: Sequence[Check]) -> list[str]:
    """Return a row for each kind, today next to before."""
    earlier = {row.kind: row.score for row in by_kind(old)}
    lines = []
    for kind, now in by_kind(steps):
        then = earlier.get(kind)
        absolute = f"{then.mean:.1%}" if then else ""
        signed = f"{then.signed:+.1%}" if then else ""
        lines.append(
            f"| {kind} | {now.checks} | {now.groups} | {now.mean:.1%} | {absolute} | {now.signed:+.1%} | {signed} "
            f"| {now.worst.case} | {now.worst.slower:+.1%} |"
        )
    return lines


def _row(check: Check, old: Check | None) -> str:
    span, hosts = _ends(check, check.span), _ends(check, check.hosts)
    error = f"{check.error:+.1%}" if check.scored else f"({check.error:+.1%})"
    earlier = f"{old.error:+.1%}" if old else ""
    fits = {True: "yes", False: "no", None: ""}[check.fits]
    return (
        f"| {check.case} | {check.quantity} | {check.published:,.5g} {check.unit} | {check.simulated:,.5g} "
        f"{check.unit} | {error} | {earlier} | {span} | {hosts} | {fits} |"
    )


def _ends(check: Check, values: Sequence[float]) -> str:
    """Return the least and the largest error over some figures, nothing where they are one."""
    ends = [f"{value / check.published - 1:+.1%}" for value in values]
    return " to ".join(ends) if len(set(ends)) > 1 else ""


def _memory(check: Check) -> str:
    return (
        f"| {check.case} | {check.quantity.replace('_', ' ')} | {check.published / 1e9:.2f} GB "
        f"| {check.simulated / 1e9:.2f} GB | {check.error:+.1%}{'' if check.scored else ' (not scored)'} |"
    )


def _collective(check: Check) -> str:
    return (
        f"| {check.case} | {check.quantity} | {check.published:,.1f} us | {check.simulated:,.1f} us "
        f"| {check.error:+.1%} |"
    )


def _reproduce() -> list[str]:
    return [
        "Reproduce: `simulate validate --alternatives`; one source: `simulate validate megatron_2022`. The figures of",
        f"before stand in `results/before.json`: `simulate validate --json` at commit {commit()} with today's cases.",
    ]
