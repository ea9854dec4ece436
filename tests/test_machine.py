"""Machine code that is kept on disk and runs without numba: what it follows from, and what is not trusted."""

import json
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

from simulator.compiled import MachineCode, machine

STEP = 2.0


class Numbers(NamedTuple):
    given: np.ndarray
    found: np.ndarray


def twice(x):
    return STEP * x


def double(s):
    for i in range(len(s.given)):
        s.found[i] = twice(s.given[i])


def fail(s):
    s.found[0] = 1.0
    raise ValueError


def numbers(*given):
    return Numbers(np.array(given, dtype=np.int64), np.zeros(len(given)))


@pytest.fixture
def code(tmp_path, monkeypatch):
    """Return a function that makes the code of a function anew, in a folder of its own."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(machine, "places", lambda: iter([tmp_path]))
    return lambda function=double: MachineCode(function, numbers())


def doubled(one):
    arrays = numbers(1, 2, 3)
    one.ready()(arrays)
    return arrays.found.tolist()


def test_what_is_compiled_is_found_by_the_next(code, tmp_path):
    first = code()
    assert (first.on_disk(), first.folder()) == (False, None)
    assert doubled(first) == [2.0, 4.0, 6.0]
    again = code()
    assert (again.on_disk(), again.folder()) == (True, tmp_path)
    assert doubled(again) == [2.0, 4.0, 6.0]


def test_a_constant_and_a_layout_and_a_setting_are_part_of_the_name(code, monkeypatch):
    name = code().name
    assert code().name == name
    with monkeypatch.context() as changed:
        changed.setattr(sys.modules[__name__], "STEP", 3.0)
        assert code().name != name
    with monkeypatch.context() as changed:
        changed.setenv("NUMBA_BOUNDSCHECK", "1")
        assert code().name != name
    other = Numbers(np.zeros(0, dtype=np.int32), np.zeros(0))
    assert MachineCode(double, other).name != name


def test_the_source_of_every_function_that_is_called_is_part_of_the_name():
    from simulator.compute import contention
    from simulator.engine import CODE, compiled
    from simulator.engine import pace as pacing

    files = {one.__code__.co_filename for one in machine.closure(compiled._execute)}
    assert {compiled.__file__, pacing.__file__, contention.__file__} <= files
    assert CODE.name.startswith("simulator-engine-compiled-_execute-")


@pytest.mark.parametrize("left", [0, 1, 200, -1])
def test_a_torn_file_is_none(code, tmp_path, left):
    assert doubled(code()) == [2.0, 4.0, 6.0]
    (path,) = tmp_path.glob("*.obj")
    path.write_bytes(path.read_bytes()[:left])
    assert not code().on_disk()
    assert doubled(code()) == [2.0, 4.0, 6.0]
    assert code().on_disk()


def test_code_for_another_processor_is_none(code, tmp_path):
    assert doubled(code())
    (path,) = tmp_path.glob("*.obj")
    head, _, rest = path.read_bytes().partition(b"\n")
    changed = json.dumps(json.loads(head) | {"processor": "z80"}).encode()
    path.write_bytes(changed + b"\n" + rest)
    assert not code().on_disk()


def test_arrays_of_another_layout_are_refused(code):
    run = code().ready()
    with pytest.raises(TypeError, match="int32 is not int64"):
        run(Numbers(np.zeros(2, dtype=np.int32), np.zeros(2)))
    with pytest.raises(TypeError, match="gaps"):
        run(Numbers(np.zeros(2, dtype=np.int64), np.zeros(4)[::2]))


def test_what_is_raised_inside_is_an_error(code):
    with pytest.raises(RuntimeError, match="has failed"):
        code(fail).ready()(numbers(1))


def test_without_a_place_code_lives_as_long_as_the_process(code, monkeypatch):
    monkeypatch.setattr(machine, "places", lambda: iter([]))
    one = code()
    assert doubled(one) == [2.0, 4.0, 6.0]
    assert (one.folder(), code().on_disk()) == (None, False)


@pytest.mark.slow
def test_a_second_process_runs_a_step_without_numba(tmp_path):
    text = (
        "import sys\n"
        "from simulator import engine, load, lower, run\n"
        "timeline = run(lower(load('h100-node', 'llama-3.1-8b')))\n"
        "print(engine.CODE.on_disk(), 'numba' in sys.modules, 'simpy' in sys.modules)\n"
    )
    from simulator.engine import CODE

    CODE.ready()
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "False"]
