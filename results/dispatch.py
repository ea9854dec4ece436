"""Dispatch and combine: computed compared with measured, and V3's step by every dispatcher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gallery
from cells import row

from simulator import plot
from simulator.collectives import DISPATCHERS, CoflowKind
from simulator.report import Report
from simulator.residuals.exchanges import (
    BF16,
    Curve,
    Exchanges,
    Run,
    Setting,
    curves,
    exchanges,
    timed,
)
from simulator.store import write

SITES = ("h800-2048", "h100-2048")
SMS = (4, 8, 12, 16, 20, 24)
USES = {"fitted": "fit", "links": "links", "check": "check"}


def table() -> str:
    """Return every class of measured exchange, and the steps that the command compares."""
    named = ", ".join(DISPATCHERS)
    lines = [
        "# Bringing tokens to their experts",
        "",
        "Kernels alone, without what precedes them on their stream. No row is of a training step. An error is",
        "computed over measured, less one; bias is its mean. `fit`: SM rates and times to fill come from these rows,",
        "`links`: the shares of links do, `check`: nothing does.",
        "",
        "| class | rows | use | bias | rms | worst |",
        "|---|---:|---|---:|---:|---:|",
        *(errors(one) for one in exchanges()),
        "",
        *NOTES,
        "- EP64 on H100: Megatron-LM's all-to-all takes 1.98 times as long as DeepEP or HybridEP (arXiv 2603.07685,",
        f"  read in notes only: a check of the size), {plain_over_deepep():.2f} times here.",
        "",
        "## As fast as SMs allow",
        "",
        "4,096 tokens of DeepSeek-V3 per GPU, DeepEP on H100: computed and measured in us.",
        "",
        *over_sms(curves()),
        "",
        "![time over SMs](dispatch-sms.png)",
        "",
        "## DeepSeek-V3's step by every dispatcher",
        "",
        "2,048 GPUs, PP16, EP64, DualPipe; everything but the dispatcher as DeepSeek had it. SMs are those that the",
        "library takes, and that GEMMs do without. Bytes are those that a GPU sends for its experts in a step.",
        "",
        "| cluster | dispatcher | SMs | step | exposed expert traffic | over NICs | over NVLink | memory |",
        "|---|---|---:|---:|---:|---:|---:|---|",
        *(step(site, name) for site in SITES for name in DISPATCHERS),
        "",
        "![parts of the step](dispatchers.png)",
        "",
        *STEPS,
        "",
        f"Reproduce: `simulate compare {' '.join(SITES)} --set 'experts.dispatcher=[{named}]'`,",
        "with `--plot dispatchers.png` for the figure.",
        "",
        "## How many SMs?",
        "",
        "The same step on H800 with DeepEP, by `experts.sms`: few copy too slowly, many are missing for GEMMs.",
        "",
        "| SMs | step | exposed expert traffic |",
        "|---:|---:|---:|",
        *(with_sms(count) for count in SMS),
        "",
        "An exchange that is overlapped is slowed down by one factor here, measured with 20 SMs; with fewer it may",
        "be slowed down more. DeepSeek chose 20.",
        "",
    ]
    return "\n".join(lines)


def errors(one: Exchanges) -> str:
    """Return one class of exchanges as a row."""
    return row(
        one.name,
        str(len(one.measured)),
        USES[one.use],
        f"{one.bias:+.1%}",
        f"{one.rms:.1%}",
        f"{one.worst:+.1%}",
    )


def over_sms(found: Sequence[Curve]) -> list[str]:
    """Return the curves as a table: a column for each number of SMs that was measured."""
    columns = sorted({int(sms) for curve in found for sms in curve.sms})
    lines = [
        f"| | nodes | {' | '.join(f'{sms} SMs' for sms in columns)} |",
        f"|---|---:|{'---:|' * len(columns)}",
    ]
    for curve in found:
        by_sms = dict(zip(curve.line_sms.tolist(), curve.computed.tolist(), strict=True))
        cells = []
        for sms in columns:
            measured = 1e6 * curve.measured[curve.sms == sms].mean()  # us
            computed = 1e6 * by_sms[sms]
            cells.append(f"{computed:,.0f} ({measured:,.0f})")
        lines.append(row(curve.op, str(curve.nodes), *cells))
    return lines


def plain_over_deepep() -> float:
    """Return NCCL's all-to-all over DeepEP, 4,096 tokens of V3 in BF16 on 64 H100."""
    setting = Setting("h100", 8, 7168, 8, 256, "deepep", CoflowKind.DISPATCH, BF16)
    plain = setting._replace(dispatcher="all_to_all")
    run = Run(4096.0, 32)
    return timed(plain, run).seconds / timed(setting, run).seconds


