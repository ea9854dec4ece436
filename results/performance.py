"""Run the benchmarks and write performance.md from what they measured.

    python results/performance.py                    # some minutes, on a machine that does nothing else
    python results/performance.py --suite            # the tests as well
    python results/performance.py --json FILE...     # from JSON of pytest-benchmark, measured before

Times vary, so that `make.py --check` leaves this page alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cells import row
from performance_rows import GROUPS, Row
from performance_tables import peers, phases, sweeps

from simulator.store import write_text

HERE = Path(__file__).resolve().parent
BENCHMARKS = HERE.parent / "tests" / "benchmarks"
FILES = ("bench_commands", "bench_scenarios", "bench_clusters", "bench_sweeps", "bench_peers")
SUITE = "bench_suite"
READING = (
    "Wall time: median (smallest to largest) over rounds. CPU time, and the peak of memory of the largest process,",
    "which is never counted below that of the process that starts it (0.05 GB). *Before* and *aim*: where the work on",
    "speed began, on a machine of the same kind. Compiled code is on disk unless a row says otherwise. Every benchmark",
    "checks its answer; all stand in `tests/benchmarks`.",
)
"""How to read the tables."""
Measured = Mapping[str, Mapping[str, Any]]
"""Name of a benchmark -> what pytest-benchmark wrote of it."""


def main() -> int:
    """Measure where no JSON is given, then write the page."""
    parser = argparse.ArgumentParser(description="Measure, and write performance.md.")
    parser.add_argument("--suite", action="store_true", help="measure the tests as well")
    parser.add_argument("--json", nargs="+", type=Path, metavar="FILE", help="measure nothing")
    asked = parser.parse_args()
    files = FILES + ((SUITE,) if asked.suite else ())
    texts = [path.read_text(encoding="utf-8") for path in asked.json or ()] or [measure(files)]
    trees = [json.loads(text) for text in texts]
    write_text(HERE / "performance.md", page(trees))
    return 0


def measure(files: Sequence[str]) -> str:
    """Run benchmarks and return the JSON of pytest-benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "measured.json"
        names = [str(BENCHMARKS / f"{name}.py") for name in files]
        call = [sys.executable, "-m", "pytest", *names, "--benchmark-json", str(path)]
        subprocess.run(call, cwd=HERE.parent, check=False)  # what failed is missing in the page
        return path.read_text(encoding="utf-8")


def page(trees: Sequence[Mapping[str, Any]]) -> str:
    """Return the page. trees: JSON of pytest-benchmark; of a benchmark in several, the last counts."""
    measured = {one["name"]: one for tree in trees for one in tree["benchmarks"]}
    lines = ["# Performance", "", *machine(trees[-1]), ""]
    for title, rows in GROUPS.items():
        lines += table(title, rows, measured)
    lines += [*phases(measured), *sweeps(measured), *peers(measured)]
    lines += ["Reproduce: `python results/performance.py`.", ""]
    return "\n".join(lines)


def machine(tree: Mapping[str, Any]) -> list[str]:
    """Say on what was measured, and how to read the tables."""
    info, commit = tree["machine_info"], tree["commit_info"]
    versions = ", ".join(f"{name} {number}" for name, number in info["versions"].items())
    processor = info["cpu"].get("brand_raw", info["processor"])
    state = ", with changes" if commit.get("dirty") else ""
    return [
        f"Commit {commit['id'][:10]}{state}, {tree['datetime'][:16]} UTC. {processor}, "
        f"{info['cores']} cores, {info['memory'] / 2**30:.0f} GiB, with "
        f"{info.get('load', 0):.1f} other processes at work on them; {info['system']}, "
        f"Python {info['python_version']}, {versions}.",
        "",
        *READING,
    ]


def table(title: str, rows: Sequence[Row], measured: Measured) -> list[str]:
    """Return one table of rows with their aims."""
    lines = [
        f"## {title}",
        "",
        "| | before | aim | now | CPU | memory |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for one in rows:
        found = measured.get(one.benchmark)
        cells = ["not measured", "", ""]
        if found:
            cells = [now(found) + ratio(found, measured.get(one.over)), *used(found["extra_info"])]
        lines.append(row(one.what, one.before, one.aim, *cells))
    return [*lines, ""]


def now(found: Mapping[str, Any]) -> str:
    """Return how long a benchmark takes, or how many points a sweep finishes."""
    stats, extra = found["stats"], found["extra_info"]
    if "over" in extra:
        return f"over {extra['over']:.0f} s"
    if "sweep" in extra:
        return f"{extra['sweep']['per_second']:.3g} points/s"
    if stats["rounds"] == 1:
        return seconds(stats["median"])
    return f"{seconds(stats['median'])} ({seconds(stats['min'])} to {seconds(stats['max'])})"


def ratio(found: Mapping[str, Any], other: Mapping[str, Any] | None) -> str:
    """Return how many times as long as another benchmark one takes, nothing where there is no other."""
    if not other:
        return ""
    return f", {found['stats']['median'] / other['stats']['median']:.2g}x"


def used(extra: Mapping[str, Any]) -> list[str]:
    """Return CPU time and memory of a benchmark, as far as they were measured."""
    cpu = extra.get("cpu") or sum(extra.get("phases", {}).values())
    peak = extra.get("peak")
    return [seconds(cpu) if cpu else "", f"{peak / 1e9:.2f} GB" if peak else ""]


def seconds(value: float) -> str:
    """Return a time with two or three digits."""
    if value < 1e-3:
        return f"{value * 1e6:.0f} µs"
    if value < 1:
        return f"{value * 1e3:.3g} ms"
    return f"{value:.3g} s"


if __name__ == "__main__":
    sys.exit(main())
