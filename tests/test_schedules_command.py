"""`simulate schedule` as a user meets it: figures, grid, picture, refusals."""

import json

import pytest

from simulator.cli.commands import _main
from simulator.plot.schedules import _cells
from simulator.schedules import FORMULAS, SCHEDULES, Times, build, check, read

KEYS = "schedule stages micro_batches ranks makespan bubble bubble_formula peak_in_flight idle grid"
DUALPIPE = ("dualpipe", "--stages", "8", "--micro-batches", "20")


def figures(capsys, *arguments):
    assert _main(("schedule", *arguments, "--json", "-")) == 0
    out, err = capsys.readouterr()
    assert not err
    return json.loads(out)


def refused(capsys, *arguments):
    """Return the one line that a wrong input is told."""
    assert _main(("schedule", *arguments)) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1), err
    return err


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "custom"])
@pytest.mark.slow
def test_every_schedule_has_its_figures_and_a_grid_that_reads_back(capsys, name):
    tree = figures(capsys, name, "--stages", "4", "--micro-batches", "8")
    assert set(KEYS.split()) <= set(tree)
    schedule = read("\n".join(tree["grid"]), name)
    check(schedule)
    assert (schedule.stages, schedule.micro_batches, len(schedule.ranks)) == (
        tree["stages"],
        tree["micro_batches"],
        tree["ranks"],
    )
    assert len(tree["idle"]) == len(tree["peak_in_flight"]) == tree["ranks"]
    if name in FORMULAS:  # F = I = W, where every formula is exact
        assert tree["bubble"] == pytest.approx(tree["bubble_formula"])
        assert tree["bubble_formula_exact"]


@pytest.mark.parametrize(
    ("times", "makespan", "bubble", "idle"),
    [
        ("F=1,I=1,W=1,FB=3", 66, 6, [6, 6, 6, 6]),
        ("F=1,I=1,W=1,FB=2", 52, 3, [1, 2, 3, 3]),
        ("F=1,I=1.5,W=0.5,FB=2.5", 62.5, 8, [7, 7.5, 8, 8]),
    ],
)
def test_dualpipe_of_8_stages_and_20_micro_batches(capsys, times, makespan, bubble, idle):
    tree = figures(capsys, *DUALPIPE, "--times", times)
    assert (tree["makespan"], tree["bubble"], tree["idle"][:4]) == (makespan, bubble, idle)
    assert tree["bubble_formula"] == (9 if bubble == 8 else bubble)
    assert tree["bubble_formula_exact"] == (bubble != 8)


@pytest.mark.parametrize(
    ("name", "options", "stages", "ranks", "makespan"),
    [
        # Times are of 1/P of the model, so that every schedule has the same 3 x 8 of work per rank,
        # and 6 x 8 on half.
        ("1f1b", (), 4, 4, 24 + 9),
        ("interleaved", ("--virtual", "2"), 8, 4, 24 + 4.5),
        ("zb-v", (), 8, 4, 24 + 1.5),
        ("dualpipev", (), 4, 2, 48 + 2),
    ],
)
def test_stages_are_counted_as_the_papers_count_them(
    capsys, name, options, stages, ranks, makespan
):
    tree = figures(capsys, name, "--stages", "4", "--micro-batches", "8", *options)
    assert (tree["stages"], tree["ranks"], tree["makespan"]) == (stages, ranks, makespan)


def test_a_backward_alone_may_be_given_as_a_whole(capsys):
    tree = figures(capsys, "1f1b", "--stages", "4", "--micro-batches", "8", "--times", "F=1,B=3")
    assert tree["bubble"] == tree["bubble_formula"] == 12


@pytest.mark.slow
def test_memory_and_travel_reach_the_search(capsys):
    sizes = ("zb-2p", "--stages", "4", "--micro-batches", "12", "--times", "F=1,I=1,W=0.5,comm=0.1")
    free, held = figures(capsys, *sizes), figures(capsys, *sizes, "--memory", "4")
    assert max(free["peak_in_flight"]) > 4 >= max(held["peak_in_flight"])
    assert held["makespan"] > free["makespan"]
    assert free["bubble_formula"] is None  # the published one knows no travel


def test_the_text_shows_grid_and_bubble_beside_the_published_one(capsys):
    assert _main(("schedule", "1f1b", "--stages", "2", "--micro-batches", "2")) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1f1b: 2 pipeline ranks, 2 micro-batches",
        "rank 0 | F0@0 F1@0 .    B0@0 .    B1@0",
        "rank 1 | .    F0@1 B0@1 F1@1 B1@1",
        "ends at 9; idle until then, by rank: 3 3",
        "bubble 3; published (P-1)(F+B) = 3",
        "most chunks in flight, by rank: 2 1",
    ]


