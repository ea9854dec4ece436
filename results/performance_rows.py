"""The rows of performance.md: what is asked for, what it took before, and the benchmark that measures it."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One line of a table."""

    what: str
    """What takes the time."""
    before: str
    """How long it took before the work on speed began."""
    aim: str
    """What was to be reached."""
    benchmark: str
    """Name of the benchmark, with its parameters."""
    over: str = ""
    """Another benchmark that it is compared with."""


_NEXT = "1.4 to 2.5 s"
_SOON = "40 ms, then 10"
_TWO = ("test_next_point_of[131072]", "test_next_point_of[2048]")
GROUPS = {
    "One scenario": [
        Row("DeepSeek-V3 on 2,048 GPUs, load to summary, the same again", _NEXT, _SOON, "test_next_point[same]"),
        Row("the next point: another rate of links", _NEXT, _SOON, "test_next_point[links]"),
        Row("the next point: another batch", _NEXT, _SOON, "test_next_point[batch]"),
        Row("the next point: another seed of expert loads", _NEXT, _SOON, "test_next_point[seed]"),
        Row("the next point: another schedule", _NEXT, _SOON, "test_next_point[schedule]"),
        Row("the next point: another layout", _NEXT, _SOON, "test_next_point[layout]"),
        Row("the first in a process, imports apart", "2.5 to 4 s", "0.4 s", "test_first_in_a_process"),
    ],
    "Whole commands": [
        Row("`simulate run h800-2048`, alternatives included", "4.3 to 8 s", "1.2 s", "test_run"),
        Row("`simulate run h800-2048 --no-alternatives`", "4.3 s", "0.9 s", "test_run_without_alternatives"),
        Row("the same with nothing compiled on disk", "", "", "test_first_run_needs_nothing_compiled"),
        Row("`simulate --help`", "0.11 s", "0.11 s", "test_help"),
        Row("Python and the imports of a run", "0.7 s", "0.35 s", "test_imports_of_a_run"),
        Row("Python alone", "", "", "test_python_alone"),
        Row("`simulate compile`, nothing on disk", "23.5 s", "8 s", "test_compile_everything"),
    ],
    "Large clusters, and clusters whose ranks are not alike": [
        Row("2,048 GPUs, fat tree of three layers, whole command", "", "", "test_gpus[2048]"),
        Row("131,072 GPUs, whole command", "40 to 60 s", "2x 2,048", "test_gpus[131072]", "test_gpus[2048]"),
        Row("1,048,576 GPUs, whole command", "did not end", "30 s, 4 GB", "test_gpus[1048576]", "test_gpus[2048]"),
        Row("2,048 GPUs, fat tree, the next point: another rate of links", "", "", "test_next_point_of[2048]"),
        Row("131,072 GPUs, the next point", "22x 2,048", "2x 2,048", *_TWO),
        Row("hashed ECMP, 2,048 GPUs", "5 to 8 min", "10 s", "test_broken_symmetry[ecmp]"),
        Row("8 jittered GPUs", "minutes", "10 s", "test_broken_symmetry[jitter]"),
        Row("dragonfly", "minutes", "10 s", "test_broken_symmetry[dragonfly]"),
        Row("one NIC down", "16 s", "10 s", "test_broken_symmetry[nic_down]"),
        Row("each GPU its own expert load, 2.7 M rows", "1 min", "10 s", "test_each_gpu_its_own_load"),
        Row("the same, all 2,048 ranks unfolded", "", "20 s, 8 GB", "test_all_ranks_unfolded"),
    ],
    "Sweeps and tests": [
        Row("48 points over links and batch, 1 worker", "0.7 points/s", "20 points/s", "test_sweep[1 worker]"),
        Row("the same, 2 workers", "", "", "test_sweep[2 workers]"),
        Row("the same, Dask with 2 workers", "", "", "test_sweep[dask]"),
        Row("`simulate sweep nvlink`: 24 points, 4 layouts, 1 worker", "", "", "test_shipped_sweep"),
        Row("all tests", "12 to 17 min", "6 min", "test_suite[whole]"),
        Row("the fast ones", "", "90 s", "test_suite[fast]"),
    ],
}  # fmt: skip
"""Title of a table -> its rows."""
