"""The command line as a user meets it: what it prints and writes, and the one line that a wrong input is told."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from builders import CLUSTER, TRAINING, documents

import simulator
from simulator import errors
from simulator.cli.commands import _main, cli
from simulator.report import as_dict

KEYS = {
    "": "schema_version topology workload gpus model step_time_s tokens_per_step tokens_per_second tokens_per_day "
    "model_flops_per_step tflops_per_gpu mfu mfu_peak_flops bubble_fraction breakdown_s phases_s traffic_bytes memory "
    "bounds run reference engine",
    "model": "name parameters active_parameters flops_per_token",
    "traffic_bytes": "expert pipeline data tensor context",
    "memory": "peak_bytes capacity_bytes by_category by_stage",
    "run": "tokens steps wall_days gpu_hours cost_usd",
    "engine": "executor ops events rank_classes wall_s",
}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Write a small topology and workload, and work in their folder. Return a function that writes others."""
    monkeypatch.chdir(tmp_path)

    def write(**changes):
        # JSON is YAML, and one key per line gives errors their lines.
        for name, document in zip(("mine.yaml", "tiny.yaml"), documents(**changes), strict=True):
            (tmp_path / name).write_text(json.dumps(document.data, indent=1), encoding="utf-8")

    write()
    return write


def succeeds(capsys, *arguments: str) -> str:
    status = _main(arguments)
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    return out


def refused(capsys, *arguments: str) -> str:
    """Return the one line that a wrong input is told."""
    status = _main(arguments)
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert err.count("\n") == 1, err
    assert err.startswith("simulate: ")
    return err.removeprefix("simulate: ").rstrip("\n")


RUN = ("run", "mine.yaml", "-w", "tiny.yaml")
COMPARE = ("compare", "mine.yaml", "-w", "tiny.yaml")


def run_json(capsys, *arguments: str) -> dict:
    return json.loads(succeeds(capsys, *RUN, "--json", "-", *arguments))


# What it prints


@pytest.mark.slow
def test_run_shows_the_step_the_parts_the_memory_and_the_bounds(files, capsys):
    text = succeeds(capsys, *RUN)
    for part in (
        "tiny on small",
        "step time",
        "Where the step goes",
        "Peak memory",
        "fits",
        "Lower bounds",
        "hosts",
        "critical path",
        "8 H800 GPUs",
        "GPU-hours",
        " ops on ",
    ):
        assert part in text


def test_run_answers_for_deepseek_v3_from_bare_names(capsys):
    text = succeeds(capsys, "run", "h800-2048", "--no-alternatives")
    assert "DeepSeek-V3 on h800-2048" in text
    assert "arXiv 2412.19437" in text


@pytest.mark.slow
def test_compare_shows_scenarios_side_by_side_and_why_they_differ(files, capsys):
    files(node__nic="10 GB/s per direction")
    slow = Path("mine.yaml").rename("slow.yaml")
    slow.write_text(slow.read_text(encoding="utf-8").replace('"small"', '"slow"'), encoding="utf-8")
    files()
    text = succeeds(capsys, "compare", "mine.yaml", "slow.yaml", "-w", "tiny.yaml")
    for part in ("slow", "step time", "slower", "topology.node.nic", "nearest bound"):
        assert part in text


@pytest.mark.slow
def test_compare_writes_all_reports_and_their_rows(files, capsys):
    tree = json.loads(
        succeeds(capsys, "compare", "mine.yaml", "mine.yaml", "-w", "tiny.yaml", "--json", "-")
    )
    assert len(tree["scenarios"]) == 2
    assert {"schema_version", "rows", "differences", "why"} <= set(tree)
    assert tree["rows"][0]["quantity"] == "step time"
    assert tree["rows"][0]["relative"] == [1.0, 1.0]
    assert "the step takes the same time" in tree["why"][0]


