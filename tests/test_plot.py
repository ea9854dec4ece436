"""Figures of one step: each is drawn, says what it shows, and agrees with the report that it is drawn beside."""

import struct
from xml.etree import ElementTree

import numpy as np
import pytest
from builders import dense, documents, lone, scenario, studied

from simulator.bounds import calls
from simulator.costs import layer_visits
from simulator.engine import run
from simulator.errors import InputError
from simulator.plot import FIGURES, check_figure
from simulator.plot.experts import dispatched, least_even
from simulator.plot.links import busy_shares
from simulator.plot.memory import ORDER, by_category
from simulator.program import lower
from simulator.report.series import means

SHOWN = {
    # figure -> words that it must show, units among them
    "step": ("time [s]", "exposed time in a step, mean over ranks [s]"),
    "links": ("nvlink", "nic", "busy [%]", "time in the step [s]", "classes"),
    "memory": (
        "memory of the GPU [GB]",
        "capacity",
        "activations",
        "margin",
        "pipeline index",
        "time in the step [s]",
    ),
    "traffic": (
        "to GPU of the expert group",
        "from GPU of the expert group",
        "sent [MB]",
        "NVLink",
        "NIC",
    ),
    "experts": ("expert", "GPU of the expert group", "tokens", "tokens / even share", "MoE layer"),
}


@pytest.fixture(scope="module")
def small():
    """Return the timeline and the report of a small run whose expert groups of 8 span two nodes of 4."""
    one = scenario(nodes=4, layout__ep=8, experts__distribution="power_law", experts__exponent=0.3)
    return studied(one)