def of(site: str, name: str) -> Report:
    """Return V3's step by a dispatcher."""
    return gallery.report(site, sets={"experts.dispatcher": name})


def step(site: str, name: str) -> str:
    """Return one step as a row."""
    report = of(site, name)
    nic, nvlink = report.traffic["expert"]
    return row(
        site,
        name,
        str(DISPATCHERS[name].sms),
        f"{report.step_time:.2f} s",
        f"{report.breakdown['expert_exposed']:.2f} s",
        f"{nic / 1e9:,.0f} GB",
        f"{nvlink / 1e9:,.0f} GB",
        "fits" if report.fits else "does not fit",
    )


def with_sms(count: int) -> str:
    """Return V3's step with a number of SMs as a row."""
    report = gallery.report("h800-2048", sets={"experts.sms": count})
    exposed = report.breakdown["expert_exposed"]
    return row(str(count), f"{report.step_time:.2f} s", f"{exposed:.2f} s")


def figures(folder: Path) -> None:
    """Draw both figures."""
    reports = [of(site, name) for site in SITES for name in DISPATCHERS]
    write(folder / "dispatchers.png", lambda path: plot.comparison(reports, path))
    write(folder / "dispatch-sms.png", lambda path: plot.over_sms(curves(), path))


NOTES = [
    "- An SM copies a token once for each node and once for each GPU that it goes to; DeepEP between nodes costs SMs",
    "  the same for either. A link is filled from some number of SMs on. NVLink reaches 0.69 and 0.73 of its rate by",
    "  the README's figures on H800, less the time to fill, and 0.66 and 0.70 in the H100 table: one share for both.",
    "- Of the 774 rows of 1, 2 and 4 nodes nine are missed by more than 12%, and cannot be expressed: dispatch on",
    "  two nodes with 12 SMs, of 512 to 131,072 tokens (-13, -17, -19, -24, -28, -30, -31, -31, -31%). It takes 1.5 to",
    "  1.9 times as long as with 16 SMs and hardly less than with 8, its notification five times as long as with",
    "  either, while combine of the same calls is in line: one disturbed run. No fit takes them.",
    "- On eight nodes ranks of that cluster drift apart: of 4,096 tokens with 20 SMs combine's payload takes 4,461 us,",
    "  as the README's rate says, dispatch's 5,516, 2.6 times as long, and combine's notification 8,048. They are",
    "  evidence for waits, which are not modelled here.",
    "- Notifications on 2 and 4 nodes take 35 to 120 us where ranks are in step; they are not in these times, nor in",
    "  steps.",
    "- HybridEP between nodes is bound by what SMs send to nodes, not by the GPUs there. Inside eight H100 nothing was",
    "  published: as on Blackwell. FP8 on 32 GB200 with 16 SMs takes twice as long as on 8: not expressed.",
    "- What a call of HybridEP from Python takes besides its kernel and the copy between the library's buffer and the",
    "  caller's tensor (permutes make it in a step) is charged by family and ranks: dispatch 251, 408 and 939 us on",
    "  16, 32 and 64 H100, 79 to 95 on 8 to 32 Blackwell; combine 88 to 153 and 39 to 103. Why dispatch grows is not",
    "  said.",
    "- NCCL's kernels take as few CTAs as fill the links (NVIDIA/nccl issue 689), so that fewer reach their share.",
]
STEPS = [
    "A plain all-to-all sends every copy over NICs, DeepEP one per node; an all-gather sends each token to all 64",
    "GPUs, which NVLink of 400 GB/s binds. Low-latency kernels need no SM next to compute, and every expert gets a",
    "copy of its own. DeepEP's exchanges are 1.27 to 1.79 times as slow next to compute, as in DeepSeek's profile;",
    "nothing of the kind was measured of NCCL's and of low-latency kernels, whose overlapped exchanges are too fast",
    "here: the steps are lower bounds. Buffers of exchanges are not in the memory: an all-gather's holds 262,144",
    "tokens, 3.8 GB in BF16.",
]