@pytest.mark.slow
def test_validate_shows_published_beside_simulated(capsys):
    text = succeeds(capsys, "validate", "deepseek-v3-chunk")
    assert "calibration" in text
    assert "attn(F), kernels per layer" in text
    text = succeeds(
        capsys, "validate", "megatron_2021/1.7b", "megatron_2022/22b-states", "--alternatives"
    )
    assert "published steps and runs: 1, none used for calibration; mean absolute error" in text
    assert (
        "published memory figures: 1, none used for calibration; mean absolute error 1.5%" in text
    )
    checks = json.loads(succeeds(capsys, "validate", "megatron_2022/22b-full", "--json", "-"))[
        "checks"
    ]
    assert [(row["case"], row["published"], row["use"]) for row in checks] == [
        ("megatron_2022/22b-full", 1.42, "validation")
    ]


def test_json_has_every_key_that_stays_stable(files, capsys):
    tree = run_json(capsys)
    for path, names in KEYS.items():
        assert set(names.split()) <= set(tree[path] if path else tree), path
    assert tree["schema_version"] == 1
    assert all(set(sent) == {"nic", "nvlink"} for sent in tree["traffic_bytes"].values())
    assert all({"name", "seconds", "formula"} <= set(bound) for bound in tree["bounds"])
    assert sum(tree["breakdown_s"].values()) == pytest.approx(tree["step_time_s"])
    assert sum(tree["phases_s"].values()) == pytest.approx(tree["step_time_s"])
    assert tree["gpus"] == 8


def test_references_carry_published_simulated_error_and_source(files, capsys):
    tree = run_json(
        capsys, "--set", "reference=[{quantity: step_time_s, value: 1.0, source: mine}]"
    )
    (row,) = tree["reference"]
    assert row["published"] == 1.0
    assert row["simulated"] == tree["step_time_s"]
    assert row["error_percent"] == pytest.approx(100 * (tree["step_time_s"] - 1))
    assert row["source"] == "mine"


@pytest.mark.slow
def test_two_runs_write_the_same_bytes_but_for_the_wall_clock(files, capsys):
    first, second = (succeeds(capsys, *RUN, "--json", "-").splitlines() for _ in range(2))
    assert [a for a, b in zip(first, second, strict=True) if a != b and '"wall_s"' not in a] == []


def test_set_replaces_a_key_of_either_file(files, capsys):
    tree = run_json(
        capsys,
        "--set",
        "node.nic=10 GB/s per direction",
        "--set",
        "schedule.name=dualpipe",
        "--set",
        "topology.name=other",
    )
    assert tree["topology"] == "other"
    assert tree["phases_s"]["FB"] > 0


@pytest.mark.slow
def test_a_step_that_does_not_fit_says_so(files, capsys):
    text = succeeds(capsys, *RUN, "--set", "training.seq_length=1048576")
    assert "does not fit" in text
    assert "DOES NOT FIT" in text


# What it writes


def test_json_and_text_together_when_json_goes_to_a_file(files, capsys, tmp_path):
    assert "step time" in succeeds(capsys, *RUN, "--json", "out.json")
    assert json.loads((tmp_path / "out.json").read_text())["gpus"] == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mine.yaml",
        "out.json",
        "tiny.yaml",
    ]
    assert stat.S_IMODE((tmp_path / "out.json").stat().st_mode) == 0o644


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    from simulator.store import write

    path = tmp_path / "out.json"
    path.write_text("old")

    def half(place):
        place.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write(path, half)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