def test_every_figure_has_words_to_look_for():
    assert set(SHOWN) == set(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.slow
def test_every_figure_is_an_image_and_the_same_bytes_twice(small, tmp_path, name):
    for ending in ("png", "svg", "pdf"):
        one, two = tmp_path / f"one.{ending}", tmp_path / f"two.{ending}"
        FIGURES[name](*small, one)
        FIGURES[name](*small, two)
        assert len(one.read_bytes()) > 5_000
        assert one.read_bytes() == two.read_bytes()
    width, height = struct.unpack(
        ">II", (tmp_path / "one.png").read_bytes()[16:24]
    )  # PNG's first chunk, IHDR
    assert width >= 700  # 3.5 inch, a paper's column, at 200 dots per inch
    assert height >= 400


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_names_the_scenario_and_its_units(small, tmp_path, name):
    path = tmp_path / "figure.svg"
    FIGURES[name](*small, path)
    words = " ".join(
        "".join(node.itertext())
        for node in ElementTree.parse(path).iter()
        if node.tag.endswith("text")
    )
    for word in ("tiny on small: 16 GPUs", "step", *SHOWN[name]):
        assert word in words, words


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.slow
def test_a_dense_model_has_every_figure_but_those_of_experts(tmp_path, name):
    timeline, report = studied(dense())
    path = tmp_path / "figure.png"
    if name in ("traffic", "experts"):
        with pytest.raises(InputError, match=f"--figure: '{name}' needs experts"):
            FIGURES[name](timeline, report, path)
        assert not path.exists()
        return
    FIGURES[name](timeline, report, path)
    assert path.read_bytes()


@pytest.mark.slow
def test_a_lone_gpu_has_memory_and_no_links(tmp_path):
    timeline, report = studied(lone())
    FIGURES["memory"](timeline, report, tmp_path / "memory.png")
    with pytest.raises(InputError, match=r"a lone GPU uses none\. Draw step or memory"):
        FIGURES["links"](timeline, report, tmp_path / "links.png")


@pytest.mark.slow
def test_experts_that_share_a_gpu_have_tokens_and_no_traffic(tmp_path):
    timeline, report = studied(scenario(layout__ep=1))
    FIGURES["experts"](timeline, report, tmp_path / "experts.png")
    with pytest.raises(InputError, match=r"layout\.ep is 1"):
        FIGURES["traffic"](timeline, report, tmp_path / "traffic.png")


def test_a_wrong_name_is_told_the_near_one_or_all():
    with pytest.raises(InputError, match=r"'trafic' is not a figure\. Did you mean 'traffic'\?"):
        check_figure("trafic")
    with pytest.raises(InputError, match=r"Choose from: step, links, memory, traffic, experts\."):
        check_figure("xyz")


# What is drawn


def test_means_keep_the_area_of_a_series():
    # 2 from 1 s to 3 s, then 4 until 5 s: spans of 2 s hold 1 s of 2, 1 s of 2 and 1 s of 4, 1 s of
    # 4.
    times, values = np.array([1.0, 3.0, 5.0]), np.array([2.0, 4.0, 0.0])
    assert means(times, values, np.array([0.0, 2.0, 4.0, 6.0])).tolist() == [1.0, 3.0, 2.0]


def test_links_are_as_busy_as_the_report_says(small):
    timeline, report = small
    found = busy_shares(timeline, np.linspace(0.0, timeline.step_time, 51))
    busiest = {
        kind: max(float(shares.mean()) for shares in links.values())
        for kind, links in found.items()
    }
    assert busiest == pytest.approx(
        {kind: share for kind, share in report.utilisation.items() if share}, rel=1e-6
    )


def test_memory_adds_up_to_no_more_than_the_reported_peak(small):
    # Only what a pass needs besides what is kept is not drawn: the peak is nearly reached.
    timeline, report = small
    for rank in range(timeline.program.ranks):
        times, held = by_category(timeline, report, rank)
        peak = report.memory[timeline.program.pipeline_index(rank)]
        assert tuple(held) == ORDER
        assert {*ORDER, "update"} == set(peak.by_category)
        assert times[-1] == timeline.step_time
        assert 0.8 * peak.peak < sum(held.values()).max() <= peak.peak * (1 + 1e-9)


def test_the_matrix_holds_the_bytes_that_the_run_dispatches(small):
    timeline, _ = small
    program = timeline.program
    # A pipeline index has 8 GPUs here, one expert group, so a class of coflows is one exchange of
    # one layer.
    matrices = [dispatched(program, visits).sum() for visits in layer_visits(program.scenario)]
    sent = [
        sum(flow.sent)
        for flow, count in zip(program.coflows, calls(program), strict=True)
        if flow.label[0] == "dispatch" and count
    ]
    assert sent
    for size in sent:
        assert min(abs(size / matrix - 1.0) for matrix in matrices) < 1e-9


def test_balanced_traffic_by_hand():
    # 4 GPUs of 2 nodes, top 2 of 4 experts, one each; 2,048 tokens of 1,024 x 2 bytes (BF16).
    # A token picks 2 of 4 experts: it reaches a node with 1 - 1/C(4,2) = 5/6 and a GPU with 1/2.
    # NIC, same rail: 5/6 of the tokens. NVLink: those of both nodes' senders of the rail, 2 x 1/2.
    one = scenario(
        nodes=2, node__gpus=2, node__nics=2, layout__pp=1, layout__ep=4, model__n_routed_experts=4
    )
    program = run(lower(one)).program
    name, visits = least_even(program)
    size = 2048 * 1024 * 2
    nic, nvlink = 5 / 6 * size, size
    assert name == "any MoE layer, all alike"
    assert dispatched(program, visits) == pytest.approx(
        np.array(
            [
                [0, nvlink, nic, 0],
                [nvlink, 0, 0, nic],
                [nic, 0, 0, nvlink],
                [0, nic, nvlink, 0],
            ]
        ),
        rel=0.02,
    )  # the probabilities are those of a sample


# The command


@pytest.mark.slow
def test_the_command_draws_the_figure_that_it_is_told(tmp_path, monkeypatch, capsys):
    import json

    from simulator.cli.commands import _main

    monkeypatch.chdir(tmp_path)
    for file, document in zip(("mine.yaml", "tiny.yaml"), documents(), strict=True):
        (tmp_path / file).write_text(json.dumps(document.data), encoding="utf-8")
    command = ("run", "mine.yaml", "-w", "tiny.yaml", "--no-alternatives")
    for name in FIGURES:
        assert _main((*command, "--plot", f"{name}.svg", "--figure", name)) == 0
    assert _main((*command, "--plot", "plain.svg")) == 0
    drawn = {name: (tmp_path / f"{name}.svg").read_bytes() for name in FIGURES}
    assert len(set(drawn.values())) == len(FIGURES)
    assert (tmp_path / "plain.svg").read_bytes() == drawn["step"]
    capsys.readouterr()
    alone = ("--set", "layout.ep=1", "--set", "experts.dispatcher=null")
    for options, message in (
        (("--figure", "links"), "--figure: 'links' has no effect without --plot. Add --plot FILE."),
        (
            ("--figure", "link", "--plot", "x.png"),
            "--figure: 'link' is not a figure. Did you mean 'links'?",
        ),
        (("--figure", "traffic", "--plot", "x.png", *alone), "layout.ep is 1"),
    ):
        assert _main((*command, *options)) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()
