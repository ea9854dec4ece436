"""The printed grid, and back; the published picture of DualPipe; the place of a fault in the grid."""

from dataclasses import replace

import pytest

from simulator.errors import ScheduleError
from simulator.schedules import SCHEDULES, Schedule, build, check, excerpt, grid, read

# github.com/deepseek-ai/DualPipe, README.md (arXiv 2412.19437, figure 5): 8 ranks and 20
# micro-batches. Capitals with numbers: the micro-batches that enter at rank 0; small letters: those
# from the other end, which the figure does not number. Ranks 7 to 4 mirror ranks 0 to 3. A pair
# shares a border.
PICTURE = (
    "F0 F1 F2 F3 F4 F5 F6 f i w f i w f i w f F7&b f&B0 "
    "F8&b f&B1 F9&b f&B2 b f&B3 b f&B4 b f&B5 b I6 W6 I7 W7 I8 W8 I9 W9",
    "F0 F1 F2 F3 F4 f F5 f i w f i w f F6&b f&B0 F7&b f&B1 "
    "F8&b f&B2 F9&b f&B3 b f&B4 b f&B5 b B6 i I7 w I8 W7 I9 W8 W9",
    "F0 F1 F2 f F3 f F4 f i w f F5&b f&B0 F6&b f&B1 F7&b f&B2 "
    "F8&b f&B3 F9&b f&B4 b f&B5 b B6 b I7 i I8 W7 I9 w W8 W9",
    "F0 f F1 f F2 f F3 f F4 b f&B0 F5&b f&B1 F6&b f&B2 F7&b "
    "f&B3 F8&b f&B4 F9&b f&B5 b B6 b B7 i I8 i I9 w W8 w W9",
)


def shown(action, first):
    """Return a cell as the picture has it; first: of the micro-batches that it numbers."""
    return "&".join(
        f"{kind}{m - first}" if first <= m < first + 10 else kind.lower()
        for kind, m, _ in action.halves()
    )


def test_dualpipe_of_8_ranks_and_20_micro_batches_is_the_published_picture_cell_for_cell():
    ranks = build("dualpipe", 8, 20).ranks
    assert tuple(" ".join(shown(action, 0) for action in order) for order in ranks[:4]) == PICTURE
    assert (
        tuple(" ".join(shown(action, 10) for action in order) for order in ranks[:3:-1]) == PICTURE
    )


def test_dualpipev_of_4_ranks_is_the_upper_half_of_that_picture():
    half = [[shown(a, 0) for a in order] for order in build("dualpipe", 8, 20).ranks[:4]]
    way_down = build("dualpipev", 4, 10).ranks
    assert [[way_named(action) for action in order] for order in way_down] == half


def way_named(action):
    """Return a cell with its number on the way down, in small letters on the way up."""
    return "&".join(
        f"{kind}{m}" if stage < 4 else kind.lower() for kind, m, stage in action.halves()
    )


def test_a_grid_has_a_column_per_slot_and_dots_where_a_rank_waits():
    # Each action fills a slot. Rank 1 begins in slot 1; B0@0 follows B0@1, which ends with slot 2.
    assert grid(build("1f1b", 2, 2)) == [
        "F0@0 F1@0 .    B0@0 .    B1@0",
        ".    F0@1 B0@1 F1@1 B1@1",
    ]


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "custom"])
@pytest.mark.slow
def test_every_grid_reads_back_to_the_same_schedule(name):
    schedule = build(name, 4, 8, virtual=SCHEDULES[name].virtual or 3)
    for text in (
        "\n".join(grid(schedule)),
        "\n".join(
            f"rank {rank} | {line}  # and a remark" for rank, line in enumerate(grid(schedule))
        ),
        "# a head\n\n" + "\n".join(f"{rank}: {line}" for rank, line in enumerate(grid(schedule))),
    ):
        assert read(text, name) == schedule


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'custom' has no action"),
        ("# F0@0\n. .", "'custom' has no action"),
        ("F0@0 B0", "'B0' is not an action"),
        ("F0@0 B0@0\nX", "'X' is not an action"),
    ],
)
def test_a_text_that_is_no_grid_is_refused(text, words):
    with pytest.raises(ScheduleError, match=words):
        read(text)


def test_marks_stand_in_the_grid_by_position_where_a_schedule_cannot_run():
    broken = read("F0@0 F1@0 B0@0 F1@0 B1@0\nF0@1 B0@1 F1@1 B1@1")
    with pytest.raises(ScheduleError) as fault:
        check(broken)
    assert fault.value.places == ((0, 3), (0, 1))
    assert grid(broken, fault.value.places)[0] == "F0@0   >F1@0< B0@0   >F1@0< B1@0"
    assert excerpt(broken, [(0, 3)], around=1) == ["rank 0: ... B0@0 >F1@0< B1@0"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "F0@0 F1@0 B0@0\nF0@1 B0@1 F1@1 B1@1",
            r"'B1@0' is missing.*Marked here: rank 0: F0@0 >F1@0< B0@0$",
        ),
        ("F0@0 B0@0 F0@0\nF0@1 B0@1", r"'F0@0' is repeated.*rank 0: >F0@0< B0@0 >F0@0<$"),
        ("F0@0 B1@0\nF0@1 B0@1", r"'F1@1' is missing|'B0@0' is missing.*rank 0: >F0@0< B1@0$"),
        (
            "F0@0 B0@0 F1@0 B1@0\nF0@1 F1@1 B0@1 B1@1",
            r"deadlocks.*Marked here: rank 0: F0@0 >B0@0< F1@0 B1@0 \| rank 1: F0@1 >F1@1< B0@1 B1@1$",
        ),
    ],
)
def test_a_custom_schedule_with_a_fault_shows_where_it_is(text, words):
    found = read(text)
    with pytest.raises(ScheduleError, match=words):
        build("custom", len(found.ranks), found.micro_batches, text=text)


@pytest.mark.parametrize(
    ("ranks", "micro_batches", "words"),
    [
        (3, 2, "3 ranks do not fit the text, which has 2"),
        (2, 4, "4 micro-batches do not fit the text, which has 2"),
    ],
)
def test_a_custom_schedule_of_other_sizes_than_asked_for_is_refused(ranks, micro_batches, words):
    with pytest.raises(ScheduleError, match=words):
        build("custom", ranks, micro_batches, text="\n".join(grid(build("1f1b", 2, 2))))


def test_an_empty_rank_prints_as_an_empty_line():
    assert grid(Schedule("mine", 1, 1, (*build("1f1b", 1, 1).ranks, ()))) == ["F0@0 B0@0", ""]


@pytest.mark.parametrize("rank", [0, 3])
def test_every_fault_of_one_action_names_a_place_on_its_rank(rank):
    schedule = build("zb-h1", 4, 6)
    order = schedule.ranks[rank]
    for position in range(len(order)):
        fewer = (
            *schedule.ranks[:rank],
            order[:position] + order[position + 1 :],
            *schedule.ranks[rank + 1 :],
        )
        with pytest.raises(ScheduleError) as fault:
            check(replace(schedule, ranks=fewer))
        assert any(place[0] == rank for place in fault.value.places)


@pytest.mark.parametrize("name", ["1f1b", "dualpipe", "zb-v"])
def test_what_simulate_schedule_prints_is_a_custom_schedule(name):
    schedule = build(name, 4, 8)
    text = "\n".join(
        [
            f"{name}: a title",
            *(f"rank {rank} | {line}" for rank, line in enumerate(grid(schedule))),
            "ends at 93",
        ]
    )
    assert read(text).ranks == schedule.ranks