@pytest.mark.parametrize("command", [RUN, COMPARE], ids=["run", "compare"])
@pytest.mark.parametrize(
    ("ending", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_a_figure_is_drawn_with_the_same_bytes_twice(
    files, capsys, tmp_path, command, ending, magic
):
    for name in ("one", "two"):
        succeeds(capsys, *command, "--plot", f"{name}.{ending}")
    first, second = ((tmp_path / f"{name}.{ending}").read_bytes() for name in ("one", "two"))
    assert first.startswith(magic)
    assert first == second


# What a wrong input is told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("run", "absent.yaml"),
            "absent.yaml: topology: 'absent.yaml' does not exist. Give a path, or one of the ",
        ),
        (
            ("run", "h800-2084"),
            "h800-2084: topology: 'h800-2084' does not exist. Did you mean 'h800-2048'?",
        ),
        (("run", "mine.yaml", "-w", "deepsek-v3"), "Did you mean 'deepseek-v3'?"),
        (
            (*RUN, "--set", "layout.pp=7"),
            "--set: layout.pp: 7 does not divide 8 GPUs: tp 1 x cp 1 x pp 7 x dp must be "
            "8. The nearest that do: 4 and 8.",
        ),
        (
            (*RUN, "--set", "layout.ep=3"),
            "--set: layout.ep: 3 does not divide 8 routed experts. The nearest that fit: 2 and 4.",
        ),
        (
            (*RUN, "--set", "layout.tp=3"),
            "--set: layout.tp: 3 does not divide 8 GPUs: tp 3 x cp 1 x pp 2 x dp must be "
            "8. The nearest that do: 2 and 4.",
        ),
        (
            (*RUN, "--set", "layout.epp=4"),
            "--set: layout.epp: 'epp' is not a key here. Did you mean ",
        ),
        (
            (*RUN, "--set", "schedule.name=zb1p"),
            "--set: schedule.name: 'zb1p' is not a schedule. Choose from: gpipe, ",
        ),
        (
            (*RUN, "--set", "precision.recipe=fp4"),
            "--set: precision.recipe: 'fp4' is not a recipe. Choose from: ",
        ),
        (
            (*RUN, "--set", "node.nic=50"),
            "--set: node.nic: '50' has no unit. Write '50 GB/s bidirectional'",
        ),
        (
            (*RUN, "--set", "training.seq_length=0"),
            "--set: training.seq_length: 0 must be greater than 0.",
        ),
        (
            (*RUN, "--set", "training.global_batch_size=15"),
            "does not divide over dp 4 x micro_batch_size 1 = 4. The nearest that do: 12 and 16.",
        ),
        (
            (*RUN, "--set", "name=x"),
            "name: is a key of both files. Write 'topology.name' or 'workload.name'.",
        ),
        (
            (*RUN, "--set", "layuot.pp=4"),
            "--set: layuot.pp: 'layuot' is not a key of a topology or a workload. Did you mean 'layout.pp'?",
        ),
        ((*RUN, "--set", "layout.stages=[embedding 0-1]"), "names 1 stages where layout.pp is 2"),
        ((*RUN, "--set", "gpu=h900"), "gpu: 'h900' is not among the gpus known. Did you mean "),
        (
            (*RUN, "--plot", "figure.gif"),
            "--plot: 'figure.gif' is not an image format. End it in .png, .svg, .pdf.",
        ),
        (
            (*RUN, "--json", "no/out.json"),
            "--json: 'no/out.json' lies in a folder that does not exist. Create the ",
        ),
        (
            (*RUN, "--plot", "no/out.png"),
            "--plot: 'no/out.png' lies in a folder that does not exist. Create the ",
        ),
        ((*COMPARE, "--json", "."), "--json: '.' is a folder. Name a file in it."),
        (
            ("validate", "llama"),
            "CASE: 'llama' is not a case. Choose from: deepseek-v3-chunk, deepseek-v3",
        ),
    ],
)
def test_a_wrong_input_is_told_place_value_rule_and_remedy_in_one_line(
    files, capsys, tmp_path, arguments, message
):
    assert message in refused(capsys, *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.yaml", "tiny.yaml"]


@pytest.mark.parametrize(
    ("changes", "place", "message"),
    [
        (
            {"node__nvlnk": "1 GB/s per direction"},
            "mine.yaml:{line}: node.nvlnk",
            "Did you mean 'nvlink'?",
        ),
        ({"node__nic": 50}, "mine.yaml:{line}: node.nic", "'50' has no unit."),
        (
            {"nodes": 0},
            "mine.yaml:{line}: nodes",
            "0 must be greater than 0.",
        ),
        ({"layout__pp": 7}, "tiny.yaml:{line}: layout.pp", "7 does not divide 8 GPUs"),
        (
            {"schedule__name": "gpipes"},
            "tiny.yaml:{line}: schedule.name",
            "'gpipes' is not a schedule.",
        ),
        (
            {"gpu": "a100", "precision__recipe": "fp8_block"},
            "tiny.yaml:{line}: precision.recipe",
            "'fp8_block' multiplies in fp8, which a100 cannot. Write bf16, or choose a GPU that can: ",
        ),
    ],
)
@pytest.mark.slow
def test_a_wrong_file_is_named_with_its_line(files, capsys, changes, place, message):
    files(**changes)
    told = refused(capsys, *RUN)
    file, key = place.split(":")[0], place.split(": ")[1].split(".")[-1]
    rows = Path(file).read_text(encoding="utf-8").splitlines()
    line = max(
        number for number, row in enumerate(rows, 1) if f'"{key}":' in row
    )  # `name` also stands at the top
    assert told.startswith(place.format(line=line) + ": ")
    assert message in told


def test_a_file_that_is_no_yaml_is_named_with_its_line(files, capsys, tmp_path):
    (tmp_path / "mine.yaml").write_text("name: a\nnode: [1, 2\n", encoding="utf-8")
    assert refused(capsys, *RUN).startswith("mine.yaml:")


LONG = "n" * 400
UNREADABLE = f"'{LONG}' cannot be read: File name too long. Give "


@pytest.mark.skipif(os.name != "posix", reason="Windows says otherwise that a name is too long")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("topology", LONG), f"{LONG}: topology: {UNREADABLE}a path, or one of the shipped"),
        ((*RUN[:2], "-w", LONG), f"{LONG}: workload: {UNREADABLE}a path, or one of the shipped"),
        (("sweep", LONG), f"{LONG}: sweep: {UNREADABLE}a path, or one of the shipped"),
        (
            (*RUN, "--set", f"model={{hf_config: {LONG}}}"),
            f"--set: model.hf_config: {UNREADABLE}the path of a config.json, relative to this",
        ),
        (
            (*RUN, "--set", f"schedule={{name: custom, file: {LONG}}}"),
            f"--set: schedule.file: {UNREADABLE.removesuffix('Give ')}Give its path, relative to",
        ),
        (
            (*RUN, "--set", f"experts={{distribution: recorded, file: {LONG}}}"),
            f"--set: experts.file: {UNREADABLE}the path of a .npz or .csv file, relative to",
        ),
        (
            (*RUN, "--set", "experts={distribution: recorded, file: absent.csv}"),
            "--set: experts.file: 'absent.csv' does not exist. Give the path of a .npz or .csv",
        ),
        (
            (*RUN, "--set", "model={hf_config: .}"),
            "--set: model.hf_config: '.' is a folder, not a file. Give the path of a config.json",
        ),
        (
            (
                "topology",
                "mine.yaml",
                "--set",
                f"fabric={{kind: custom, switch_ports: 64, latency: 3 us, file: {LONG}.json}}",
            ),
            f"{LONG}.json: fabric.file: '{LONG}.json' cannot be read: File name too long. Give the",
        ),
        (
            (*RUN, "--trace", f"{LONG}/a.json"),
            f"--trace: '{LONG}/a.json' cannot be written to: File name too long.",
        ),
        (("trace", LONG), f"{LONG}: cannot be read: File name too long. Give the path of a"),
        (("trace", "."), ".: is a folder, not a file. Give the path of a .json or .json.gz file."),
    ],
)
@pytest.mark.slow
def test_what_cannot_be_a_file_is_bad_input(files, capsys, arguments, message):
    assert refused(capsys, *arguments).startswith(message)


