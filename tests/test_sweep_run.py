"""A sweep runs: what is finished stays, whatever ends the program, and the same sweep ends in the same bytes."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from builders import documents, hosted

from simulator import inputs
from simulator.cli.commands import _main
from simulator.store import Folder, columns, csv_text, flat, write_parquet
from simulator.sweep import points, read
from simulator.sweep.run import Task, run, run_point
from simulator.whatif import simulate

ROOT = Path(__file__).resolve().parent.parent
SWEEP = {
    "name": "trial",
    "topology": "mine.yaml",
    "workload": "tiny.yaml",
    # ep 3 divides nothing here: rows that say why.
    "axes": {
        "layout.ep": [1, 3, 2],
        "topology.node.nvlink": ["200 GB/s bidirectional", "400 GB/s bidirectional"],
    },
    "derived": {"ms": "step_time_s * 1000", "slow": "ms > 12"},
}
MANY = {
    "layout.ep": [1, 2],
    "topology.node.nvlink": [f"{rate} GB/s bidirectional" for rate in range(100, 900, 40)],
}
"""Two times 20 points: more than can end between a look at the folder and a signal."""
NAMES = ("results.csv", "results.parquet")


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Work in a folder with a small topology and workload; return a function that writes a sweep over them."""
    monkeypatch.chdir(tmp_path)
    for name, document in zip(("mine.yaml", "tiny.yaml"), documents(), strict=True):
        (tmp_path / name).write_text(json.dumps(document.data, indent=1), encoding="utf-8")

    def sweep(**keys):
        (tmp_path / "s.yaml").write_text(json.dumps({**SWEEP, **keys}, indent=1), encoding="utf-8")

    sweep()
    return sweep


def here(function, jobs, _):
    """Run jobs in this process: a pool for tests of what stands above pools."""
    from simulator.pool.jobs import Outcome, called

    for job in jobs:
        yield Outcome(job, *called(function, job.payload))


@pytest.fixture
def at_home(monkeypatch):
    """Let `simulate sweep` run its points in this process."""
    monkeypatch.setattr("simulator.pool.POOLS", {"processes": here})
    monkeypatch.setattr(sys.modules["simulator.sweep.run"], "POOLS", {"processes": here})


def table(folder="trial"):
    return list(
        csv.DictReader((Path(folder) / "results.csv").read_text(encoding="utf-8").splitlines())
    )


def bytes_of(folder):
    return [(Path(folder) / name).read_bytes() for name in NAMES]


