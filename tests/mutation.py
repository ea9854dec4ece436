"""Mutants of what computes a step: a sample by a fixed seed, each run against the tests that call it.

    pip install cosmic-ray
    PYTHONPATH=. python tests/mutation.py tests/test_memory.py -m "not slow" --seed 11 --count 320

Pytest collects the tests, and runs them once to see which functions each of them calls. A process
forked from it per mutant puts the changed code into its place and runs those tests, the quickest
first, until one fails. No file changes. See mutants.md.
"""

import argparse
import ast
import functools
import gc
import importlib
import inspect
import json
import os
import random
import resource
import sys
import time
import types
from collections import defaultdict
from pathlib import Path

import pytest
from cosmic_ray.commands.init import _all_work_items
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

ROOMS = ("engine", "program", "collectives", "memory", "experts")
COMPILED = ("compiled", "coflows", "heap", "rows", "sharing")
"""Files of `engine` that numba compiles: checked bit for bit against the reference instead."""
PATIENCE = 120
"""Computing time beyond which a mutant hangs [s]."""


def sample(seed, count):
    """Return mutations of functions: a place is drawn first, then one of what it can become."""
    draw, places = random.Random(seed), []
    for room in ROOMS:
        for path in sorted(Path("simulator", room).rglob("*.py")):
            if path.as_posix() != "simulator/engine/compiled.py":
                places += sites(path).values()
    draw.shuffle(places)
    changes = enumerate(draw.choice(place) for place in places[:count])
    return [pair for pair in changes if not compiled(Path(pair[1].module_path))]


def compiled(path):
    """Tell whether mutants of a file would never run."""
    return path.parts[1] == "engine" and path.stem in COMPILED


def sites(path):
    """Return the mutations inside the functions of a file: (place, operator) -> those to choose from."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    bodies = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    inside = {at for node in bodies for at in range(node.body[0].lineno, node.end_lineno + 1)}
    found = defaultdict(list)
    for item in _all_work_items([path], {}):
        (change,) = item.mutations
        if change.start_pos[0] in inside:
            family = change.operator_name.split("/")[1].split("_")[0]
            found[change.start_pos, family].append(change)
    return found


def functions(code):
    """Yield the code of functions and methods, not of those inside others."""
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            if constant.co_flags & inspect.CO_OPTIMIZED:
                yield constant
            else:  # the body of a class
                yield from functions(constant)


def changed(change):
    """Return the code that a mutation changes and what it becomes; None if it changes none."""
    path = Path(change.module_path).resolve()
    text = path.read_text(encoding="utf-8")
    mutated = mutate_code(text, get_operator(change.operator_name)(), change.occurrence)
    both = (functions(compile(source, path, "exec")) for source in (text, mutated))
    return next((pair for pair in zip(*both, strict=True) if pair[0] != pair[1]), None)


def key(code):
    """Return what tells functions apart."""
    return f"{code.co_filename}:{code.co_firstlineno}:{code.co_qualname}"


def put(old, new):
    """Put new code into every function of this process that has the old one."""
    for thing in gc.get_objects():
        if isinstance(thing, functools._lru_cache_wrapper):
            thing.cache_clear()
        elif isinstance(thing, types.FunctionType) and thing.__code__ == old:
            thing.__code__ = new


def child(patience, function, *arguments):
    """Return the lines that a function writes in a forked process; None if it hangs."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        resource.setrlimit(resource.RLIMIT_CPU, (patience, patience))
        with os.fdopen(write, "w") as out:
            function(out, *arguments)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as lines:
        text = lines.read()
    return None if os.WIFSIGNALED(os.waitpid(pid, 0)[1]) else text.splitlines()


def passes(item, after):
    """Run a test; tell whether it passed. after: the test that follows."""
    failed = item.session.testsfailed
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
    return item.session.testsfailed == failed


def watched(out, items):
    """Run tests; write the time of each and the functions that it calls."""
    for item, after in zip(items, [*items[1:], None], strict=True):
        seen, begun = {}, time.perf_counter()
        sys.setprofile(
            functools.partial(lambda seen, frame, *_: seen.update({frame.f_code: 0}), seen)
        )
        passed = passes(item, after)
        sys.setprofile(None)
        reached = [key(code) for code in seen if "/simulator/" in code.co_filename]
        print(json.dumps([passed, time.perf_counter() - begun, reached]), file=out)


def held(out, change, items):
    """Run tests over a mutant until one fails; write its name."""
    put(*change)
    for item, after in zip(items, [*items[1:], None], strict=True):
        if not passes(item, after):
            print(item.nodeid, file=out)
            return


class Loop:
    """Runs mutants where pytest would run the tests that it has collected."""

    def __init__(self, changes, output):
        self.changes, self.output = changes, output

    def pytest_runtestloop(self, session):
        """Write a line per mutant: verdict, number, place, what was changed, how many tests, which failed."""
        rows = map(json.loads, child(100 * PATIENCE, watched, session.items))
        known = sorted(zip(rows, session.items, strict=True), key=lambda pair: pair[0][1])
        for number, change in self.changes:
            code = changed(change)
            called = key(code[0]) if code else ""
            items = [item for (passed, _, reached), item in known if passed and called in reached]
            found = child(PATIENCE, held, code, items) if items else []
            verdict = "SURVIVED" if found == [] else "killed"
            line = Path(change.module_path).read_text(encoding="utf-8").splitlines()
            place = f"{change.module_path}:{change.start_pos[0]}:{change.definition_name}"
            what = f"{change.operator_name.split('/')[1]}: {line[change.start_pos[0] - 1].strip()}"
            by = "hangs" if found is None else "".join(found)
            row = (verdict, number, place, what, len(items), by)
            print(*row, sep="\t", file=self.output, flush=True)
        return True


def main():
    """Run the sample, or some of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--count", type=int, default=320)
    parser.add_argument("--only", type=int, nargs="*", help="Numbers of mutants in the sample.")
    parser.add_argument("--output", type=argparse.FileType("w"), default="mutants.tsv")
    given, tests = parser.parse_known_args()  # the rest is pytest's
    changes = sample(given.seed, given.count)
    chosen = [pair for pair in changes if not given.only or pair[0] in given.only]
    for room in ROOMS:  # also what is imported at its first use
        for path in Path("simulator", room).rglob("*.py"):
            importlib.import_module(".".join(path.with_suffix("").parts))
    pytest.main(["-p", "no:cacheprovider", *tests], plugins=[Loop(chosen, given.output)])


if __name__ == "__main__":
    main()
