"""Write the results of this folder, or check that they are what the simulator says today.

    python results/make.py            # write
    python results/make.py --check    # exit 1 if a table would change
    python results/make.py published.md         # one table; this one takes minutes, and --all adds it to the others

Every number below comes from a simulation that runs here. Figures are written, not checked: their
bytes depend on the version of matplotlib.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import campaigns
import dispatch
import gallery
import gpus
import ledgers
import left_out
import links
import loads
import memory_page
import overlaps
import published
import rankings
import scaling
import steps
import trust
from cells import row

from simulator import inputs, load, lower, plot, run, summarise
from simulator.collectives import DISPATCHERS, CoflowKind, Timed, exchange_row
from simulator.compare import rows, why
from simulator.experts.kernels import benchmark_routing, benchmark_visits
from simulator.residuals import Residuals, residuals
from simulator.store import write, write_text
from simulator.topology import FABRICS, network
from simulator.topology.families.dragonfly import dragonfly_counts
from simulator.topology.families.slim_fly import slim_fly_counts
from simulator.validate import validate
from simulator.whatif import simulate

HERE = Path(__file__).resolve().parent
BEGIN, END = "<!-- written by results/make.py -->", "<!-- end -->"


TABLES: dict[str, Callable[[], str]] = {}
"""file -> what it should hold; filled at the end of this file."""
TRUST = "../simulator/data/trust"
SLOW = ("published.md", f"{TRUST}/published.csv", "rankings.md", "ledgers.md")
"""files that take minutes: written by name, and checked with --all"""


def main() -> int:
    """Write or check tables: the named ones, else all but the slow ones, which --all adds."""
    asked = arguments()
    tables = {name: TABLES[name]() for name in asked.names or usual(slow=asked.all)}
    stale = [name for name, text in tables.items() if not same(HERE / name, text)]
    if asked.check:
        print(f"results: {len(tables)} tables, stale: {', '.join(stale) or 'none'}")
        return 1 if stale else 0
    for name in stale:
        write_text(HERE / name, tables[name])
    for name in gallery.FIGURES.keys() & tables.keys():
        write((HERE / name).with_suffix(".png"), gallery.FIGURES[name])
    if not asked.names:
        figures()
    print(f"results: wrote {', '.join(stale) or 'figures only'}")
    return 0


def arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description="Write the results of this folder.")
    parser.add_argument("names", nargs="*", metavar="TABLE", help="default: all but the slow ones")
    parser.add_argument("--check", action="store_true", help="write nothing, tell what is stale")
    parser.add_argument("--all", action="store_true", help="those that take minutes, too")
    asked = parser.parse_args()
    for name in asked.names:
        if name not in TABLES:
            parser.error(f"'{name}' is not a table. Choose from: {', '.join(TABLES)}.")
    return asked


def usual(*, slow: bool) -> list[str]:
    """Return the tables that are written where none is named. slow: those that take minutes, too."""
    return [name for name in TABLES if slow or name not in SLOW]


def figures() -> None:
    """Draw every figure."""
    timeline = run(lower(load("h800-2048")))
    write(
        HERE / "deepseek-v3-step.png", lambda path: plot.step(timeline, summarise(timeline), path)
    )
    reports = [simulate(load(site)) for site in ("h800-2048", "h100-2048")]
    write(HERE / "h800-or-h100.png", lambda path: plot.comparison(reports, path))
    write(HERE / "kernels.png", lambda path: plot.kernels(residuals(), path))
    dispatch.figures(HERE)
    write(HERE / "schedules.png", lambda path: plot.comparison(steps.reports(), path))


def same(path: Path, text: str) -> bool:
    """Tell whether a file holds a text already."""
    return path.is_file() and path.read_text(encoding="utf-8") == text


def readme() -> str:
    """Return the project's README with the table of DeepSeek-V3 as the simulator computes it today."""
    pair = next(validate(("deepseek-v3-chunk",)))
    report = simulate(load("h800-2048"))
    known = {figure.quantity: figure for figure in report.references()}
    step, hours = known["step_time_s"], known["gpu_hours_per_trillion_tokens"]
    model = report.scenario.model
    flops = report.quantities()["flops_per_token"]
    table = [
        "| DeepSeek-V3, 2,048 H800, PP16 EP64 ZeRO-1 DualPipe FP8 | published | simulated | error |",
        "|---|---:|---:|---:|",
        f"| one overlapped chunk pair of four MoE layers (calibration) | {pair.published:.1f} ms "
        f"| {pair.simulated:.1f} ms | {pair.error:+.1%} |",
        f"| one step of 15,360 x 4,096 tokens (nothing fitted to it) | {step.published} s | {step.simulated:.2f} s "
        f"| {step.error:+.1%} |",
        f"| GPU-hours per trillion tokens | {hours.published:,.0f} | {hours.simulated:,.0f} | {hours.error:+.1%} |",
        f"| parameters, of which active | 671 B, 37 B "
        f"| {model.parameters / 1e9:.2f} B, {model.active_parameters / 1e9:.2f} B | |",
        f"| training FLOPs per token at 4,096 tokens | 250 G | {flops / 1e9:.1f} G | |",
    ]
    # The score of all published steps stands in their own table, which takes minutes to write.
    scored = (HERE / "published.md").read_text(encoding="utf-8").splitlines()
    table += ["", next(line for line in scored if line.startswith("**"))]
    text = (HERE.parent / "README.md").read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return "\n".join([f"{head}{BEGIN}", *table, f"{END}{tail}"])