def start(*arguments):
    """Start the command as a process group of its own, as a shell does."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # A shell lets what it starts in the background ignore Ctrl-C, and children inherit that.
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        [sys.executable, "-m", "simulator", "sweep", *arguments],
        env=environment,
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    signal.signal(signal.SIGINT, handler)
    return process


def wait_for_points(folder, count, process):
    while len(list((Path(folder) / "points").glob("[!.]*.json"))) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


# Rows


@pytest.mark.slow
def test_rows_hold_axes_inputs_outputs_and_derived_columns(write, at_home, capsys):
    assert _main(["sweep", "s.yaml"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "6 points: 4 ok, 2 illegal" in out
    rows = table()
    assert [(row["axis.layout.ep"], row["axis.topology.node.nvlink"]) for row in rows] == [
        (ep, f"{n}00 GB/s bidirectional") for ep in ("1", "3", "2") for n in (2, 4)
    ]
    one = rows[5]  # ep 2 at 400 GB/s: the file as it stands
    report = simulate(hosted())
    assert float(one["step_time_s"]) == report.step_time
    assert float(one["ms"]) == report.step_time * 1000
    assert one["slow"] == str(report.step_time > 0.012).lower()
    assert float(one["topology.node.nvlink"]) == 200e9
    assert (one["workload.layout.ep"], one["workload.layout.vpp"], one["model.hidden_size"]) == (
        "2",
        "1",
        "1024",
    )
    assert {f"bounds.{bound.name}.seconds" for bound in report.bounds} <= set(one)
    assert float(one["memory.peak_bytes"]) == report.worst_memory.peak


@pytest.mark.slow
def test_brackets_in_names_are_shown_as_they_are(write, at_home, capsys):
    write(name="[b]", axes={"experts.distribution": ["balanced", "[red]"]}, derived={"x[i]": "1"})
    assert _main(["sweep", "s.yaml"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["[b]"]
    assert "x[i]" in lines[1]
    assert lines[3][0] == "[red]"


@pytest.mark.slow
def test_json_holds_the_same_rows(write, at_home, capsys):
    assert _main(["sweep", "s.yaml", "--json", "-"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["sweep"] == "trial"
    assert [str(row["axis.layout.ep"]) for row in tree["rows"]] == [
        row["axis.layout.ep"] for row in table()
    ]
    assert tree["rows"][0]["step_time_s"] == float(table()[0]["step_time_s"])


@pytest.mark.slow
def test_an_illegal_point_is_a_row_that_says_why(write, at_home):
    _main(["sweep", "s.yaml"])
    illegal = [row for row in table() if row["status"] == "illegal"]
    assert [row["axis.layout.ep"] for row in illegal] == ["3"] * 2
    assert all(
        row["error"].startswith("layout.ep: 3 does not divide 8 routed experts") for row in illegal
    )
    assert all(row["step_time_s"] == row["ms"] == "" for row in illegal)
    assert all(row["workload.layout.ep"] == "3" for row in illegal)


@pytest.mark.slow
def test_penalties_add_their_columns(write, at_home):
    write(
        penalties=True,
        axes={"experts.max_violation": [0.5]},
        set={"experts.distribution": "log_normal"},
        derived={},
    )
    _main(["sweep", "s.yaml"])
    (row,) = table()
    assert float(row["imbalance.lost_s"]) > 0
    write(
        axes={"experts.max_violation": [0.5]},
        set={"experts.distribution": "log_normal"},
        derived={},
    )
    _main(["sweep", "s.yaml"])
    (plain,) = table()
    assert plain["step_time_s"] == row["step_time_s"]
    assert "imbalance.lost_s" not in plain


@pytest.mark.slow
def test_files_can_be_an_axis(write, at_home, tmp_path):
    slow = json.loads((tmp_path / "mine.yaml").read_text(encoding="utf-8")) | {
        "name": "slow",
        "gpu": "h20",
    }
    (tmp_path / "slow.yaml").write_text(json.dumps(slow), encoding="utf-8")
    write(axes={"topology": ["mine.yaml", "slow.yaml"]})
    _main(["sweep", "s.yaml"])
    fast, slow = table()
    assert (fast["topology.name"], slow["topology.name"]) == ("small", "slow")
    assert float(slow["step_time_s"]) > float(fast["step_time_s"])


def test_a_wrong_derived_name_is_told_at_the_first_point(write, at_home, capsys):
    write(derived={"x": "step_tme_s * 2"})
    assert _main(["sweep", "s.yaml"]) == 2
    err = capsys.readouterr().err
    assert "derived.x: 'step_tme_s' is not a column" in err
    assert err.count("\n") == 1
    assert len(list(Path("trial/points").iterdir())) == 1


@pytest.mark.slow
def test_equal_points_are_simulated_once(write, at_home):
    write(mode="list", axes={"layout.ep": [2, 4, 2]}, derived={})
    _main(["sweep", "s.yaml"])
    assert len(list(Path("trial/points").iterdir())) == 2
    assert [row["axis.layout.ep"] for row in table()] == ["2", "4", "2"]


# Where it writes


def files():
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["../victim", "", "..", "a/b", ".hidden", "a\nb"])
def test_a_sweeps_name_is_one_folder_here(write, at_home, tmp_path, monkeypatch, capsys, name):
    for file in ("lock", "results.csv", "points/a.json"):
        (tmp_path / "victim" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "victim" / file).write_text("mine", encoding="utf-8")
    write(name=name)
    before = files()
    Path("work").mkdir()
    monkeypatch.chdir("work")
    assert _main(["sweep", "../s.yaml"]) == 2
    err = capsys.readouterr().err
    assert f"s.yaml:2: name: {name!r} is not the name of one folder. Write a name such as" in err
    assert err.count("\n") == 1
    monkeypatch.chdir(tmp_path)
    assert files() == before


@pytest.mark.parametrize("chosen", [(), ("-o", "trial"), ("-o", ".")])
def test_a_sweep_takes_no_folder_of_something_else(write, at_home, capsys, chosen):
    Path("trial/points").mkdir(parents=True)
    for file in ("lock", "results.csv", "points/.torn.json"):
        Path("trial", file).write_text("mine", encoding="utf-8")
    before = files()
    assert _main(["sweep", "s.yaml", *chosen]) == 2
    assert "is not a folder of a sweep, and not empty. Name another" in capsys.readouterr().err
    assert files() == before


def test_a_folder_of_results_is_not_standard_output(write, at_home, capsys):
    write(axes={"layout.ep": [1]})
    before = files()
    assert _main(["sweep", "s.yaml", "-o", "-"]) == 2
    assert "Write --json - for the rows." in capsys.readouterr().err
    assert files() == before


def test_a_sweeps_name_leads_through_no_link_but_o_does(write, at_home, tmp_path, capsys):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "trial").symlink_to("elsewhere")
    write(axes={"layout.ep": [1]})
    assert _main(["sweep", "s.yaml"]) == 2
    assert "s.yaml:2: name: 'trial' is a symbolic link here." in capsys.readouterr().err
    assert not list((tmp_path / "elsewhere").iterdir())
    assert _main(["sweep", "s.yaml", "-o", "trial"]) == 0
    assert (tmp_path / "elsewhere" / "results.csv").is_file()


@pytest.mark.parametrize("file", ["lock", "results.csv", "points/x.json", "../trial/timing.csv"])
def test_no_output_takes_the_place_of_a_sweeps_own_file(write, at_home, capsys, file):
    Path("trial").mkdir()
    with Folder(Path("trial")).open():
        before = files()
    assert _main(["sweep", "s.yaml", "--json", f"trial/{file}"]) == 2
    said = f"--json: 'trial/{file}' is a file of the sweep's own. Name another file."
    assert said in capsys.readouterr().err
    assert files() == before


@pytest.mark.slow
def test_figures_may_lie_next_to_a_sweeps_own_files(write, at_home):
    write(axes={"layout.ep": [1]})
    assert _main(["sweep", "s.yaml"]) == 0
    for _ in range(2):
        assert _main(["sweep", "s.yaml", "--json", "trial/rows.json"]) == 0
    assert json.loads(Path("trial/rows.json").read_text(encoding="utf-8"))["rows"]


def test_no_spreadsheet_works_out_what_a_sweep_is_told(write, at_home):
    cluster = json.loads(Path("mine.yaml").read_text(encoding="utf-8")) | {"name": "=1+1"}
    Path("mine.yaml").write_text(json.dumps(cluster), encoding="utf-8")
    write(axes={"layout.ep": [1]}, derived={"=2+2": "0 - 1.5"})
    assert _main(["sweep", "s.yaml"]) == 0
    (row,) = table()
    assert row["topology.name"] == "'=1+1"
    assert float(row["'=2+2"]) == -1.5
    assert "=2+2" not in row


WITHOUT_LOCKS = """
import importlib, pkgutil, sys
sys.modules["fcntl"] = None
import simulator
for module in pkgutil.walk_packages(simulator.__path__, "simulator."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
import simulator.cli.commands
if __name__ == "__main__":
    sys.exit(simulator.cli.commands._main(["sweep", "s.yaml", "--workers", "1"]))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="Windows has its own lock")
