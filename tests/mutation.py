"""Mutants of what computes a step: a sample by a fixed seed, each run against its neighbourhood of tests.

    pip install cosmic-ray
    PYTHONPATH=. python tests/mutation.py --seed 11 --count 320

It writes to the files of the checkout and puts them back: run it in a worktree of its own. A line
per mutant comes out: verdict, place, what was changed, the line. tests/mutants.md has the results.
"""

import argparse
import ast
import importlib
import os
import random
import resource
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path

NEIGHBOURS = {
    "engine": "engine overlap",
    "program": "program orders waits overlap zero",
    "collectives": "collectives collectives_rounds collectives_command topology_pcie",
    "memory": "memory zero",
    "experts": "experts experts_kernels experts_eplb experts_traffic",
}
"""Room -> the files of tests that hold its mutants, in this order."""
WIDER = {
    "engine": "program folding laws",
    "program": "recompute loads folding folding_parallel stragglers bounds laws schedules_steps",
    "collectives": "calibration_collectives experts_traffic program laws",
    "memory": "recompute whatif stragglers tensor_parallel",
    "experts": "experts_distributions loads memory collectives_command",
}
"""What else holds them: for those that survive."""
SKIPPED = ("engine/compiled.py",)
"""Compiled by numba, and checked bit for bit against the reference."""
PATIENCE = 150
"""Computing time beyond which a mutant hangs [s]; on the clock, ten times that."""
LOADED = ("pytest", "numpy", "pydantic", "networkx", "simpy", "ruamel.yaml", "click")
"""What every process of tests needs and no mutant changes."""


def sites(path):
    """Return the mutations of a file: (line, operator) -> those to choose from."""
    from cosmic_ray.commands.init import _all_work_items

    text = path.read_text(encoding="utf-8")
    annotated = {place for node in ast.walk(ast.parse(text)) for place in _annotation(node)}
    found = defaultdict(list)
    for item in _all_work_items([path], {}):
        (change,) = item.mutations
        if change.start_pos not in annotated:
            family = change.operator_name.split("/")[1].split("_")[0]
            found[change.start_pos, family].append(change)
    return found


def _annotation(node):
    """Yield the (line, column) of everything that only type checkers read."""
    parts = [getattr(node, "annotation", None), getattr(node, "returns", None)]
    if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation).endswith("TypeAlias"):
        parts.append(node.value)
    for part in filter(None, parts):
        end = (part.end_lineno, part.end_col_offset)
        for line in range(part.lineno, part.end_lineno + 1):
            last = end[1] if line == end[0] else 200
            yield from ((line, column) for column in range(part.col_offset, last))


def sample(seed, count):
    """Return mutations drawn without preference: a place first, then one of what it can become."""
    draw = random.Random(seed)
    places = []
    for room in NEIGHBOURS:
        for path in sorted(Path("simulator", room).rglob("*.py")):
            if path.as_posix().removeprefix("simulator/") not in SKIPPED:
                places += sites(path).values()
    draw.shuffle(places)
    return len(places), [draw.choice(place) for place in places[:count]]


def verdict(change, tests):
    """Return what tests say of a mutation. tests: arguments of pytest."""
    from cosmic_ray.mutating import use_mutation
    from cosmic_ray.plugins import get_operator

    operator = get_operator(change.operator_name)()
    with use_mutation(change.module_path, operator, change.occurrence) as (_, mutated):
        assert mutated is not None
        status = _status(tests)
    if status is None:
        return "killed: hangs"
    return "SURVIVED" if status == 0 else "killed"


def _status(tests):
    """Return pytest's status in a process that has loaded what never changes; None if it hangs."""
    child = os.fork()
    if not child:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE))
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os._exit(int(sys.modules["pytest"].main(["-x", "-p", "no:cacheprovider", *tests])))
    ends = time.monotonic() + 10 * PATIENCE
    while time.monotonic() < ends:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def neighbourhood(room, *, wide):
    """Return the tests of a room as arguments of pytest. wide: all that may notice, also slow ones."""
    names = f"{NEIGHBOURS[room]} {WIDER[room]}" if wide else NEIGHBOURS[room]
    return [
        *([] if wide else ["-m", "not slow"]),
        *(f"tests/test_{name}.py" for name in names.split()),
    ]


def survivors(path):
    """Return the numbers of the mutants that survived in an earlier output."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    return [int(row[1]) for row in rows if row[0] == "SURVIVED"]


def main():
    """Run the sample and print a line for each mutant."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--count", type=int, default=320)
    parser.add_argument("--survivors", type=Path, help="Earlier output: its survivors, more tests.")
    parser.add_argument("--part", default="0/1", help="Which of how many processes this is.")
    given = parser.parse_args()
    wide = given.survivors is not None
    places, changes = sample(given.seed, given.count)
    numbers = survivors(given.survivors) if wide else range(given.count)
    print(f"# {len(changes)} of {places} places", flush=True)
    sys.dont_write_bytecode = True  # files of one size, written in one second, look alike to it
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    for name in LOADED:
        importlib.import_module(name)
    tests = {room: neighbourhood(room, wide=wide) for room in NEIGHBOURS}
    for room in NEIGHBOURS:
        assert _status(tests[room]) == 0, f"the tests of {room} fail without a mutant"
    part, parts = map(int, given.part.split("/"))
    for number in numbers[part::parts]:
        change = changes[number]
        lines = Path(change.module_path).read_text(encoding="utf-8").splitlines()
        place = f"{change.module_path}:{change.start_pos[0]}:{change.definition_name}"
        what = f"{change.operator_name.split('/')[1]} {change.occurrence}"
        result = verdict(change, tests[Path(change.module_path).parts[1]])
        text = lines[change.start_pos[0] - 1].strip()
        print(result, number, place, what, text, sep="\t", flush=True)


if __name__ == "__main__":
    main()
