"""Every output option of every command: written where it leads, and never over what the command reads."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest
from builders import documents

from simulator.cli.commands import _main, cli
from simulator.cli.outputs import INPUTS, output

ROOT = Path(__file__).resolve().parent.parent
NOT_FILES = {
    ("keys", "prefix"),
    ("schedule", "name"),
    ("schema", "kind"),
    ("validate", "cases"),
}
"""(command, argument) of arguments that name no file."""

ON_POSIX = pytest.mark.skipif(os.name != "posix", reason="Windows has no such files")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Work in a folder with a small topology, a workload, its model, a sweep and a trace."""
    monkeypatch.chdir(tmp_path)
    cluster, training = (document.data for document in documents())
    trees = {
        "in.yaml": cluster,
        "model.json": training["model"],
        "w.yaml": {**training, "model": {"hf_config": "model.json"}},
        "s.yaml": {
            "name": "trial",
            "topology": "in.yaml",
            "workload": "w.yaml",
            "axes": {"layout.ep": [1]},
        },
        "t.json": {"traceEvents": []},
    }
    for name, tree in trees.items():
        (tmp_path / name).write_text(json.dumps(tree, indent=1), encoding="utf-8")
    (tmp_path / "grid.json").write_text("F0@0 B0@0\n", encoding="utf-8")
    return tmp_path


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


RUN = ("run", "in.yaml", "-w", "w.yaml")


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (("topology", "in.yaml", "--json"), "in.yaml"),
        (("topology", "in.yaml", "--json"), "./in.yaml"),
        (("topology", "in.yaml", "--json"), "link"),
        (("topology", "in.yaml", "--json"), "second-name"),
        (("topology", "link", "--json"), "in.yaml"),
        ((*RUN, "--json"), "w.yaml"),
        ((*RUN, "--html"), "in.yaml"),
        ((*RUN, "--json"), "model.json"),
        ((*RUN, "--trace"), "model.json"),
        ((*RUN, "--set", "model.hf_config=other.json", "--json"), "other.json"),
        (("compare", "h800-2048", "in.yaml", "-w", "w.yaml", "--html"), "in.yaml"),
        (("compare", "in.yaml", "-w", "deepseek-v3", "-w", "w.yaml", "--json"), "w.yaml"),
        (("sweep", "s.yaml", "--json"), "s.yaml"),
        (("sweep", "s.yaml", "--html"), "in.yaml"),
        (("sweep", "s.yaml", "--json"), "model.json"),
        (("trace", "t.json", "--json"), "t.json"),
        (("collective", "in.yaml", "--op", "all_reduce", "--bytes", "1MiB", "--json"), "in.yaml"),
        (("schedule", "custom", "--file", "grid.json", "--json"), "grid.json"),
    ],
)
def test_no_command_writes_over_what_it_reads(files, capsys, arguments, path):
    (files / "link").symlink_to("in.yaml")
    (files / "other.json").write_bytes((files / "model.json").read_bytes())
    (files / "second-name").hardlink_to(files / "in.yaml")
    before = contents(files)
    assert _main((*arguments, path)) == 2
    out, err = capsys.readouterr()
    option = arguments[-1]
    said = f"{option}: '{Path(path)}' is an input of this command. Name another file."
    assert (out, err) == ("", f"simulate: {said}\n")
    assert contents(files) == before


def test_no_command_writes_over_a_shipped_file_that_it_reads(capsys):
    from simulator.inputs import shipped

    path = shipped("topologies")["h800-2048"]
    before = path.read_bytes()
    assert _main(("topology", "h800-2048", "--json", str(path))) == 2
    assert "is an input of this command" in capsys.readouterr().err
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("command", "option"),
    [(run, f"--{name}") for run in ("run", "compare") for name in ("plot", "html")]
    + [("run", "--trace"), ("topology", "--plot"), ("sweep", "--html")],
)
def test_only_json_goes_to_standard_output(files, capsys, command, option):
    before = contents(Path())
    assert _main([command, "mine.yaml", option, "-"]) == 2
    message = f"{option}: '-' is standard output, where only --json writes. Name a file."
    assert capsys.readouterr().err == f"simulate: {message}\n"
    assert contents(Path()) == before


def test_an_earlier_result_of_the_same_name_is_replaced(files, capsys):
    # The sweep and the topology are called so; neither reads a file of that name.
    for name in ("trial.json", json.loads((files / "in.yaml").read_text())["name"]):
        for _ in range(2):
            assert _main(("topology", "in.yaml", "--json", name)) == 0
        assert json.loads((files / name).read_text())["gpus"] == 8


def test_two_outputs_do_not_share_a_file(files, capsys):
    before = contents(files)
    assert _main((*RUN, "--json", "out.json", "--html", "./out.json")) == 2
    assert "--html: 'out.json' is written by --json too." in capsys.readouterr().err
    assert contents(files) == before


def test_every_argument_that_names_a_file_is_guarded():
    for name, command in cli.commands.items():
        for part in command.params:
            reads = isinstance(part, click.Argument) or isinstance(part.type, click.Path)
            if not reads or (name, part.name) in NOT_FILES:
                continue
            writes = part.callback is output or (name, part.name) == ("sweep", "output")
            assert writes or part.name in INPUTS, (name, part.name)


def test_every_output_of_every_command_is_checked():
    for command in cli.commands.values():
        for part in command.params:
            if part.name in ("json", "plot", "html"):
                assert part.callback is output


def simulate(*arguments, **keys):
    return subprocess.run(
        [sys.executable, "-m", "simulator", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        text=True,
        stderr=subprocess.PIPE,
        **keys,
    )


TOPOLOGY = ("topology", "in.yaml", "--json")


@ON_POSIX
@pytest.mark.slow
def test_dev_null_stays_a_device(files):
    done = simulate(*TOPOLOGY, "/dev/null", stdout=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, "")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@ON_POSIX
@pytest.mark.slow
def test_dev_stdout_is_written_ahead_of_the_text(files):
    # To a pipe, and to a file that the shell opened: the file is neither replaced nor cut off.
    piped = simulate(*TOPOLOGY, "/dev/stdout", stdout=subprocess.PIPE).stdout
    with (files / "out.txt").open("w") as file:
        file.write("before\n")
        file.flush()
        assert simulate(*TOPOLOGY, "/dev/stdout", stdout=file).returncode == 0
    assert (files / "out.txt").read_text() == f"before\n{piped}"
    tree, end = json.JSONDecoder().raw_decode(piped)
    assert tree["gpus"] == 8
    assert "bisection bandwidth" in piped[end:]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
@pytest.mark.slow
def test_a_full_disk_is_told_in_one_line(files):
    done = simulate(*TOPOLOGY, "/dev/full", stdout=subprocess.DEVNULL)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


@pytest.mark.slow
def test_a_figure_goes_through_a_link(files, capsys):
    (files / "real.svg").write_text("old")
    (files / "real.svg").chmod(0o600)
    (files / "link.svg").symlink_to("real.svg")
    assert _main(("topology", "in.yaml", "--plot", "link.svg")) == 0
    assert (files / "link.svg").is_symlink()
    assert (files / "real.svg").read_text().startswith("<?xml")
    assert stat.S_IMODE((files / "real.svg").stat().st_mode) == 0o600
