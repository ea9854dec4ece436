"""The rooms of the house: who imports whom, how long files are, and that data files name what exists."""

import ast
import graphlib
from pathlib import Path

import pytest

from simulator import inputs
from simulator.hardware import GpuConfig, KernelConfig, StackConfig
from simulator.precision import PEAK

ROOT = inputs.ROOT
ROWS = [
    # Lowest first; a module or folder imports only from lower rows.
    {"escapes", "progress"},
    {"errors"},
    {"units", "compiled", "frozen", "refinement"},
    {"inputs", "hardware", "model", "precision", "fairshare"},
    {"layout", "topology", "flows"},
    {"ops", "experts", "schedules"},
    {"scenario"},  # holds the configuration of experts
    {"compute", "collectives"},
    {"costs"},
    {"program"},
    {"memory", "bounds", "timeline", "residuals"},
    {"engine"},
    {"report"},
    {"trust"},
    {"whatif"},
    {"pool", "store", "goodput"},
    {"campaign", "compare"},
    {"plot", "trace"},
    {"html"},
    {"sweep"},
    {"search", "validate", "reference"},
    {"cli"},
    {"__init__", "__main__"},
    {"alias"},  # `import simulate`, where the package is installed
]
ROW = {room: row for row, rooms in enumerate(ROWS, start=1) for room in rooms}
OWNERS = {"matplotlib": {"plot"}, "rich": {"cli"}, "click": {"cli"}, "plotly": {"html"}}
"""package -> the only rooms that import it."""


def modules(root=ROOT):
    """Return the syntax tree of every module under a folder, by its dotted name: `schedules.action`, `ops.__init__`."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts): ast.parse(
            path.read_text(encoding="utf-8")
        )
        for path in sorted(root.rglob("*.py"))
    }


def room(name):
    return name.split(".")[0]


def target(name, known):
    """Return the module that a dotted name inside the package stands for, the package's own face if it is none."""
    parts = name.split(".")
    while parts and ".".join(parts) not in known and ".".join([*parts, "__init__"]) not in known:
        parts.pop()
    found = ".".join(parts)
    return found if found in known else ".".join([*parts, "__init__"])


