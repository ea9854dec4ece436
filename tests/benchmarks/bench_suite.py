"""How long the tests take: all, and those that are not slow. By name: pytest tests/benchmarks/bench_suite.py.

Minutes, so that results/performance.py leaves them out unless it is asked for them.
"""

from __future__ import annotations

import re

import processes as fresh
import pytest

SETS = {"whole": (), "fast": ("-m", "not slow")}


@pytest.mark.parametrize("name", SETS)
def test_suite(processes, monkeypatch, name):
    monkeypatch.setattr(fresh, "LIMIT", 3600.0)
    root = fresh.HERE.parent.parent
    pytest_of = ["-m", "pytest", "--rootdir", str(root), str(root / "tests")]
    output = processes(lambda: fresh.command([*pytest_of, *SETS[name]]))
    assert re.search(r"\d+ passed", output.text)
