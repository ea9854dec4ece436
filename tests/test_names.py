"""Names from input are shown as they are, by every command and in every figure: they never act on what shows them."""

import copy
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from builders import CLUSTER, TRAINING

from simulator.cli.commands import _main
from simulator.escapes import visible
from simulator.plot import FIGURES

NASTY = {
    # name -> what is seen of it
    r"[/][bold red]x :smile: 2$_$ $\frac$ {rank} %{y} %s": r"[/][bold red]x :smile: 2$_$ $\frac$ {rank} %{y} %s",
    "_h800[fast] \x1b[31mred\x9b0m \u202ea\nb\tc": r"_h800[fast] \x1b[31mred\x9b0m \u202ea\nb\tc",
    "</script><b>&amp;": "</script><b>&amp;",
    "007": "007",
}
CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
RUN = ("run", "mine.yaml", "-w", "tiny.yaml", "--no-alternatives")


@pytest.fixture(params=NASTY, ids=ascii)
def name(request, tmp_path, monkeypatch):
    """Write a topology, a workload and a model of a name into the working folder; return the name."""
    cluster, training = copy.deepcopy(CLUSTER), copy.deepcopy(TRAINING)
    cluster["name"] = training["name"] = training["model"]["name"] = request.param
    monkeypatch.chdir(tmp_path)
    for file, document in (("mine.yaml", cluster), ("tiny.yaml", training)):
        (tmp_path / file).write_text(json.dumps(document), encoding="utf-8")
    return request.param


def printed(capsys, *arguments):
    """Return what a command prints; it obeys no name and shows all of it."""
    assert _main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert not CONTROLS.search(out)
    return out


def times_shown(name, path):
    """Return how often an SVG shows a name, on however many lines."""
    nodes = ElementTree.parse(path).iter()
    texts = "".join("".join(node.itertext()) for node in nodes if node.tag.endswith("}text"))
    return without_blanks(texts).count(without_blanks(NASTY[name]))


def without_blanks(text):
    return re.sub(r"\s", "", text)


@pytest.mark.parametrize("command", ["run", "compare", "topology", "collective", "sweep"])
@pytest.mark.slow
def test_the_terminal_shows_a_name_as_it_is(command, name, capsys, tmp_path):
    calls = {
        "run": RUN,
        "compare": ("compare", "mine.yaml", "mine.yaml", "-w", "tiny.yaml"),
        "topology": ("topology", "mine.yaml"),
        "collective": ("collective", "mine.yaml", "--op", "all_gather", "--bytes", "1MiB"),
        "sweep": ("sweep", "sweep.yaml", "--workers", "1"),
    }
    axes = {"topology.name": [name, "other"]}
    plan = {"name": "s", "topology": "mine.yaml", "workload": "tiny.yaml", "axes": axes}
    (tmp_path / "sweep.yaml").write_text(json.dumps(plan), encoding="utf-8")
    shown = printed(capsys, *calls[command])
    # Columns fold long names, at any place.
    assert without_blanks(NASTY[name]) in without_blanks(shown)


def test_a_profile_of_any_names_is_summarised(name, capsys, tmp_path):
    kernel = {"ph": "X", "cat": "kernel", "name": name, "pid": 0, "tid": 0, "ts": 0, "dur": 1}
    process = {"ph": "M", "name": "process_name", "pid": 0, "args": {"name": name}}
    kernel["args"] = {"stream": name}
    (tmp_path / "t.json").write_text(json.dumps({"traceEvents": [process, kernel]}))
    shown = printed(capsys, "trace", "t.json")
    assert shown.count(NASTY[name]) == 2


def test_an_error_shows_a_name_as_it_is(name, capsys):
    assert _main(("run", name, "-w", "tiny.yaml")) == 2
    _, err = capsys.readouterr()
    assert not CONTROLS.search(err)
    assert _main((*RUN, "--set", f"layout.{name}=1")) == 2
    _, err = capsys.readouterr()
    assert not CONTROLS.search(err)


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.slow
def test_a_figure_of_a_step_shows_a_name_as_it_is(figure, name, capsys):
    printed(capsys, *RUN, "--plot", "f.svg", "--figure", figure)
    assert times_shown(name, "f.svg") >= 2  # the workload and the topology