def test_what_is_printed_is_read_as_a_custom_schedule(capsys, tmp_path):
    assert _main(("schedule", "zb-h1", "--stages", "3", "--micro-batches", "5")) == 0
    grid = "\n".join(
        line for line in capsys.readouterr().out.splitlines() if line.startswith("rank ")
    )
    (tmp_path / "mine.txt").write_text(grid, encoding="utf-8")
    tree = figures(capsys, "custom", "--file", str(tmp_path / "mine.txt"))
    like = figures(capsys, "zb-h1", "--stages", "3", "--micro-batches", "5")
    assert [tree[key] for key in ("makespan", "idle", "grid")] == [
        like[key] for key in ("makespan", "idle", "grid")
    ]
    assert tree["bubble_formula"] is None


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("ending", ["png", "svg"])
def test_every_schedule_is_drawn(capsys, tmp_path, name, ending):
    path, options = tmp_path / f"figure.{ending}", ("--stages", "4", "--micro-batches", "8")
    if name == "custom":
        (tmp_path / "mine.txt").write_text("F0@0 B0@0\nF0@1 B0@1", encoding="utf-8")
        options = ("--file", str(tmp_path / "mine.txt"))
    assert _main(("schedule", name, *options, "--plot", str(path))) == 0
    assert path.stat().st_size > 5000


def test_the_picture_of_dualpipe_has_a_cell_for_each_chunk_and_two_halves_that_fill_each_pair():
    schedule, times = build("dualpipe", 8, 20), Times.of({"F": 1, "I": 1, "W": 1, "FB": 2.4})
    cells = list(_cells(schedule, times))
    assert len(cells) == sum(len(action.halves()) for _, action in schedule.actions())
    first = next(at for at, action in enumerate(schedule.ranks[0]) if action.kind == "FB")
    forward, backward = [cell for cell in cells if cell.rank == 0][first : first + 2]
    assert (forward.half[0], backward.half[0]) == ("F", "B")
    assert forward.width + backward.width == pytest.approx(2.4)
    assert backward.start == pytest.approx(forward.start + forward.width)
    assert backward.width == pytest.approx(2 * forward.width)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("gpipes", "--stages", "4", "--micro-batches", "8"),
            "'gpipes' is not a schedule. Choose from: gpipe",
        ),
        (("1f1b", "--stages", "4"), "Give --pp and --micro-batches"),
        (("1f1b", "--stages", "0", "--micro-batches", "8"), "--stages: 0 must be at least 1."),
        (
            ("1f1b", "--stages", "4", "--micro-batches", "8", "--times", "F"),
            "'F' is not a list of times",
        ),
        (
            ("1f1b", "--stages", "4", "--micro-batches", "8", "--times", "X=1"),
            "--times: 'X' is not a kind of action",
        ),
        (
            ("1f1b", "--stages", "4", "--micro-batches", "8", "--times", "F=1"),
            "--times: 'B' has no time, and B0@0 needs one. Add B.",
        ),
        (("1f1b", "--stages", "4", "--micro-batches", "8", "--group", "4"), "Only interleaved"),
        (
            ("1f1b", "--stages", "4", "--micro-batches", "8", "--memory", "3"),
            "--memory: Only zb-1p and zb-2p work to a limit of memory.",
        ),
        (
            ("interleaved", "--stages", "4", "--micro-batches", "8", "--kept", "1"),
            "--kept: Only zb-1p and zb-2p work to a limit of memory.",
        ),
        (
            ("zb-v", "--stages", "4", "--micro-batches", "8", "--memory", "0"),
            "--memory: Only zb-1p and zb-2p work to a limit of memory.",
        ),
        (
            ("gpipes", "--stages", "4", "--micro-batches", "8", "--memory", "3"),
            "'gpipes' is not a schedule.",
        ),
        (
            ("dualpipev", "--stages", "5", "--micro-batches", "8"),
            "5 stages do not fill the ranks of dualpipev",
        ),
        (("custom",), "Give --file with custom"),
        (
            ("1f1b", "--stages", "4", "--micro-batches", "8", "--plot", "a.bmp"),
            "is not an image format",
        ),
    ],
)
def test_wrong_options_are_told_in_one_line(capsys, arguments, words):
    assert words in refused(capsys, *arguments)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--kept", "inf"), "--kept: inf is not a share of a chunk. Use a number from 0 to 1."),
        (("--kept", "nan"), "--kept: nan is not a share"),
        (("--kept", "-5"), "--kept: -5.0 is not a share"),
        (("--kept", "1.5"), "--kept: 1.5 is not a share"),
        (("--memory", "nan"), "--memory: nan is not a number of chunks"),
        (("--memory", "inf"), "--memory: inf is not a number of chunks"),
        (("--memory", "-5"), "--memory: -5.0 is not a number of chunks"),
        (("--memory", "0.5"), "--memory: 0.5 is not a number of chunks"),
        (("--times", "F=inf,I=1,W=1"), "--times: inf is not a time for F"),
        (("--times", "F=1,I=nan,W=1"), "--times: nan is not a time for I"),
        (("--times", "F=1,I=1,W=-1"), "--times: -1.0 is not a time for W"),
        (("--times", "F=1e305,I=1e305,W=1e305"), "1e+305 chunk times are too long"),
        (("--times", "F=1,I=1,W=1,comm=inf"), "--times: inf is not a time for comm"),
        (("--virtual", "0"), "--virtual: 0 must be at least 1."),
        (("--virtual", "2"), "2 virtual stages per rank do not fit zb-1p"),
        (("--stages", "7"), "Give either --pp or --stages."),
    ],
)
def test_no_number_reaches_the_search_that_it_cannot_work_with(capsys, option, words):
    assert words in refused(capsys, "zb-1p", "--pp", "7", "--micro-batches", "1000", *option)