def nvlink_cut() -> str:
    """Return what NVLink's cut from 900 to 400 GB/s costs a V3 step, with and without node-limited routing."""
    lines = [
        "# What the NVLink cut costs a DeepSeek-V3 step",
        "",
        "| routing | H800, 400 GB/s | H100, 900 GB/s | the cut costs |",
        "|---|---:|---:|---:|",
    ]
    for name, sets in (
        ("at most 4 nodes per token", {}),
        ("any 8 experts", {"model.n_group": 1, "model.topk_group": 1}),
    ):
        cut = simulate(load("h800-2048", sets=sets)).step_time
        whole = simulate(load("h100-2048", sets=sets)).step_time
        costs = f"{cut - whole:+.3f} s, {cut / whole - 1:+.2%}"
        lines.append(row(name, f"{cut:.3f} s", f"{whole:.3f} s", costs))
    lines += [
        "",
        "NICs bind dispatch and combine either way, so the cut is felt where gradients cross NVLink.",
        "Reproduce: `simulate compare h800-2048 h100-2048`, and the same with",
        "`--set model.n_group=1 --set model.topk_group=1`.",
        "",
    ]
    return "\n".join(lines)


def deepep() -> str:
    """Return DeepEP's normal kernels: rates calibrated on EP8 and EP64, the others predicted."""
    tables = inputs.data("measured", "deepep").data
    published = {row["ep"]: row for row in (*tables["normal_kernels"], *tables["validation"])}
    site, model = load("h800-2048"), load("h800-2048").model
    net = network(site.topology)
    lines = [
        "# Dispatch and combine compared with DeepEP's table",
        "",
        "4,096 tokens per GPU, hidden 7,168, top-8 of 4 nodes, GB/s in DeepEP's convention. Efficiencies come",
        "from EP8 and EP64 alone.",
        "",
        "| GPUs | dispatch | published | combine | published |",
        "|---:|---:|---:|---:|---:|",
    ]
    for ranks in (8, 16, 32, 64, 128):
        routing = benchmark_routing(model, ranks, net.gpus_per_node)
        visits = benchmark_visits(model, ranks, net.gpus_per_node)
        cells = [str(ranks)]
        for op, width in ((CoflowKind.DISPATCH, 7392.0), (CoflowKind.COMBINE, 14336.0)):
            # DeepEP's tables leave out what precedes the kernel on its stream.
            kernel = site.kernels.communication[op].model_copy(update={"setup": 0.0})
            call = Timed(net, op, DISPATCHERS["deepep"], "deepep", kernel, 4096.0, width, 20)
            found = exchange_row(call, routing, visits)
            known = published.get(ranks, {}).get(f"{op}_gb_s")
            rate = found.algbw / 1e9
            cells += [
                f"{rate:.1f}",
                f"{known} ({rate / known - 1:+.1%})" if known else "not published",
            ]
        lines.append(row(*cells))
    lines += [
        "",
        f"Source: {tables['source']}. Reproduce: `simulate collective h800-2048 --op dispatch --tokens 4096 "
        "--ranks 64`.",
        "",
    ]
    return "\n".join(lines)