def test_systems_without_fcntl_run_it_all(write, tmp_path):
    # What Windows lacks. The other system's module is not here either: a marker stands in.
    write(axes={"layout.ep": [1]})
    Path("blocked.py").write_text(WITHOUT_LOCKS, encoding="utf-8")
    command = [sys.executable, "blocked.py"]
    keys = {"env": {**os.environ, "PYTHONPATH": str(ROOT)}, "capture_output": True, "text": True}
    done = subprocess.run(command, check=False, **keys)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(table()) == 1
    assert not Path("trial/lock.held").exists()
    Path("trial/lock.held").touch()
    done = subprocess.run(command, check=False, **keys)
    assert done.returncode == 2
    assert (
        "'trial' is in use by another sweep. Wait for it, or if it was killed, delete"
        in done.stderr
    )


# Interruption


@pytest.mark.slow
def test_killed_at_any_moment_it_continues_and_ends_in_the_same_bytes(write, capsys):
    write(axes=MANY)
    assert _main(["sweep", "s.yaml", "-o", "whole", "--workers", "1"]) == 0
    for count in (1, 5):
        process = start("s.yaml", "-o", "killed", "--workers", "2")
        wait_for_points("killed", count, process)
        process.kill()
        process.communicate()
        assert not (Path("killed") / "results.csv").exists()
    kept = {path.name for path in Path("killed/points").glob("[!.]*.json")}
    before = {name: (Path("killed/points") / name).stat().st_mtime_ns for name in kept}
    assert 5 <= len(kept) < 40
    assert _main(["sweep", "s.yaml", "-o", "killed", "--workers", "2"]) == 0
    assert bytes_of("killed") == bytes_of("whole")
    assert {
        name: (Path("killed/points") / name).stat().st_mtime_ns for name in kept
    } == before  # nothing again
    assert not list(Path("killed/points").glob(".*"))


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="Windows has no process groups to interrupt")
def test_ctrl_c_ends_with_how_to_continue(write):
    # So many points that it cannot end between its first point and the signal.
    write(axes={"layout.ep": [1, 2], "experts.seed": list(range(200))})
    process = start("s.yaml", "--workers", "2")
    wait_for_points("trial", 1, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    kept = len(list(Path("trial/points").iterdir()))
    assert (
        err == f"interrupted: {kept} of 400 points are kept in trial; the same command continues\n"
    )


@pytest.mark.slow
def test_a_finished_sweep_repeats_nothing(write, at_home, monkeypatch, capsys):
    _main(["sweep", "s.yaml"])
    first, timing = bytes_of("trial"), Path("trial/timing.csv").read_text(encoding="utf-8")
    assert timing.count("\n") == 7
    monkeypatch.setattr(sys.modules["simulator.sweep.run"], "run_point", None)
    assert _main(["sweep", "s.yaml"]) == 0
    assert bytes_of("trial") == first
    assert Path("trial/timing.csv").read_text(encoding="utf-8") == timing


@pytest.mark.slow
def test_a_point_that_cannot_be_read_is_simulated_again(write, at_home):
    _main(["sweep", "s.yaml"])
    first = bytes_of("trial")
    torn = min(Path("trial/points").iterdir())
    torn.write_text(torn.read_text(encoding="utf-8")[:100], encoding="utf-8")
    Path("trial/timing.csv").write_text("point,hash,sec", encoding="utf-8")
    _main(["sweep", "s.yaml"])
    assert bytes_of("trial") == first
    assert (
        Path("trial/timing.csv").read_text(encoding="utf-8").splitlines()[1].split(",")[1]
        == torn.stem
    )


@pytest.mark.slow
def test_a_point_that_no_worker_finishes_is_a_row_and_is_tried_again_next_time(
    write, at_home, monkeypatch, capsys
):
    def broken(task):
        if task.run.data["layout"]["ep"] == 2:
            raise RuntimeError("lost")
        return run_point(task)

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["simulator.sweep.run"], "run_point", broken)
        assert _main(["sweep", "s.yaml"]) == 1
    assert [row["error"] for row in table() if row["status"] == "failed"] == [
        "RuntimeError: lost"
    ] * 2
    assert _main(["sweep", "s.yaml"]) == 0
    assert {row["status"] for row in table()} == {"ok", "illegal"}


