"""How long whole commands take, from the start of Python to its end, and their memory.

By name: pytest tests/benchmarks/bench_commands.py. Compiled code is on disk but for the benchmark
that compiles it.
"""

from __future__ import annotations

import json
import shutil

import pytest
from processes import HERE, command, environment, simulate

RUN = ("run", "h800-2048", "--json", "-")
IMPORTS = """
import simulator.cli.run, simulator.cli.text
from simulator import load, lower, run, summarise
from simulator.whatif import study
"""


@pytest.fixture(scope="module", autouse=True)
def code_on_disk():
    """Compile what is not there yet, so that no benchmark does; tables are parsed as well."""
    simulate("compile")
    simulate(*RUN, "--no-alternatives")


def test_run(processes):
    tree = json.loads(processes(lambda: simulate(*RUN), rounds=5).text)
    assert tree["gpus"] == 2048
    assert sum(tree["breakdown_s"].values()) == pytest.approx(tree["step_time_s"])
    assert any(span["alternatives"] for span in tree["assumed"])


def test_run_without_alternatives(processes):
    tree = json.loads(processes(lambda: simulate(*RUN, "--no-alternatives"), rounds=5).text)
    assert tree["gpus"] == 2048
    assert tree["assumed"] == []


def test_help(processes):
    output = processes(lambda: simulate("--help"), rounds=9)
    assert "run" in output.text


def test_imports_of_a_run(processes):
    processes(lambda: command(["-c", IMPORTS]), rounds=9)


def test_python_alone(processes):
    # What no program can go below; taken off nowhere.
    processes(lambda: command(["-c", "pass"]), rounds=9)


@pytest.fixture
def fresh(tmp_path):
    """Return the environment of a machine that has the program and nothing compiled, parsed or sampled."""
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("simulator", "topologies", "workloads"):
        shutil.copytree(HERE.parent.parent / name, tmp_path / name, ignore=ignore)
    kept = str(tmp_path / "kept")
    return {
        **environment(NUMBA_CACHE_DIR=kept, XDG_CACHE_HOME=kept),
        "PYTHONPATH": str(tmp_path),
    }


def test_compile_everything(processes, fresh):
    tree = json.loads(processes(lambda: simulate("compile", "--json", "-", env=fresh)).text)
    assert tree["folder"].startswith(fresh["NUMBA_CACHE_DIR"])
    assert all(part["seconds"] > 0 for part in tree["parts"])


def test_first_run_needs_nothing_compiled(processes, fresh):
    output = processes(lambda: simulate(*RUN, "--no-alternatives", env=fresh))
    assert json.loads(output.text)["gpus"] == 2048