def test_a_set_that_is_no_assignment_is_bad_usage(files, capsys):
    assert _main((*RUN, "--set", "layout.ep")) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "'layout.ep' is not KEY=VALUE. Write for example layout.ep=32." in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["schema"],
            "Missing argument '{topology|workload|sweep|campaign}'. "
            "Choose from: topology, workload, sweep, campaign. Try 'simulate schema --help'.",
        ),
        (["run"], "Missing argument 'TOPOLOGY'. Try 'simulate run --help'."),
        (["run", "--nothing"], "No such option '--nothing'. Try 'simulate run --help'."),
    ],
)
def test_bad_usage_is_told_in_one_clean_line(capsys, arguments, message):
    assert refused(capsys, *arguments) == message


def test_bad_usage_exits_2_and_anything_else_1(files, capsys, monkeypatch):
    assert _main(("run",)) == 2
    assert _main(("simulate",)) == 2
    assert _main((*RUN, "--nothing")) == 2
    capsys.readouterr()

    from simulator.errors import EngineError

    def stuck(_):
        raise EngineError("3 ops wait for each other")

    monkeypatch.setattr("simulator.whatif.studies.run", stuck)
    assert _main(RUN) == 1
    assert capsys.readouterr().err == "simulate: 3 ops wait for each other\n"