def imports(name, tree, known):
    """Return the modules of the package that a module imports, in functions too, and the other packages' names."""
    own, others = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = ["simulator", *name.split(".")][: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        own |= {
            target(text.partition(".")[2], known) for text in found if room(text) == "simulator"
        }
        others |= {room(text) for text in found if room(text) != "simulator"}
    return own, others


def violations(trees):
    """Return what breaks the rules of rows, as sentences."""
    faults = [f"{name}: has no row" for name in trees if room(name) not in ROW]
    for name, tree in trees.items():
        own, others = imports(name, tree, trees)
        for other in sorted(own - {name}):
            above = ROW.get(room(other), 0) >= ROW.get(room(name), len(ROWS) + 1)
            if room(other) != room(name) and above:
                faults.append(f"{name}: imports {other}, which does not stand lower")
        faults += [
            f"{name}: imports {package}, which only {', '.join(sorted(OWNERS[package]))} may"
            for package in sorted(others & set(OWNERS))
            if room(name) not in OWNERS[package]
        ]
    return faults


def graph(trees):
    """Return module -> the modules of the package that it imports."""
    return {name: imports(name, tree, trees)[0] - {name} for name, tree in trees.items()}


def parsed(sources):
    """Return the syntax trees of made-up modules."""
    return {name: ast.parse(text) for name, text in sources.items()}


# The rows


@pytest.mark.slow
def test_every_module_has_a_row_and_imports_from_lower_ones_only():
    assert violations(modules()) == []


def test_no_room_stands_twice():
    assert sum(map(len, ROWS)) == len(ROW)


@pytest.mark.slow
def test_no_module_imports_itself_by_a_detour():
    graphlib.TopologicalSorter(graph(modules())).prepare()


@pytest.mark.parametrize(
    ("sources", "fault"),
    [
        (
            {"units": "from simulator.layout import Layout", "layout": ""},
            "units: imports layout, which does not stand lower",
        ),
        (
            {"layout": "import simulator.topology", "topology": ""},
            "layout: imports topology, which does not stand lower",
        ),
        (
            {"engine": "def run():\n    from simulator import report", "report": ""},
            "engine: imports report, which does not stand lower",
        ),
        (
            {
                "engine": "if TYPE_CHECKING:\n    from simulator.report import Report",
                "report.__init__": "",
            },
            "engine: imports report.__init__, which does not stand lower",
        ),
        (
            {"engine": "from .report import Report", "report": ""},
            "engine: imports report, which does not stand lower",
        ),
        (
            {"ops.op": "from ..compute import Processor", "ops.__init__": "", "compute": ""},
            "ops.op: imports compute, which does not stand lower",
        ),
        (
            {"report": "from simulator import load"},
            "report: imports __init__, which does not stand lower",
        ),
        ({"report": "import simulator"}, "report: imports __init__, which does not stand lower"),
        ({"shed": ""}, "shed: has no row"),
        (
            {"report": "import matplotlib.pyplot as plt"},
            "report: imports matplotlib, which only plot may",
        ),
        (
            {"plot": "def show():\n    from rich.table import Table"},
            "plot: imports rich, which only cli may",
        ),
    ],
)
def test_a_violation_is_found(sources, fault):
    assert violations(parsed(sources)) == [fault]


def test_what_is_allowed_is_no_violation():
    allowed = {
        "layout": "from simulator.model import ModelConfig\nimport json\nimport numpy",
        "model": "",
        "ops.__init__": "from simulator.ops import op\nfrom simulator.ops.op import Op",
        "ops.op": "from simulator.model import ModelConfig",
        "plot": "import matplotlib",
        "cli": "import click\nimport rich",
        "__main__": "from simulator.cli import main",
    }
    assert violations(parsed(allowed)) == []


def test_a_detour_is_found():
    trees = parsed(
        {"ops.a": "from simulator.ops import b", "ops.b": "def f():\n    import simulator.ops.a"}
    )
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(graph(trees)).prepare()


# Sizes


@pytest.mark.parametrize(
    "path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_file_is_longer_than_400_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


# Data


def shelf(kind):
    return sorted((ROOT / "data" / kind).glob("*.yaml"))


@pytest.mark.slow
def test_every_data_file_is_yaml_with_keys():
    files = sorted((ROOT / "data").rglob("*.yaml"))
    assert len(files) >= 5
    assert all(inputs.read(path).data for path in files)


@pytest.mark.parametrize("path", shelf("gpus"), ids=lambda path: path.stem)
def test_every_gpu_names_a_kernel_table_that_exists_and_a_source_for_each_key(path):
    gpu = inputs.validate(inputs.read(path), GpuConfig)
    assert gpu.name == path.stem
    assert gpu.kernels in {table.stem for table in shelf("kernels")}
    assert {"sms", "memory", "peak"} <= set(gpu.sources)


@pytest.mark.parametrize("path", shelf("kernels"), ids=lambda path: path.stem)
def test_every_kernel_table_is_valid_and_knows_the_dtypes_of_its_gpus(path):
    table = inputs.validate(inputs.read(path), KernelConfig)
    assert table.name == path.stem
    users = [gpu for gpu in map(_gpu, shelf("gpus")) if gpu.kernels == table.name]
    assert users
    assert set(table.gemm) == set(table.wgrad)
    known = {PEAK[dtype] for dtype in table.gemm}
    assert all(set(gpu.peak) == known for gpu in users)


@pytest.mark.parametrize("path", shelf("stacks"), ids=lambda path: path.stem)
def test_every_stack_is_valid_and_says_where_its_host_times_are_from(path):
    stack = inputs.validate(inputs.read(path), StackConfig)
    assert stack.name == path.stem
    assert "host" in stack.sources


def _gpu(path: Path) -> GpuConfig:
    return inputs.validate(inputs.read(path), GpuConfig)


@pytest.mark.parametrize("kind", ["topologies", "workloads"])
@pytest.mark.slow
def test_every_shipped_file_is_named_as_it_is_called(kind):
    assert {
        path.stem: inputs.read(path).data["name"] for path in inputs.shipped(kind).values()
    } == {name: name for name in inputs.shipped(kind)}
