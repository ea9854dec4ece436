"""The page of speeds and the benchmarks that it is written from name the same things."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def rows():
    """Return the rows of results/performance.md."""
    spec = importlib.util.spec_from_file_location(
        "performance_rows", ROOT / "results" / "performance_rows.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["performance_rows"] = module
    spec.loader.exec_module(module)
    return [row for group in module.GROUPS.values() for row in group]


def test_every_row_names_a_benchmark(rows):
    files = (ROOT / "tests" / "benchmarks").glob("bench_*.py")
    known = set()
    for path in files:
        known |= set(re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    named = {name.partition("[")[0] for row in rows for name in (row.benchmark, row.over) if name}
    assert named <= known


def test_no_row_is_measured_twice(rows):
    assert len({row.benchmark for row in rows}) == len(rows)
