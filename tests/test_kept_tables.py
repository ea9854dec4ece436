"""Computed tables are kept by what they follow from, and a file that is not whole is no table."""

import hashlib

import numpy as np
import pytest

from simulator.experts import ExpertsConfig, routing, survey
from simulator.inputs import ROOT, kept_table, kept_tables, read, validate
from simulator.model import ModelConfig

TABLE = np.array([[1.0, 0.1 + 0.2], [np.nextafter(1.0, 2.0), -0.0]])
V3 = validate(read(ROOT.parent / "workloads" / "models" / "deepseek-v3.json"), ModelConfig)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Return the folder of kept tables, empty and this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "simulate" / "tables"


def ask(*parts, code=routing.CODE, columns=2, table=TABLE):
    """Return the table of these parts, and whether it was computed."""
    computed = []

    def compute():
        computed.append(True)
        return table

    return kept_table("tables", parts, code, columns, compute), bool(computed)


def test_a_table_is_computed_once_and_read_to_the_last_bit():
    assert ask("a", 1)[1]
    table, computed = ask("a", 1)
    assert not computed
    assert table.tobytes() == TABLE.tobytes()


def test_other_parts_other_code_and_another_machine_have_tables_of_their_own(tmp_path, monkeypatch):
    ask("a", 1)
    assert ask("a", 2)[1]
    assert ask("a", 1, code=tmp_path)[1]
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")  # sums of another number of threads
    assert ask("a", 1)[1]


def test_code_that_changes_makes_its_tables_anew(tmp_path):
    (tmp_path / "a.py").write_text("x = 1")
    ask("a", code=tmp_path)
    kept_tables._code.cache_clear()  # as another process finds it
    assert not ask("a", code=tmp_path)[1]
    (tmp_path / "a.py").write_text("x = 2")
    kept_tables._code.cache_clear()
    assert ask("a", code=tmp_path)[1]


def broken(content):
    numbers = content[32:]
    short = numbers[:8]
    return {
        "empty": b"",
        "torn": content[:-1],
        "one bit": content[:-1] + bytes([content[-1] ^ 1]),
        "text": b"no table at all",
        "another shape": hashlib.sha256(short).digest() + short,
    }


@pytest.mark.parametrize("what", broken(bytes(64)))
def test_a_file_that_is_not_whole_is_computed_anew_and_replaced(folder, what):
    ask("a")
    (file,) = folder.iterdir()
    content = file.read_bytes()
    file.write_bytes(broken(content)[what])
    table, computed = ask("a")
    assert computed
    assert table.tobytes() == TABLE.tobytes()
    assert file.read_bytes() == content


def test_a_folder_that_cannot_be_written_is_done_without(folder):
    folder.parents[1].write_text("")  # a file stands where the folder should be
    assert ask("a")[1]
    assert ask("a")[1]


def test_the_oldest_tables_make_room(folder, monkeypatch):
    monkeypatch.setattr(kept_tables, "MOST", 3)
    for number in range(5):
        ask(number)
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize(
    "keys",
    [
        {"distribution": "log_normal", "max_violation": 0.04},
        {"distribution": "log_normal", "sigma": 0.1, "redundant_experts": 64},
        {"distribution": "power_law", "exponent": 0.1, "capacity_factor": 1.1},
    ],
)
def test_loads_that_were_read_are_those_that_were_sampled(keys):
    model = V3.model_copy(update={"num_hidden_layers": 4})
    config = ExpertsConfig(seed=3, **keys)
    sampled, read_again = (survey(model, config, 64, 8, 4096) for _ in range(2))
    for one, other in zip(sampled, read_again, strict=True):
        for name in ("experts", "pairs", "gpus", "nodes"):
            assert getattr(one, name).tobytes() == getattr(other, name).tobytes()
        assert one.dropped == other.dropped
