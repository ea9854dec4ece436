"""What numba compiles: where the machine code is kept, what a broken cache does, and indices within bounds."""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from builders import configurations, scenario
from numba.core import caching

from simulator import compiled, engine
from simulator.flows import drain
from simulator.program import lower
from simulator.schedules import build, zb_auto

posix = pytest.mark.skipif(os.name != "posix", reason="Windows has a temporary folder per user")

TWO_FILES = {
    "outside": "from simulator.compiled import outer\nfrom within import change\n"
    "@outer\ndef double(x):\n    return change(x) * 2\n",
    "within": "from simulator.compiled import inner\n@inner\ndef change(x):\n    return x\n",
}


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Return a function that imports `double` anew from two files in a folder of their own."""
    folder = tmp_path / "code"
    folder.mkdir()
    for name, text in TWO_FILES.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load():
        for name in TWO_FILES:
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module("outside").double

    yield load
    for name in TWO_FILES:
        sys.modules.pop(name, None)


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """Make the source's folder and HOME such that nothing can be written there; the temporary folder is empty."""

    def refused(self):
        raise PermissionError("read-only")

    monkeypatch.setattr(caching.InTreeCacheLocator, "ensure_cache_path", refused)
    (tmp_path / "file").touch()
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "file" / "home"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


def hits(function):
    return sum(function.stats.cache_hits.values())


def files(folder, ending):
    return sorted(folder.rglob(f"*{ending}"))


# Where it is kept


def test_what_is_compiled_lies_next_to_the_source(load, tmp_path):
    assert load()(21) == 42
    assert len(files(tmp_path / "code" / "__pycache__", ".nbi")) == 1
    again = load()
    assert (again(21), hits(again)) == (42, 1)


def test_a_change_in_another_file_of_the_folder_is_noticed(load, tmp_path):
    assert load()(21) == 42
    (tmp_path / "code" / "within.py").write_text(
        TWO_FILES["within"].replace("return x", "return x + 1"), encoding="utf-8"
    )
    assert load()(21) == 44


@posix
def test_the_temporary_folder_stands_in_where_nothing_else_can_be_written(load, nowhere):
    assert load()(21) == 42
    assert len(files(nowhere, ".nbi")) == 1
    again = load()
    assert (again(21), hits(again)) == (42, 1)
    (folder,) = nowhere.iterdir()
    assert folder.name == f"simulate-compiled-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700


@posix
def test_a_folder_that_others_can_write_is_not_trusted(load, nowhere):
    # Who can write a cache can run code as whoever reads it.
    folder = nowhere / f"simulate-compiled-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    assert load()(21) == 42
    assert not files(nowhere, ".nbi")


@posix
def test_a_link_to_a_folder_is_not_trusted(load, nowhere, tmp_path):
    (tmp_path / "theirs").mkdir()
    (nowhere / f"simulate-compiled-{os.getuid()}").symlink_to(tmp_path / "theirs")
    assert load()(21) == 42
    assert not files(tmp_path / "theirs", ".nbi")


def test_without_any_place_to_write_functions_are_compiled_for_the_process(
    load, nowhere, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(nowhere.parent / "file" / "tmp"))
    function = load()
    assert (function(21), function(1.5)) == (42, 3.0)
    assert not files(nowhere.parent, ".nbi")


def test_an_environment_without_a_home_leaves_no_folder_behind(
    load, nowhere, monkeypatch, tmp_path
):
    # Where the user has no entry in the password file, `~` stays as it is and means a folder of
    # that name.
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    assert load()(21) == 42
    assert not (tmp_path / "~").exists()


# What is broken


@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
@pytest.mark.parametrize("left", [0, 1, 20, -1])
@pytest.mark.slow
def test_a_torn_file_is_compiled_anew(load, tmp_path, ending, left):
    assert load()(21) == 42
    (path,) = files(tmp_path / "code", ending)
    whole = path.read_bytes()
    path.write_bytes(whole[:left])
    assert load()(21) == 42
    again = load()
    assert (again(21), hits(again)) == (42, 1)


def test_a_file_of_something_else_is_compiled_anew(load, tmp_path):
    assert load()(21) == 42
    for path in files(tmp_path / "code", ".nb?"):
        path.write_bytes(b"not a pickle\n")
    assert load()(21) == 42


def test_a_cache_that_can_no_longer_be_written_is_done_without(load, monkeypatch):
    def full(self, key, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", full)
    assert load()(21) == 42


# Plain functions


def half(x):
    return x / 2


def quarter(x):
    return half(half(x))


def test_a_plain_function_is_compiled_with_those_that_it_calls():
    fast = compiled.with_callees(quarter)
    assert (fast(10.0), quarter(10.0)) == (2.5, 2.5)
    assert fast is compiled.with_callees(quarter)
    assert not hasattr(half, "py_func")  # what others call stays plain


# Bounds


CASES = """
import json
import sys

from test_compiled import compiled_results

json.dump(compiled_results(), sys.stdout)
"""


def flows():
    """Return a problem of 400 flows over 60 links, with weights, caps and late starts."""
    rng = np.random.default_rng(5)
    length = rng.integers(1, 5, 400)
    routes = [rng.choice(60, size, replace=False) for size in length]
    return {
        "capacity": rng.uniform(1.0, 4.0, 60),
        "flow_ptr": np.concatenate([[0], np.cumsum(length)]),
        "flow_link": np.concatenate(routes),
        "size": rng.uniform(0.0, 3.0, 400),
        "weight": rng.choice([0.5, 1.0], length.sum()),
        "cap": rng.choice([0.5, np.inf], 400),
        "start": rng.choice([0.0, 0.3, 2.0], 400),
    }


def orders():
    """Return the orders of searches that are long enough to be compiled, as text."""
    times = {"F": 1.0, "I": 1.2, "W": 0.7, "comm": 0.05}
    found = [
        build("zb-1p", 7, 120, times=times),
        build("zb-2p", 5, 90, times=times, limit=6.5, kept=0.4),
    ]
    return [" ".join(map(str, order)) for schedule in found for order in schedule.ranks]


def steps(executor):
    """Return the ends of the ops of small steps [step][op] s."""
    chosen = configurations()[::8]
    return [engine.run(lower(scenario(**one)), executor).end.tolist() for one in chosen]


def compiled_results():
    """Return what compiled code makes of all cases."""
    return {
        "orders": orders(),
        "flows": drain(**flows(), executor="numba").tolist(),
        "steps": steps("compiled"),
    }


@pytest.mark.slow
def test_compiled_code_stays_within_bounds_and_agrees_with_plain_code(tmp_path, monkeypatch):
    checked = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    here = Path(__file__).parent
    path = os.pathsep.join(map(str, (here, here.parent)))
    found = json.loads(
        subprocess.run(
            [sys.executable, "-c", CASES],
            env=os.environ | checked | {"PYTHONPATH": path},
            capture_output=True,
            check=True,
        ).stdout
    )
    monkeypatch.setattr(zb_auto, "_COMPILED_FROM", 10**9)
    assert found["orders"] == orders()
    assert found["flows"] == drain(**flows(), executor="numba").tolist()
    assert found["flows"] == pytest.approx(drain(**flows(), executor="numpy"), rel=1e-9)
    assert found["steps"] == steps("simpy")