@pytest.mark.slow
def test_other_figures_show_a_name_as_it_is(name, capsys):
    printed(capsys, "compare", "mine.yaml", "mine.yaml", "-w", "tiny.yaml", "--plot", "c.svg")
    assert times_shown(name, "c.svg") == 3  # the title and two bars
    printed(capsys, "topology", "mine.yaml", "--plot", "t.svg")
    assert times_shown(name, "t.svg") == 1
    sizes = ("--op", "all_gather", "--bytes", "1MiB:4MiB")
    printed(capsys, "collective", "mine.yaml", *sizes, "--plot", "o.svg")
    assert times_shown(name, "o.svg") == 1


@pytest.mark.slow
def test_a_sweep_shows_names_as_they_are(name, capsys, tmp_path):
    axes = {"topology.name": [name, "other"], "topology.nodes": [2, 4]}
    figures = [
        {"kind": "knee", "x": "topology.nodes", "by": "topology.name", "label": name},
        {"kind": "scaling", "x": "topology.nodes", "by": "topology.name"},
        {"kind": "heat_map", "x": "topology.nodes", "y": "topology.name"},
        {"kind": "bars", "x": "topology.name", "by": "topology.nodes"},
    ]
    files = {"topology": "mine.yaml", "workload": "tiny.yaml"}
    plan = {"name": "s", **files, "axes": axes, "figures": figures}
    (tmp_path / "sweep.yaml").write_text(json.dumps(plan), encoding="utf-8")
    printed(capsys, "sweep", "sweep.yaml", "--workers", "1", "--plot", "s.svg", "--html", "s.html")
    # The label of the first panel, a line of each of the first two, a tick of each of the last two.
    assert times_shown(name, "s.svg") >= 5
    check_page("s.html", name)


def check_page(path, name):
    """Check that a name is text of a page, and text of its charts."""
    page = Path(path).read_text(encoding="utf-8")
    scripts = re.findall(r"<script[^>]*>.*?</script>", page, re.DOTALL)
    rest = re.sub(r"<script[^>]*>.*?</script>", "", page, flags=re.DOTALL)
    assert len(scripts) == page.count("</script>") == 5
    assert "<b>&amp;" not in rest.replace("&amp;amp;", "")
    assert not CONTROLS.search(rest)
    drawn = json.loads(scripts[0].partition(">")[2].removesuffix("</script>"))
    for text in _strings(drawn):
        assert not re.search(r"</script>|<b>&amp;$", text)
        assert not CONTROLS.search(text)


def _strings(tree):
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict | list):
        for item in tree.values() if isinstance(tree, dict) else tree:
            yield from _strings(item)


@pytest.mark.slow
def test_pages_and_traces_hold_a_name_as_it_is(name, capsys):
    printed(capsys, *RUN, "--html", "run.html", "--trace", "t.json", "--json", "r.json")
    check_page("run.html", name)
    printed(capsys, "compare", "mine.yaml", "mine.yaml", "-w", "tiny.yaml", "--html", "c.html")
    check_page("c.html", name)
    trace = json.loads(Path("t.json").read_text(encoding="utf-8"))
    assert trace["traceName"] == f"{name} on {name}, one simulated step"
    assert json.loads(Path("r.json").read_text(encoding="utf-8"))["topology"] == name


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        *NASTY.items(),
        ("plain text, with äöü and \N{GREEK SMALL LETTER MU}", None),
        ("\x00\x7f\u2028", r"\x00\x7f\u2028"),
        ("half a pair \ud800", r"half a pair \ud800"),
    ],
    ids=ascii,
)
def test_control_characters_are_written_as_in_source(text, shown):
    assert visible(text) == (text if shown is None else shown)
    assert visible(visible(text)) == visible(text)
    assert visible("a\n\x1b", lines=True) == "a\n\\x1b"