def topologies() -> str:
    """Return the counts of table 3 of arXiv 2505.09343, built or by formula."""
    lines = [
        "# Fabrics of 64-port switches",
        "",
        "Compared with table 3 of arXiv 2505.09343.",
        "",
        "| fabric | endpoints | switches | cables | how |",
        "|---|---:|---:|---:|---|",
    ]
    for name, kind, nodes in (
        ("FT2", "fat_tree_2", 256),
        ("MPFT", "multi_plane", 2048),
        ("FT3", "fat_tree_3", 8192),
    ):
        base = load("h800-2048").topology
        fabric = base.fabric.model_copy(update={"kind": kind})
        site = base.model_copy(update={"nodes": nodes, "fabric": fabric})
        built = FABRICS[kind].build(site)
        counts = (len(built.home), len(built.graph), built.cables)
        lines.append(row(name, *(f"{count:,}" for count in counts), "built"))
    for name, counts in (
        ("SF", slim_fly_counts(28, 21)),
        ("DF", dragonfly_counts(32, 16, 16, 511)),
    ):
        lines.append(row(name, *(f"{count:,}" for count in counts), "formula"))
    lines += [
        "",
        "All equal the published counts. `simulate topology FILE` describes and draws one.",
        "",
    ]
    return "\n".join(lines)


