"""Mutants of what computes a step: a sample by a fixed seed, each run against the tests that reach it.

    pip install cosmic-ray
    PYTHONPATH=. python tests/mutation.py --seed 11 --count 320

One process collects the tests and runs them once, to see which functions each of them calls. A
process forked from it per mutant puts the changed code into its place and runs those tests, the
quickest first, until one fails. No file is changed. A line per mutant comes out: verdict, number in
the sample, place, what was changed, the line. tests/mutants.md has the results.
"""

import argparse
import ast
import functools
import gc
import inspect
import json
import os
import random
import resource
import signal
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
SKIPPED = ("engine/compiled.py",)
"""Compiled by numba, and checked bit for bit against the reference."""
PATIENCE = 120
"""Computing time beyond which a mutant hangs [s]; on the clock, ten times that."""


def sites(path):
    """Return the mutations of a file that stand in functions: (line, operator) -> those to choose from."""
    found = defaultdict(list)
    inside = _bodies(ast.parse(path.read_text(encoding="utf-8")))
    for item in _all_work_items([path], {}):
        (change,) = item.mutations
        if change.start_pos[0] in inside:
            family = change.operator_name.split("/")[1].split("_")[0]
            found[change.start_pos, family].append(change)
    return found


def _bodies(tree):
    """Return the lines of function bodies; what stands outside is settled when a module is imported."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        for line in range(node.body[0].lineno, node.end_lineno + 1)
    }


def sample(seed, count):
    """Return mutations drawn without preference: a place first, then one of what it can become."""
    draw = random.Random(seed)
    places = []
    for room in ROOMS:
        for path in sorted(Path("simulator", room).rglob("*.py")):
            if path.as_posix().removeprefix("simulator/") not in SKIPPED:
                places += sites(path).values()
    draw.shuffle(places)
    return len(places), [draw.choice(place) for place in places[:count]]


def functions(code):
    """Yield the code of functions and methods, not of those inside others."""
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            if constant.co_flags & inspect.CO_OPTIMIZED:
                yield constant
            else:  # the body of a class
                yield from functions(constant)


def changed(change):
    """Return the code that a mutation changes and what it becomes; nothing if it changes none."""
    text = Path(change.module_path).read_text(encoding="utf-8")
    mutated = mutate_code(text, get_operator(change.operator_name)(), change.occurrence)
    path = str(Path(change.module_path).resolve())
    both = (functions(compile(source, path, "exec")) for source in (text, mutated))
    return next(((old, new) for old, new in zip(*both, strict=True) if old != new), None)


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


def child(function, *arguments):
    """Return the lines that a function writes in a forked process; None if it hangs."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE))
        signal.alarm(10 * PATIENCE)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
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


def note(seen, frame, *_):
    """Remember what is called."""
    seen[id(frame.f_code)] = frame.f_code


def watched(out, items):
    """Run tests; write the time of each that passes and the functions that it calls."""
    for item, after in zip(items, [*items[1:], None], strict=True):
        seen: dict[int, types.CodeType] = {}
        begun = time.perf_counter()
        sys.setprofile(functools.partial(note, seen))
        passed = passes(item, after)
        sys.setprofile(None)
        reached = [key(code) for code in seen.values() if "/simulator/" in code.co_filename]
        out.write(json.dumps([passed, time.perf_counter() - begun, reached]) + "\n")


def held(out, change, items):
    """Run tests over a mutant until one fails; write its name."""
    if change:
        put(*change)
    for item, after in zip(items, [*items[1:], None], strict=True):
        if not passes(item, after):
            out.write(item.nodeid)
            return


class Loop:
    """Runs the mutants instead of the tests that pytest has collected."""

    def __init__(self, changes, output):
        self.changes, self.output = changes, output

    def pytest_runtestloop(self, session):
        """Run the sample and write a line for each mutant."""
        rows = [json.loads(line) for line in child(watched, session.items)]
        known = sorted(zip(rows, session.items, strict=True), key=lambda pair: pair[0][1])
        control = child(held, None, [item for (passed, _, _), item in known if passed])
        print("# without a mutant:", control, file=self.output, flush=True)
        for number, change in self.changes:
            code = changed(change)
            items = [
                item
                for (passed, _, reached), item in known
                if passed and code and key(code[0]) in reached
            ]
            found = child(held, code, items) if items else []
            verdict = "killed" if found != [] else "SURVIVED"
            line = Path(change.module_path).read_text(encoding="utf-8").splitlines()
            text = line[change.start_pos[0] - 1].strip()
            place = f"{change.module_path}:{change.start_pos[0]}:{change.definition_name}"
            what = f"{change.operator_name.split('/')[1]} {change.occurrence}"
            by = "hangs" if found is None else "".join(found)
            print(
                verdict,
                number,
                place,
                what,
                text,
                len(items),
                by,
                sep="\t",
                file=self.output,
                flush=True,
            )
        return True


def main():
    """Run the sample."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--count", type=int, default=320)
    parser.add_argument("--only", type=int, nargs="*", help="Numbers of mutants in the sample.")
    parser.add_argument("--output", type=argparse.FileType("w"), default="mutants.tsv")
    given, tests = parser.parse_known_args()  # the rest is pytest's
    places, changes = sample(given.seed, given.count)
    print(f"# {len(changes)} of {places} places", file=given.output, flush=True)
    chosen = [pair for pair in enumerate(changes) if not given.only or pair[0] in given.only]
    pytest.main(["-p", "no:cacheprovider", *tests], plugins=[Loop(chosen, given.output)])


if __name__ == "__main__":
    main()
