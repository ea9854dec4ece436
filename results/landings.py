"""What each part of the physics added when it came: a case of each kind, simulated at the commits of landings.json.

    python results/landings.py        # fill in the commits that have no figures yet; needs git and minutes

Today's cases, workloads and topologies are put into a checkout of each commit, less what it did not know.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ledgers import ROWS

from simulator import inputs

HERE = Path(__file__).resolve().parent
FILE = HERE / "landings.json"
LATER = {"stack", "cuda_graphs"}
"""Keys of `set` that early commits did not know: without them they simulate what they could."""
NEAREST = {"hybridep": "deepep", "all_gather": "all_to_all"}
"""Dispatcher that came later -> what stood for it."""
SIMULATE = """
import json, sys
from simulator.validate.case import files
from simulator.whatif import simulate
cases = {row.case: row for table in files().values() for row in table.cases}
steps = {name: simulate(cases[name].scenario()).step_time for name in sys.argv[1:]}
print(json.dumps(steps))
"""


def main() -> int:
    """Fill in the figures of every commit that has none."""
    table = json.loads(FILE.read_text(encoding="utf-8"))
    for landing in table["landings"]:
        known = landing.get("step_time_s", {})
        if set(known) == set(ROWS):
            continue
        landing["step_time_s"] = simulate(landing["commit"])
        FILE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return 0


def simulate(commit: str) -> dict[str, float]:
    """Return the step of each case of the ledger as a commit simulates it [s]."""
    with tempfile.TemporaryDirectory() as folder:
        _git("worktree", "add", "--detach", folder, commit)
        try:
            dress(Path(folder))
            command = [sys.executable, "-c", SIMULATE, *ROWS]
            place = os.environ | {"PYTHONPATH": folder}
            done = subprocess.run(command, cwd=folder, env=place, capture_output=True, check=True)
        finally:
            _git("worktree", "remove", "--force", folder)
    steps = json.loads(done.stdout)
    return {name: float(f"{seconds:.6g}") for name, seconds in steps.items()}


def dress(folder: Path) -> None:
    """Put today's cases, workloads and topologies into a checkout, less what it does not know."""
    stacks = (folder / "simulator/data/stacks").is_dir()
    dispatchers = (folder / "simulator/collectives/hybrid_ep.py").is_file()
    graphs = "cuda_graphs" in (folder / "simulator/data/schemas/workload.json").read_text()
    known = {"stack": stacks, "cuda_graphs": graphs}
    for kind in ("workloads", "topologies"):
        for file in (HERE.parent / kind).glob("*.yaml"):
            tree = inputs.read(file).data
            for key in LATER & tree.keys():
                if not known[key]:
                    del tree[key]
            _write(folder / kind / file.name, tree)
    for file in (HERE.parent / "workloads/models").glob("*.json"):
        (folder / "workloads/models" / file.name).write_bytes(file.read_bytes())
    for file in (HERE.parent / "simulator/data/cases").glob("*.yaml"):
        tree = inputs.read(file).data
        rows = [_case(row, known, dispatchers=dispatchers) for row in tree["cases"]]
        kept = {"source": tree["source"], "cases": rows}
        _write(folder / "simulator/data/cases" / file.name, kept)


def _case(row: dict[str, Any], known: dict[str, bool], *, dispatchers: bool) -> dict[str, Any]:
    """Return a case without what a commit does not know."""
    asked = row.get("set", {})
    sets = {key: value for key, value in asked.items() if known.get(key, True)}
    name = sets.get("experts.dispatcher")
    if name in NEAREST and not dispatchers:
        sets["experts.dispatcher"] = NEAREST[name]
    kept = {key: row[key] for key in ("case", "topology", "workload", "quantity", "published")}
    return {**kept, "source": row["source"], "set": sets}


def _write(path: Path, tree: dict[str, Any]) -> None:
    path.write_text(json.dumps(tree), encoding="utf-8")  # JSON is YAML


def _git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(HERE.parent), *arguments], check=True, capture_output=True)


if __name__ == "__main__":
    sys.exit(main())