def test_another_version_of_the_program_refuses_to_mix(write):
    (point, *_) = points(read("s.yaml"))
    with pytest.raises(Exception, match="another version of simulate"):
        run_point(Task(point.cluster, point.run, "", False, "older"))


def test_two_sweeps_do_not_share_a_folder(write, capsys):
    with Folder(Path("trial")).open():
        assert _main(["sweep", "s.yaml"]) == 2
    assert "'trial' is in use by another sweep" in capsys.readouterr().err


# On a cluster engine


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_bytes(write, scheduler, capsys):
    assert _main(["sweep", "s.yaml", "-o", "dask", "--scheduler", scheduler]) == 0
    assert _main(["sweep", "s.yaml", "-o", "whole", "--workers", "1"]) == 0
    assert bytes_of("dask") == bytes_of("whole")


# Files


@pytest.mark.slow
def test_parquet_holds_what_csv_holds(write, at_home):
    from pyarrow import parquet

    _main(["sweep", "s.yaml"])
    found = parquet.read_table("trial/results.parquet").to_pylist()
    rows = table()
    assert list(found[0]) == list(rows[0])
    assert [row["step_time_s"] for row in found] == [
        float(row["step_time_s"] or "nan") if row["step_time_s"] else None for row in rows
    ]
    assert found[0]["axis.layout.ep"] == 1
    assert found[0]["slow"] in (True, False)


def test_columns_have_one_type_each(tmp_path):
    rows = [
        flat(tree)
        for tree in (
            {
                "a": 1,
                "b": {"c": "x"},
                "d": True,
                "e": [1, 2],
                "f": [{"name": "g", "h": 1}],
                "n": None,
            },
            {"a": 1.5, "b": {"c": 2}, "d": None, "i": float("inf")},
        )
    ]
    made = columns(rows)
    assert made == {
        "a": [1.0, 1.5],
        "b.c": ["x", "2"],
        "d": [True, None],
        "e": ["[1, 2]", None],
        "f.g.h": [1, None],
        "n": [None, None],
        "i": [None, None],
    }
    assert csv_text(made) == 'a,b.c,d,e,f.g.h,n,i\n1.0,x,true,"[1, 2]",1,,\n1.5,2,,,,,\n'
    write_parquet(tmp_path / "t.parquet", made)
    from pyarrow import parquet

    assert parquet.read_table(tmp_path / "t.parquet").to_pydict() == made