def sites() -> str:
    """Return DeepSeek-V3 on H800, on H100 and with half the NIC, side by side."""
    reports = [
        simulate(load("h800-2048")),
        simulate(load("h100-2048")),
        simulate(load("h800-2048", sets={"topology.node.nic": "25 GB/s per direction"})),
    ]
    heads = ("h800-2048", "h100-2048", "h800-2048, NIC at 25 GB/s")
    lines = ["# DeepSeek-V3 on H800 or H100", "", "One step, all else equal.", ""]
    lines += [f"| | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for found in rows(reports):
        values = [f"{value:,.6g} {found.unit}".strip() for value in found.values]
        lines.append(row(found.quantity, *values))
    for head, report in zip(heads[1:], reports[1:], strict=True):
        lines += [
            "",
            f"{head} against {heads[0]}:",
            "",
            *(f"- {line}" for line in why(reports[0], report)),
        ]
    lines += [
        "",
        "Reproduce: `simulate compare h800-2048 h100-2048`, and "
        "`simulate run h800-2048 --set 'topology.node.nic=25 GB/s per direction'`.",
        "",
    ]
    return "\n".join(lines)


def calibration() -> str:
    """Return one chunk pair compared with DeepSeek's profile, on whose kernels the kernel tables are calibrated."""
    checks = list(validate(("deepseek-v3-chunk",)))
    lines = [
        "# One overlapped chunk pair of four MoE layers",
        "",
        "Calibration, not prediction: the kernel tables come from this profile's kernels. How the three streams",
        "wait for each other is not fitted.",
        "",
        "| quantity | published | simulated | error |",
        "|---|---:|---:|---:|",
    ]
    for check in checks:
        published, simulated = (f"{ms:.3f} ms" for ms in (check.published, check.simulated))
        lines.append(row(check.quantity, published, simulated, f"{check.error:+.1%}"))
    lines += [
        "",
        f"Source: {checks[0].source}. Reproduce: `simulate validate deepseek-v3-chunk`.",
        "",
    ]
    return "\n".join(lines)


def errors(one: Residuals) -> str:
    """Return one class of measurements as a row."""
    return row(
        one.group,
        one.gpu.upper(),
        one.name,
        str(len(one.measured)),
        "fit" if one.fitted else "check",
        f"{one.bias:+.1%}",
        f"{one.rms:.1%}",
        f"{one.worst:+.1%}",
    )


def kernels() -> str:
    """Return how well the kernel tables describe what was measured, by class of op."""
    lines = [
        "# Kernels and links compared with the kernel tables",
        "",
        "Every profile is fitted to kernels and links alone, never to a training step. An error is computed over",
        "measured, less one; bias is its mean. Rows of use `check` were not fitted. GEMMs are compared as in a",
        "benchmark loop, but for the rows that say sustained: those as in a training process.",
        "",
        "| | GPU | class | rows | use | bias | rms | worst |",
        "|---|---|---|---:|---|---:|---:|---:|",
    ]
    lines += [errors(one) for one in residuals()]
    lines += [
        "",
        "![computed over measured](kernels.png)",
        "",
        "- Exchanges of tokens have a table of their own: [dispatch.md](dispatch.md).",
        "- A step takes measured GEMMs from grids of 1,764 shapes per GPU and format: waves and HBM between them,",
        "  measured over computed interpolated. Two frameworks differ by 7% (rms) at the same shape.",
        "- Kernels of less than 1 ms run before the power limit takes the clock down, those of 16 ms and more",
        "  after. A training step is taken to be there all the time, also one that waits a lot (nobody measured its",
        "  clock): in it a short GEMM takes 1.09 times as long as in a loop on an H100 (FP8 1.06), 1.14 on an H200",
        "  (1.11), 1.10 on a B200 (1.19), 1.15 on a B300 (1.12), and the same on an A100. On B200 that is within 3% of",
        "  GEMMs whose power was measured with them. Attention likewise: 1.08 on H100, 1.096 on H200, 1.075 on B200,",
        "  1.144 on GB200, 1.157 on B300, 1.065 on GB300, 1 on A100 (attention_by_length.csv). Kernels that wait for",
        "  HBM do not give way: on H100 casts of 4 GB run at the rate of those of 128 MB.",
        "- Transformer Engine's linear layers on B300, at its own limit, are a check in every format but for MXFP8's",
        "  rate and the casts of NVFP4 and current scaling, which are taken from the same table.",
        "- vidur's GEMMs ran in PyTorch of 2023 and take 9% longer on H100 than today's libraries'. Its",
        "  guide calls 300 W A100s on PCIe next to those of a DGX one device: its A100 rows are no evidence of the",
        "  400 W module's clock or libraries. The other rows do not show one: GEMMs of 16 ms and more take",
        "  as long as Azure's after 10,000 calls (32,768^3: 251.2 and 250.8 TFLOP/s), and shorter ones differ from",
        "  shape to shape, -12% at 4,096^3. Weight gradients that zero-bubble's authors timed in training on 8 to",
        "  32 A100 in 2023 are met within 2.4%, and the five rows of 8,192 tokens are the slowest of 200 calls.",
        "  So the A100 gets no correction for its clock or for old libraries.",
        "- vidur's norm and activation are vLLM's kernels. Hopper's `norm` and `activation` are those of",
        "  DeepSeek's profile; a training stack's fused norm (`fused_norm`) reaches more than twice as much.",
        "- GEMMs of many problems (experts, unfused attention) load and multiply less at the same time than one",
        "  large GEMM: their times add up as squares. DeepSeek's own grouped GEMM is described as its dense one.",
        "- No grouped GEMM in BF16 or one scale per tensor sets a constant: TensorRT-LLM's blocks (six replays after",
        "  three warm-ups) come out 5 to 13% too long (on B200 10% too long in BF16, 2 and 10% too short in FP8 and",
        "  NVFP4). They are whole passes, of whose kernels some may be fused; which ones is not said, so that nothing",
        "  here follows from them.",
        "- One kernel per expert, as Megatron runs them: each cuBLAS call chooses its tile as if it were alone, four",
        "  streams share the SMs, and a stream's next kernel waits for all tiles of the one before. The rule was found",
        "  on the three rows of Transformer Engine, which set no constant (12% too short before).",
        "- DeepGEMM of May 2025 is a later kernel than that of DeepSeek's profile, which its stack keeps: 21% faster.",
        "- Attention over a quarter of the figures' work (32 heads of 2,048 tokens) reaches 0.7 of their rates:",
        "  SMs wait for the longest causal tile, or for the last. That wait follows from heads, sequences and",
        "  length; what is left of Transformer Engine's benchmark is 6%.",
        "- cuDNN 9.19 (February 2026) is 14% faster forward at 128 than the cuDNN of 2024 in the table. TensorRT-LLM's",
        "  MLA, with what stores keys and values, is 18% slower than cuDNN 9.19's, which the table has.",
        "- The best shapes of FP8 are the fastest of thousands: ordinary ones take more.",
        "",
        "Sources: `simulator/data/measured`. Reproduce: `python results/make.py`.",
        "",
    ]
    return "\n".join(lines)


TABLES |= {
    "deepseek-v3-ledger.md": left_out.ledger,
    "h800-or-h100.md": sites,
    "calibration.md": calibration,
    "nvlink-cut.md": nvlink_cut,
    "deepep.md": deepep,
    "dispatch.md": dispatch.table,
    "topologies.md": topologies,
    "kernels.md": kernels,
    "links.md": links.page,
    "gpus.md": gpus.page,
    "overlap.md": overlaps.table,
    "memory.md": memory_page.page,
    "schedules.md": steps.schedules,
    "published.md": published.page,
    f"{TRUST}/published.csv": trust.table,
    f"{TRUST}/kernels.csv": trust.kernels,
    "trust.md": trust.page,
    "rankings.md": rankings.page,
    "ledgers.md": ledgers.page,
    "scaling.md": scaling.page,
    "campaigns.md": campaigns.page,
    "loads.md": loads.page,
    "../README.md": readme,
    **gallery.TABLES,
}

if __name__ == "__main__":
    sys.exit(main())