def test_schedules_that_would_fill_the_memory_are_refused(capsys, tmp_path):
    words = "stages x micro-batches are more than 10,000,000. Use fewer of either."
    assert f"100000000000 {words}" in refused(
        capsys, "1f1b", "--pp", "100", "--micro-batches", "1000000000"
    )
    (tmp_path / "mine.txt").write_text("F99999999999999999999@0", encoding="utf-8")
    assert words in refused(capsys, "custom", "--file", str(tmp_path / "mine.txt"))


def test_a_negative_group_is_refused(capsys):
    sizes = ("interleaved", "--pp", "4", "--micro-batches", "8")
    told = refused(capsys, *sizes, "--group", "-3")
    assert "--group: -3 is not a number of micro-batches" in told


@pytest.mark.parametrize(
    ("arguments", "head"),
    [
        (
            ("interleaved", "--pp", "8", "--virtual", "2"),
            "interleaved: 8 pipeline ranks x 2 virtual stages = 16 stages, 16 micro-batches",
        ),
        (("1f1b", "--pp", "1"), "1f1b: 1 pipeline rank, 16 micro-batches"),
        # DualPipeV's paper counts stages: P of them on P/2 ranks.
        (
            ("dualpipev", "--pp", "4"),
            "dualpipev: 4 pipeline ranks x 2 virtual stages = 8 stages, 16 micro-batches",
        ),
        (
            ("dualpipev", "--stages", "8"),
            "dualpipev: 4 pipeline ranks x 2 virtual stages = 8 stages, 16 micro-batches",
        ),
    ],
)
def test_the_first_line_tells_ranks_from_stages(capsys, arguments, head):
    assert _main(("schedule", *arguments, "--micro-batches", "16")) == 0
    assert capsys.readouterr().out.splitlines()[0] == head


def test_a_stage_left_over_is_counted_by_itself(capsys, tmp_path):
    grid = "F0@0 F0@1 B0@1 B0@0\nF0@2 B0@2"
    (tmp_path / "mine.txt").write_text(grid, encoding="utf-8")
    assert _main(("schedule", "custom", "--file", str(tmp_path / "mine.txt"))) == 0
    head = capsys.readouterr().out.splitlines()[0]
    assert head == "custom: 2 pipeline ranks, 3 stages, 1 micro-batch"


def test_times_are_of_one_part_of_the_model_for_each_pipeline_rank(capsys):
    # As many ranks with two stages each as with one: the same 3 x 16 of work per rank.
    for name in ("1f1b", "zb-v", "dualpipev"):
        tree = figures(capsys, name, "--pp", "4", "--micro-batches", "16")
        assert tree["makespan"] - tree["idle"][0] == 48


def test_a_fault_of_a_custom_file_is_marked(capsys, tmp_path):
    (tmp_path / "mine.txt").write_text("F0@0 B0@0 F1@0 B1@0\nF0@1 F1@1 B0@1 B1@1", encoding="utf-8")
    told = refused(capsys, "custom", "--file", str(tmp_path / "mine.txt"))
    assert "Marked here: rank 0: F0@0 >B0@0< F1@0 B1@0 | rank 1: F0@1 >F1@1< B0@1 B1@1" in told
