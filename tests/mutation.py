"""Mutants of what computes a step: a sample by a fixed seed, each run against the tests that call it.

    pip install -e .[test,mutation]
    PYTHONPATH=. python tests/mutation.py tests/test_memory.py -m "not slow" --seed 11 --count 340

Pytest collects the tests, and runs them once to see which functions each of them calls. A process
forked from it per mutant puts the changed code into its place and runs those tests, the quickest
first, until one fails. No file changes. See mutants.py and mutants.md.
"""

import argparse
import functools
import gc
import importlib
import json
import os
import resource
import signal
import sys
import time
import types
from itertools import pairwise
from typing import NamedTuple

import pytest
from mutants import changed, files, sample


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
    """Run a function in a forked process for `patience` seconds of computing at most.

    Returns the lines that it writes, and the name of the signal that ended it, if one did.
    """
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        resource.setrlimit(resource.RLIMIT_CPU, (patience, patience + 5))
        with os.fdopen(write, "w") as out:
            function(out, *arguments)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as lines:
        text = lines.read().splitlines()
    status = os.waitpid(pid, 0)[1]
    return text, signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else ""


class Test(NamedTuple):
    """A test, and what it did in the code as it is."""

    item: pytest.Item
    passed: bool
    seconds: float
    reached: list[str]


def passes(item, after):
    """Run a test; tell whether it passed. after: the test that follows."""
    failed = item.session.testsfailed
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
    return item.session.testsfailed == failed


def watched(out, items):
    """Run tests; write whether each passed, its time and the functions that it calls."""
    for item, after in pairwise([*items, None]):
        seen, begun = set(), time.perf_counter()
        sys.setprofile(lambda frame, *_, seen=seen: seen.add(frame.f_code))
        passed = passes(item, after)
        sys.setprofile(None)
        reached = [key(code) for code in seen if "/simulator/" in code.co_filename]
        print(json.dumps([passed, time.perf_counter() - begun, reached]), file=out)


def held(out, change, items):
    """Run tests over a mutant until one fails; write its name."""
    put(*change)
    for item, after in pairwise([*items, None]):
        if not passes(item, after):
            print(item.nodeid, file=out)
            return


class Loop:
    """Runs mutants where pytest would run the tests that it has collected."""

    def __init__(self, changes, patience, output):
        self.changes, self.patience, self.output = changes, patience, output

    def pytest_runtestloop(self, session):
        """Write a line per mutant: verdict, number, place, what was changed, how many tests, which failed."""
        lines, _ = child(36000, watched, session.items)
        rows = zip(session.items, map(json.loads, lines), strict=True)
        tests = sorted((Test(item, *row) for item, row in rows), key=lambda test: test.seconds)
        for number, change in self.changes.items():
            verdict, *rest = self.verdict(change, tests)
            print(verdict, number, *rest, sep="\t", file=self.output, flush=True)
        return True

    def verdict(self, change, tests):
        """Run one mutant; return the columns of its line."""
        place = f"{change.path}:{change.line}"
        what = f"{change.operator.split('/')[1]}: {change.text()}"
        code = changed(change)
        if not code:  # an annotation, say
            return "changes no code", place, what, 0, ""
        called = key(code[0])
        mine = [test for test in tests if test.passed and called in test.reached]
        # A mutant that computes for so much longer than the code as it is hangs.
        patience = round(self.patience + sum(test.seconds for test in mine))
        found, end = child(patience, held, code, [test.item for test in mine])
        by = "".join(found) or end
        verdict = "killed" if by else "SURVIVED"
        return verdict, f"{place}:{code[0].co_qualname}", what, len(mine), by


def main():
    """Run the sample, or some of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--count", type=int, default=340)
    parser.add_argument("--only", type=int, nargs="*", help="Numbers of mutants in the sample.")
    parser.add_argument("--patience", type=int, default=60, help="CPU time beyond the tests' [s].")
    parser.add_argument("--output", type=argparse.FileType("w"), default="mutants.tsv")
    given, tests = parser.parse_known_args()  # the rest is pytest's
    changes = sample(given.seed, given.count)
    chosen = {number: changes[number] for number in given.only or changes if number in changes}
    for path in files():  # also what is imported at its first use
        importlib.import_module(".".join(path.with_suffix("").parts))
    plugins = [Loop(chosen, given.patience, given.output)]
    pytest.main(["-p", "no:cacheprovider", *tests], plugins=plugins)


if __name__ == "__main__":
    main()
