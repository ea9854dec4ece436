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
    "engine": "engine overlap program",
    "program": "program orders waits overlap zero recompute loads folding stragglers laws",
    "collectives": "collectives collectives_rounds collectives_command topology_pcie experts_traffic",
    "memory": "memory zero recompute whatif",
    "experts": "experts experts_kernels experts_eplb experts_traffic loads",
}
"""Room -> the files of tests that hold its mutants, in this order."""
SKIPPED = ("engine/compiled.py",)
"""Compiled by numba, and checked bit for bit against the reference."""
PATIENCE = 300
"""Beyond that a mutant hangs [s]."""
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


def verdict(change, marks):
    """Return what the tests say of a mutation."""
    from cosmic_ray.mutating import use_mutation
    from cosmic_ray.plugins import get_operator

    operator = get_operator(change.operator_name)()
    with use_mutation(change.module_path, operator, change.occurrence) as (_, mutated):
        assert mutated is not None
        status = _run(Path(change.module_path).parts[1], marks)
    if status is None:
        return "killed: hangs"
    return "SURVIVED" if status == 0 else "killed"


def _run(room, marks):
    """Return what pytest says of a room, in a process that has loaded what never changes; None if it hangs."""
    tests = [f"tests/test_{name}.py" for name in NEIGHBOURS[room].split()]
    child = os.fork()
    if not child:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE // 2, PATIENCE // 2))
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        status = sys.modules["pytest"].main(["-x", "-m", marks, "-p", "no:cacheprovider", *tests])
        os._exit(int(status))
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def main():
    """Run the sample and print a line for each mutant."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--count", type=int, default=320)
    parser.add_argument("--part", default="0/1", help="Which of how many processes this is.")
    parser.add_argument("--marks", default="not slow", help="Which tests, as of `pytest -m`.")
    given = parser.parse_args()
    part, parts = map(int, given.part.split("/"))
    places, changes = sample(given.seed, given.count)
    print(f"# {len(changes)} of {places} places", flush=True)
    sys.dont_write_bytecode = True  # files of one size, written in one second, look alike to it
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    for name in LOADED:
        importlib.import_module(name)
    for room in NEIGHBOURS:
        assert _run(room, given.marks) == 0, f"the tests of {room} fail without a mutant"
    for change in changes[part::parts]:
        line = Path(change.module_path).read_text(encoding="utf-8").splitlines()
        text = line[change.start_pos[0] - 1].strip()
        what = f"{change.operator_name.split('/')[1]} {change.occurrence}"
        place = f"{change.module_path}:{change.start_pos[0]}:{change.definition_name}"
        print(verdict(change, given.marks), place, what, text, sep="\t", flush=True)


if __name__ == "__main__":
    main()
