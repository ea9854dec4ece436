"""What a sweep file may say: axes, expressions, points, and the one line that a wrong file is told."""

import json
import sys
from random import Random

import pytest
from builders import documents

from simulator.errors import InputError
from simulator.plot import knee
from simulator.plot.sweep_values import Point, numbers
from simulator.sweep import axes, expressions, paths, points, read

LINK = "topology.node.nvlink"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes a sweep over the small cluster, with keys replaced, and reads it back."""
    monkeypatch.chdir(tmp_path)
    for name, document in zip(("mine.yaml", "tiny.yaml"), documents(), strict=True):
        (tmp_path / name).write_text(json.dumps(document.data, indent=1), encoding="utf-8")

    def sweep(**keys):
        base = {
            "name": "trial",
            "topology": "mine.yaml",
            "workload": "tiny.yaml",
            "axes": {"layout.ep": [1, 2]},
        }
        tree = {**base, **keys}
        (tmp_path / "s.yaml").write_text(json.dumps(tree, indent=1), encoding="utf-8")
        return read("s.yaml")

    return sweep


# Axes


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ([8, "dualpipe", [1, 2]], (8, "dualpipe", [1, 2])),
        ("100 .. 900 GB/s bidirectional", tuple(f"{n}00 GB/s bidirectional" for n in range(1, 10))),
        (
            ["100 .. 900 GB/s bidirectional", "1200 GB/s bidirectional"],
            (*(f"{n}00 GB/s bidirectional" for n in range(1, 10)), "1200 GB/s bidirectional"),
        ),
        ({"from": 1, "to": 5, "steps": 5}, (1, 2, 3, 4, 5)),
        ({"from": 0, "to": 1, "steps": 5}, (0, 0.25, 0.5, 0.75, 1)),
        ({"from": 8, "to": 100, "factor": 2}, (8, 16, 32, 64)),
        # 25 to 100 in five equal factors: sqrt 2 each.
        (
            {
                "from": "25 GB/s per direction",
                "to": "100 GB/s per direction",
                "steps": 5,
                "scale": "log",
            },
            (
                "25 GB/s per direction",
                "35.3553391 GB/s per direction",
                "50 GB/s per direction",
                "70.7106781 GB/s per direction",
                "100 GB/s per direction",
            ),
        ),
        ({"from": 8, "to": 128, "steps": 5, "scale": "log"}, (8, 16, 32, 64, 128)),
    ],
)
def test_an_axis_has_the_values_that_it_says(spec, expected):
    assert axes.values(spec, Random(0)) == expected


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_random_axes_stay_within_their_ends_rise_and_follow_the_seed(scale):
    spec = {"random": {"low": "10 us", "high": "1000 us", "scale": scale, "count": 400}}
    drawn = [float(text.removesuffix(" us")) for text in axes.values(spec, Random("7/x"))]
    assert drawn == sorted(drawn)
    assert drawn[0] >= 10
    assert drawn[-1] <= 1000
    # Half of the draws lie below the middle of their scale: 505, or 100. 400 draws: 5 deviations
    # are 50.
    middle = 505 if scale == "linear" else 100
    assert abs(sum(value < middle for value in drawn) - 200) < 50
    assert axes.values(spec, Random("7/x")) == axes.values(spec, Random("7/x"))
    assert axes.values(spec, Random("7/x")) != axes.values(spec, Random("8/x"))


def test_whole_ends_draw_every_whole_number_as_often():
    drawn = axes.values({"random": {"low": 1, "high": 4, "count": 4000}}, Random(0))
    assert {value: round(drawn.count(value) / 1000, 1) for value in (1, 2, 3, 4)} == dict.fromkeys(
        (1, 2, 3, 4), 1.0
    )
    assert all(isinstance(value, int) for value in drawn)


def test_another_axis_does_not_change_what_a_random_axis_draws(write):
    spec = {"random": {"low": 1, "high": 1000, "count": 5}}
    alone = write(axes={"training.seq_length": spec}).axes["training.seq_length"]
    assert (
        write(axes={"layout.ep": spec, "training.seq_length": spec}).axes["training.seq_length"]
        == alone
    )
    assert write(axes={"training.seq_length": spec}, seed=1).axes["training.seq_length"] != alone


# Expressions


KNOWN = {
    "layout.ep": 8,
    "layout.pp": 16,
    LINK: "400 GB/s bidirectional",
    "schedule.name": "dualpipe",
    "none": None,
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("layout.ep * layout.pp <= 128", True),
        (f"{LINK} >= '300 GB/s bidirectional'", True),
        (f"{LINK} == '200 GB/s per direction'", True),
        (f"{LINK} / 1e9", 200.0),
        ("schedule.name in ['1f1b', 'dualpipe'] and not layout.ep > 8", True),
        ("schedule.name == '1f1b' or layout.ep", 8),
        ("1 < layout.ep < 8", False),
        ("max(layout.ep, layout.pp) if layout.ep else 0", 16),
        ("log2(layout.pp) + -sqrt(16) ** 1 // 3 % 5", 4 + -4.0 // 3 % 5),
        ("'3 us' * 2", 6e-6),
        ("none + 1", None),
        ("1 / 0", None),
        ("(0 - 8) ** 0.5", None),
        ("9 ** 9 ** 9", None),
    ],
)
def test_an_expression_has_its_value(text, value):
    found = expressions.read(text).value(KNOWN.__getitem__)
    assert found == (pytest.approx(value) if isinstance(value, float) else value)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "(lambda: 1)()",
        "[n for n in (1, 2)]",
        "open('file')",
        "layout.ep = 3",
        "f'{layout.ep}'",
        "layout['ep']",
        "max(*[1])",
        "round(1.5, ndigits=1)",
        "None",
        "...",
        "",
        "1 +",
        "max.__call__(1)",
        "(1).real",
        "layout.ep := 1",
        "await x",
        "b'bytes'",
        "1j",
        "{1: 2}",
    ],
)
def test_an_expression_is_arithmetic_and_nothing_else(text):
    with pytest.raises(InputError, match=r"is not an expression|which expressions cannot"):
        expressions.read(text)


def test_an_expression_may_be_long_but_not_deep():
    assert expressions.read("+".join(["1"] * 90)).value(KNOWN.__getitem__) == 90
    for text in ("+".join(["1"] * 300), "+".join(["1"] * 3000), "-" * 300 + "1"):
        with pytest.raises(InputError, match=r"is nested more than 100 deep|is not an expression"):
            expressions.read(text)


def test_an_expression_that_cannot_be_worked_out_says_so():
    for text in ("schedule.name * 2", "'a' * 1000000000", "schedule.name < 3", "sqrt(0 - 1)"):
        with pytest.raises(InputError, match="cannot be worked out"):
            expressions.read(text).value(KNOWN.__getitem__)


def test_an_expression_names_what_it_uses():
    assert expressions.read("max(layout.ep, 2) * layout.pp / layout.ep").names == (
        "layout.ep",
        "layout.pp",
    )


# Paths and points


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("layout.epp", "pp"),
        ("layuot.ep", "layout.ep"),
        ("topology.node.nvlnk", "nvlink"),
        ("model.topk_grup", "topk_group"),
    ],
)
def test_a_path_that_leads_nowhere_has_a_near_one(path, near):
    with pytest.raises(InputError, match=f"Did you mean '{near}'"):
        paths.check_path(path)


def test_a_path_finds_what_the_file_says_or_else_the_default():
    files = dict(zip(("topology", "workload"), documents(), strict=True))
    assert paths.at(files, "layout.pp") == 2
    assert paths.at(files, LINK) == "400 GB/s bidirectional"
    assert paths.at(files, "layout.vpp") == 1
    assert paths.at(files, "training.fragmentation") == 0.05
    assert paths.at(files, "model.hidden_size") == 1024
    assert paths.at(files, "model.q_lora_rank") is None


def test_a_grid_goes_through_the_last_axis_first(write):
    sweep = write(axes={"layout.ep": [1, 2], "layout.pp": [1, 2, 4]})
    found = [tuple(point.values.values()) for point in points(sweep)]
    assert found == [(ep, pp) for ep in (1, 2) for pp in (1, 2, 4)]
    assert [point.number for point in points(sweep)] == list(range(6))


def test_a_list_goes_through_all_axes_together(write):
    sweep = write(mode="list", axes={"layout.ep": [1, 2, 4], "layout.pp": [4, 2, 1]})
    assert [tuple(point.values.values()) for point in points(sweep)] == [(1, 4), (2, 2), (4, 1)]


def test_random_points_are_some_of_the_grid_by_seed(write):
    def chosen(seed):
        grid = {
            "layout.ep": [1, 2, 4, 8],
            "training.seq_length": {"from": 1, "to": 50, "steps": 50},
        }
        return [
            tuple(point.values.values())
            for point in points(write(mode="random", points=20, seed=seed, axes=grid))
        ]

    assert len(set(chosen(0))) == 20
    assert chosen(0) == sorted(chosen(0)) == chosen(0)
    assert chosen(0) != chosen(1)


def test_constraints_leave_out_points_by_axes_files_and_defaults(write):
    sweep = write(
        axes={"layout.ep": [1, 2, 4], "layout.pp": [1, 2, 4]},
        constraints=["layout.ep * layout.pp <= topology.nodes * 2", "layout.vpp == 1"],
    )
    assert [tuple(p.values.values()) for p in points(sweep)] == [
        (1, 1),
        (1, 2),
        (1, 4),
        (2, 1),
        (2, 2),
        (4, 1),
    ]


def test_points_have_names_that_follow_their_inputs_and_nothing_else(write, tmp_path):
    def names(**keys):
        return [point.name for point in points(write(**keys))]

    first = names()
    assert len(set(first)) == 2
    assert names(axes={"layout.ep": [2, 1]}) == first[::-1]
    assert names(derived={"x": "1"}, constraints=["layout.ep > 0"], seed=5) == first
    assert not set(names(set={"layout.zero": 0})) & set(first)
    assert not set(names(penalties=True)) & set(first)
    (tmp_path / "mine.yaml").write_text(
        (tmp_path / "mine.yaml").read_text(encoding="utf-8").replace("3.7 us", "3.8 us"),
        encoding="utf-8",
    )
    assert not set(names()) & set(first)


def test_a_point_carries_its_model_and_knows_the_files_that_it_names(write, tmp_path):
    model = json.loads((tmp_path / "tiny.yaml").read_text(encoding="utf-8"))["model"]
    for width in (1024, 2048):
        (tmp_path / "config.json").write_text(
            json.dumps({**model, "hidden_size": width}), encoding="utf-8"
        )
        (point, *_), before = points(write(set={"model": {"hf_config": "config.json"}})), None
        assert point.run.data["model"]["hidden_size"] == width
        assert "hf_config" not in point.run.data["model"]
        assert point.name != before
        before = point.name


def test_recorded_counts_are_part_of_a_points_name(write, tmp_path):
    recorded = {"experts": {"distribution": "recorded", "file": "counts.csv"}}
    found = set()
    for load in (1, 2):
        (tmp_path / "counts.csv").write_text(
            "\n".join([f"{load},1,1,1,1,1,1,1"] * 3), encoding="utf-8"
        )
        found |= {point.name for point in points(write(set=recorded))}
    assert len(found) == 4


def test_a_custom_schedule_is_part_of_a_points_name(write, tmp_path):
    custom = {"schedule": {"name": "custom", "file": "grid.txt"}}
    names = set()
    for grid in ("F0@0 B0@0", "F0@0 F1@0 B0@0 B1@0"):
        (tmp_path / "grid.txt").write_text(grid, encoding="utf-8")
        (point, _) = points(write(set=custom))
        assert point.run.data["schedule"]["file"] == str(tmp_path / "grid.txt")
        names.add(point.name)
    assert len(names) == 2


# Wrong files


@pytest.mark.parametrize(
    ("keys", "place", "said"),
    [
        ({"axes": {}}, "axes", "varies nothing"),
        ({"axes": {"layout.epp": [1]}}, "axes.layout.epp", "Did you mean 'pp'"),
        ({"axes": {"layout.ep": []}}, "axes.layout.ep", "has no values"),
        ({"axes": {"layout.ep": 3}}, "axes.layout.ep", "is not an axis"),
        (
            {"axes": {"layout.ep": {"from": 4, "to": 2}}},
            "axes.layout.ep.to",
            "is not above from",
        ),
        (
            {"axes": {"layout.ep": {"from": 0, "to": 2, "scale": "log"}}},
            "axes.layout.ep.from",
            "has no logarithm",
        ),
        (
            {"axes": {"layout.ep": {"from": 1, "to": 2, "step": 3}}},
            "axes.layout.ep.step",
            "Did you mean 'steps'",
        ),
        (
            {"axes": {"layout.ep": {"from": 1, "to": 9, "steps": 3, "factor": 2}}},
            "axes.layout.ep.factor",
            "cannot stand next to steps",
        ),
        (
            {"axes": {LINK: {"from": "1 GB/s per direction", "to": "9 GB/s bidirectional"}}},
            f"axes.{LINK}.to",
            "another unit",
        ),
        (
            {"axes": {"layout.ep": {"random": {"low": 1, "high": 2}}}},
            "axes.layout.ep.random.count",
            "is missing",
        ),
        (
            {"mode": "list", "axes": {"layout.ep": [1], "layout.pp": [1, 2]}},
            "mode",
            "layout.ep 1, layout.pp 2",
        ),
        ({"mode": "random"}, "mode", "needs a number of points"),
        ({"points": 3}, "mode", "draws no points"),
        ({"mode": "lattice"}, "mode", "is not one of 'grid', 'list' or 'random'"),
        ({"set": {"layout.ep": 2}}, "set.layout.ep", "is an axis too"),
        ({"set": {"layout.tpp": 2}}, "set.layout.tpp", "Did you mean 'tp'"),
        ({"constraints": ["layout.ep <"]}, "constraints.0", "is not an expression"),
        ({"derived": {"x": "import os"}}, "derived.x", "is not an expression"),
        ({"derrived": {}}, "derrived", "Did you mean 'derived'"),
        (
            {"figures": [{"kind": "pie", "x": "layout.ep"}]},
            "figures.0.kind",
            "is not one of 'knee'",
        ),
    ],
)
def test_a_wrong_sweep_is_told_its_place_and_remedy(write, keys, place, said):
    with pytest.raises(InputError) as caught:
        write(**keys)
    assert caught.value.file == "s.yaml"
    assert caught.value.key == place
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"topology": "nowhere"}, "topology: 'nowhere' does not exist"),
        (
            {"axes": {"topology": ["mine.yaml", "nowhere"]}},
            "axes.topology: 'nowhere' does not exist",
        ),
        ({"constraints": ["layout.ep > 9"]}, "constraints: 'layout.ep > 9' leave no point"),
        ({"constraints": ["layuot.ep > 9"]}, "layuot.ep: 'layuot' is not a key"),
        (
            {
                "axes": {
                    "layout.ep": {"from": 1, "to": 2, "steps": 2000},
                    "layout.pp": {"from": 1, "to": 2, "steps": 2000},
                },
                "constraints": ["layout.ep > 3"],
            },
            "span more than 1,000 combinations",
        ),
    ],
)
def test_a_sweep_without_points_says_why(write, monkeypatch, keys, said):
    monkeypatch.setattr(
        sys.modules["simulator.sweep.points"], "MOST", 1000
    )  # else it takes a while
    with pytest.raises(InputError) as caught:
        points(write(**keys))
    assert said in str(caught.value)
    assert str(caught.value).startswith("s.yaml")


# Figures


def test_a_knee_is_where_the_rest_stays_within_a_hundredth():
    # 1.009 and 1.0 lie within 1% of the last, 1.02 does not; what rises again before it does not
    # count.
    steps = [2.0, 1.005, 1.02, 1.009, 1.0]
    assert knee([Point(x, step) for x, step in enumerate(steps, start=1)]) == (4, 1.009)
    assert knee([Point(1, 3.0), Point(2, 2.0), Point(3, 1.0)]) is None


def test_axes_of_one_unit_are_numbers():
    assert numbers(["100 GB/s bidirectional", "2.5 GB/s bidirectional"]) == (
        [100.0, 2.5],
        "GB/s bidirectional",
    )
    assert numbers([1, 2]) == ([1.0, 2.0], "")
    assert numbers(["1 GB/s", "1 MB/s"]) is None
    assert numbers(["1f1b"]) is None