@pytest.mark.slow
def test_a_figure_of_all_panels_is_the_same_bytes_again(write, at_home):
    nvlink = ["200 GB/s bidirectional", "400 GB/s bidirectional", "900 GB/s bidirectional"]
    write(
        figures=[
            {"kind": "knee", "x": "topology.node.nvlink", "by": "layout.ep"},
            {"kind": "heat_map", "x": "topology.node.nvlink", "y": "layout.ep"},
            {
                "kind": "scaling",
                "x": "topology.node.nvlink",
                "by": "layout.ep",
                "value": "tokens_per_second",
            },
            {"kind": "bars", "x": "layout.ep", "value": "ms", "label": "step [ms]"},
        ],
        axes={"layout.ep": [1, 3], "topology.node.nvlink": nvlink},
    )
    for name in ("one", "two"):
        assert _main(["sweep", "s.yaml", "--plot", f"{name}.svg"]) == 0
    assert Path("one.svg").read_bytes() == Path("two.svg").read_bytes()


@pytest.mark.parametrize(
    "keys",
    [
        {"kind": "knee", "x": "layout.pp"},
        {"kind": "knee", "x": "layout.ep", "value": "x"},
        {"kind": "bars", "x": "layout.ep", "value": "workload.name"},
    ],
)
@pytest.mark.slow
def test_a_figure_of_what_is_not_there_is_bad_input(write, at_home, capsys, keys):
    write(figures=[keys], axes={"layout.ep": [1, 2]})
    assert _main(["sweep", "s.yaml", "--plot", "x.png"]) == 2
    assert "figures" in capsys.readouterr().err
    assert table()


# What ships


@pytest.mark.slow
@pytest.mark.parametrize("name", inputs.shipped("sweeps"))
def test_every_shipped_sweep_is_named_as_it_is_called_and_all_its_points_are_scenarios(name):
    from simulator.scenario import build

    sweep = read(name)
    assert sweep.config.name == name
    chosen = points(sweep)
    assert len({point.name for point in chosen}) > 5
    for point in (chosen[0], chosen[-1]):
        assert build(point.cluster, point.run)


def test_the_sweep_over_nvlink_has_at_least_24_points_of_deepseek_v3():
    chosen = points(read("nvlink"))
    assert len(chosen) >= 24
    assert {tuple(point.values) for point in chosen} == {("layout.ep", "topology.node.nvlink")}


@pytest.mark.slow
def test_points_come_first_from_the_folder(write, at_home):
    sweep, folder = read("s.yaml"), Folder(Path("trial"))
    with folder.open():
        first = list(run(points(sweep)[:3], folder))
        again = list(run(points(sweep)[:4], folder))
    assert [one.reused for one in first] == [False] * 3
    assert [one.reused for one in again] == [True] * 3 + [False]
    assert [one.tree for one in again[:3]] == [one.tree for one in first]


@pytest.mark.slow
def test_a_page_has_every_panel_every_point_and_the_command(write, at_home):
    nvlink = ["200 GB/s bidirectional", "400 GB/s bidirectional", "900 GB/s bidirectional"]
    write(
        figures=[
            {"kind": "knee", "x": "topology.node.nvlink", "by": "layout.ep"},
            {"kind": "heat_map", "x": "topology.node.nvlink", "y": "layout.ep"},
            {
                "kind": "scaling",
                "x": "topology.node.nvlink",
                "by": "layout.ep",
                "value": "tokens_per_second",
            },
            {"kind": "bars", "x": "layout.ep", "value": "ms", "label": "step [ms]"},
        ],
        axes={"layout.ep": [1, 3], "topology.node.nvlink": nvlink},
    )
    assert _main(["sweep", "s.yaml", "--html", "page.html"]) == 0
    page = Path("page.html").read_text(encoding="utf-8")
    drawn = json.loads(page.split('id="charts">')[1].split("</script>")[0])
    kinds = [chart["data"][0]["type"] for chart in drawn.values()]
    assert kinds == ["scatter", "heatmap", "scatter", "bar"]
    # ep 3 does not divide the GPUs: three points with a reason, and a hole in the heat map.
    curve, cells = drawn["figure0"]["data"][0], drawn["figure1"]["data"][0]["z"]
    assert curve["x"] == [200, 400, 900]
    assert curve["y"] == cells[0]
    assert cells[1] == [None] * 3
    assert page.count("<td>illegal</td>") == 3
    assert "<td>3</td><td>layout.ep: 3 does not divide" in page
    assert "step time [ms] over NVLink and expert-parallel size" in page
    assert "simulate sweep s.yaml --html page.html" in page
    assert "6 points: 3 ok, 3 illegal" in page