# Help


def test_help_names_every_command_and_its_options(capsys):
    assert _main(("--help",)) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in cli.commands)
    for command in cli.commands:
        assert _main((command, "--help")) == 0
        text = capsys.readouterr().out
        assert "--json" in text


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from simulator.cli.commands import _main\n"
        "_main(['--help'])\n"
        "heavy = {'numpy', 'matplotlib', 'networkx', 'simpy', 'pydantic', 'ruamel.yaml'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "run" in done.stdout


@pytest.mark.slow
def test_the_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "simulator", "run", "absent.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("simulate: absent.yaml: ")
    assert "Traceback" not in done.stderr


# Python


def test_the_python_api_is_the_same_verbs(files):
    from simulator import load, lower, run, summarise

    report = summarise(run(lower(load("mine.yaml", "tiny.yaml", {"layout.ep": 4}))))
    assert report.scenario.layout.ep == 4
    assert report.scenario.topology.name == CLUSTER["name"]
    assert as_dict(report)["workload"] == TRAINING["name"]
    tree = {name for name in vars(errors) if name.endswith("Error")}
    assert set(simulator.__all__) == {"load", "lower", "run", "summarise", *tree}
    assert all(getattr(simulator, name) is getattr(errors, name) for name in tree)
    with pytest.raises(AttributeError, match="has no attribute 'simulate'"):
        _ = simulator.simulate


@pytest.mark.slow
def test_the_cli_and_the_api_give_the_same_numbers(files, capsys):
    from simulator import load, lower, run, summarise

    tree = json.loads(json.dumps(as_dict(summarise(run(lower(load("mine.yaml", "tiny.yaml")))))))
    shown = run_json(capsys)
    assert shown["engine"].pop("wall_s") > 0
    assert shown["memory"].pop("remedies") == []
    # What other scenarios say is the command's to ask.
    extra = {
        "imbalance",
        "stragglers",
        "host",
        "assumed",
        "spread",
        "waits",
        "trust",
        "sensitivity",
    }
    assert set(shown) - set(tree) == extra
    assert {key: shown[key] for key in tree} == tree


@pytest.mark.slow
def test_a_list_of_faults_is_one_value_to_compare(capsys):
    assert (
        _main(
            [
                "compare",
                "h800-2048",
                "--set",
                "faults=[{gpu: 17, speed: 0.9}]",
                "--set",
                "training.global_batch_size=4096",
                "--json",
                "-",
            ]
        )
        == 0
    )
    assert len(json.loads(capsys.readouterr().out)["scenarios"]) == 1


def test_no_ranks_are_too_few_for_a_collective(capsys):
    assert (
        _main(["collective", "h100-node", "--op", "all_reduce", "--bytes", "1GiB", "--ranks", "0"])
        == 2
    )
    assert capsys.readouterr().err == "simulate: --ranks: 0 must be at least 2.\n"
