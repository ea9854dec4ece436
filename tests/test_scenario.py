"""Two files -> one scenario: the model's keys, wherever they are given, and keys that are removed."""

import json
from pathlib import Path

import pytest
from builders import dense

from simulator import inputs
from simulator.errors import InputError
from simulator.scenario import inline, load

LLAMA = json.loads(
    (
        inputs.shipped("workloads")["llama-3.1-8b"].parent / "models" / "llama-3.1-8b.json"
    ).read_text()
)


@pytest.fixture
def workload(tmp_path):
    """Return a function that writes Llama 3.1 8B's workload with another `model` and returns its path."""

    def write(model):
        tree = inputs.read(inputs.find("llama-3.1-8b", "workloads")).data | {"model": model}
        tree.pop("assumed")
        path = tmp_path / "mine.yaml"
        path.write_text(json.dumps(tree, indent=1))
        return str(path)

    return write


def refusal(*arguments):
    with pytest.raises(InputError) as caught:
        load(*arguments)
    return str(caught.value)


# The model


@pytest.mark.slow
def test_hf_config_may_hold_the_keys_of_a_config_json(workload):
    # Keys that no cost depends on are passed over, as in a file.
    assert "rope_theta" in LLAMA
    nested = load("h100-node", workload({"hf_config": LLAMA})).model
    named = load("h100-node", "llama-3.1-8b").model
    assert nested.model_copy(update={"name": ""}) == named.model_copy(update={"name": ""})


@pytest.mark.slow
def test_a_key_beside_hf_config_goes_before_it_and_so_does_set(workload):
    file = workload({"hf_config": LLAMA, "vocab_size": 1000})
    assert load("h100-node", file).model.vocab_size == 1000
    assert load("h100-node", file, {"model.vocab_size": 2000}).model.vocab_size == 2000
    assert load("h100-node", file, {"model.hf_config.hidden_size": 8192}).model.hidden_size == 8192


def test_an_inlined_workload_has_the_keys_of_a_nested_config(workload):
    document = inline(inputs.read(inputs.find(workload({"hf_config": LLAMA}), "workloads")))
    assert "hf_config" not in document.data["model"]
    assert document.data["model"]["hidden_size"] == LLAMA["hidden_size"]


@pytest.mark.parametrize(
    ("model", "where", "rest"),
    [
        (
            {"hf_config": LLAMA | {"vocab_size": "many"}},
            "model.hf_config.vocab_size",
            "'many' is not an integer. Write a number without quotes, for example 8.",
        ),
        (
            {"hf_config": LLAMA, "hidden_size": 0},
            "model.hidden_size",
            "0 must be greater than 0.",
        ),
        (
            {"hf_config": {key: LLAMA[key] for key in LLAMA if key != "vocab_size"}},
            "model.vocab_size",
            "is missing. Add 'vocab_size:' there.",
        ),
        (
            {"hf_config": [1, 2]},
            "model.hf_config",
            "[1, 2] is neither a path nor a group of keys. Give the path of a config.json, or its keys.",
        ),
        (
            {"hf_config": "models/llama.json"},
            "model.hf_config",
            "'models/llama.json' does not exist. Give the path of a config.json, relative to this file.",
        ),
    ],
)
def test_a_mistake_in_a_model_names_file_line_and_key(workload, model, where, rest):
    file = workload(model)
    lines = Path(file).read_text().splitlines()
    at = lines.index(' "model": {')
    for depth, key in enumerate(where.split(".")[1:], start=2):
        # A key that is missing has the line of the group that lacks it.
        shown = f'{" " * depth}"{key}":'
        below = (n for n in range(at, len(lines)) if lines[n].startswith(shown))
        at = next(below, at)
    assert refusal("h100-node", file) == f"{file}:{at + 1}: {where}: {rest}"


def test_a_mistake_in_a_config_json_names_that_file(workload, tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps(LLAMA | {"vocab_size": "many"}))
    message = refusal("h100-node", workload({"hf_config": "mine.json"}))
    assert message.startswith(
        f"{tmp_path / 'mine.json'}: model.vocab_size: 'many' is not an integer"
    )


# Keys that are removed


@pytest.mark.slow
def test_null_removes_a_key_so_that_its_default_applies():
    shipped = load("h100-64", "llama-3.1-70b")
    assert (shipped.layout.vpp, shipped.workload.layout.tp_comm_overlap) == (5, True)
    changed = load(
        "h100-64",
        "llama-3.1-70b",
        {"layout.vpp": None, "schedule.name": "1f1b", "layout.tp_comm_overlap": None},
    )
    assert (changed.layout.vpp, changed.workload.layout.tp_comm_overlap) == (1, False)


def test_null_removes_a_group_and_the_assumptions_about_its_keys():
    changed = load("h800-2048", sets={"experts": None})
    assert changed.workload.experts.distribution == "balanced"
    assert not any(row.key.startswith("experts") for row in changed.workload.assumed)


def test_null_removes_a_key_of_a_config_json_too():
    changed = load(
        "h800-2048", sets={"model.num_nextn_predict_layers": None, "layout.stages": "even"}
    )
    assert changed.model.num_nextn_predict_layers == 0
    assert load("h800-2048").model.num_nextn_predict_layers == 1


@pytest.mark.slow
def test_null_for_a_key_that_is_not_there_changes_nothing():
    changed = load("h800-2048", sets={"experts.exponent": None, "faults": None})
    assert changed.workload.experts == load("h800-2048").workload.experts


def test_null_for_a_key_below_a_plain_value_is_refused():
    message = refusal("h800-2048", "deepseek-v3", {"layout.cp_comm.foo": None})
    assert message == "--set: layout.cp_comm.foo: 'foo' is not a key here."


@pytest.mark.parametrize("key", ["nodes", "node.nvlink", "training.seq_length", "model.vocab_size"])
def test_a_key_without_a_default_cannot_be_removed(key):
    assert refusal("h800-2048", "deepseek-v3", {key: None}) == (
        f"--set: {key}: cannot be removed: it has no default. Give it a value."
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"schedule.group": 4},
            "schedule.group: 4 is not read by schedule dualpipe. Leave it out: --set schedule.group=null "
            "removes it. It belongs to interleaved.",
        ),
        (
            {"fabric.planes": 2},
            "'planes' is a key of multi_plane, not of rail_optimised. Leave it out: "
            "--set fabric.planes=null removes it.",
        ),
        (
            {"experts.sigma": 1, "experts.distribution": "balanced"},
            "Leave it out: --set experts.sigma=null removes it. It belongs to distribution: log_normal.",
        ),
        (
            {"layout.vpp": 3, "layout.stages": "even"},
            "layout.vpp: 3 virtual stages per rank do not fit dualpipe, which has 1. "
            "Leave it out (--set layout.vpp=null removes it), or use ",
        ),
    ],
)
def test_a_key_that_may_be_left_out_is_told_how(changes, message):
    assert message in refusal("h800-2048", "deepseek-v3", changes)


@pytest.mark.slow
def test_the_remedy_that_leaves_a_key_out_works():
    # The first complaint of dense 8B on deepseek's layout: no experts to share.
    with pytest.raises(InputError, match=r"--set layout\.ep=null removes it"):
        load("h100-node", "llama-3.1-8b", {"layout.ep": 4})
    assert load("h100-node", "llama-3.1-8b", {"layout.ep": None}).layout.ep == 1


@pytest.mark.parametrize("value", [8192, None])
def test_a_key_of_a_named_config_json_is_told_where_to_go(value):
    path = "model.hf_config.hidden_size"
    assert refusal("h800-2048", "deepseek-v3", {path: value}) == (
        f"--set: {path}: 'model.hf_config' is not a group of keys. Write model.hidden_size: "
        "it overrides what the file models/deepseek-v3.json says."
    )


def test_a_set_without_a_value_is_told_about_null():
    with pytest.raises(InputError, match=r"has no value. Write KEY=VALUE, or KEY=null to remove"):
        inputs.parse_value(" ")
    assert inputs.parse_value("null") is None


# Keys that do not fit the rest


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (
            {"schedule.group": 3},
            "schedule.group: 3 is not read by schedule dualpipe. Leave it out: --set schedule.group=null",
        ),
        (
            {"schedule.limit": 3},
            "schedule.limit: 3.0 is not read by schedule dualpipe. Leave it out: --set schedule.limit=null",
        ),
        ({"schedule.name": "custom"}, "schedule.name: 'custom' needs a grid. Add schedule.file."),
        (
            {"schedule": {"name": "custom", "file": "nope.txt"}},
            "schedule.file: 'nope.txt' does not exist.",
        ),
    ],
)
def test_keys_that_mean_nothing_are_refused(sets, message):
    with pytest.raises(InputError) as found:
        load("h800-2048", "deepseek-v3", sets)
    assert message in str(found.value)


def test_only_mla_expands_compressed_vectors_again():
    with pytest.raises(InputError, match="only multi-head latent attention"):
        dense(training__recompute=["mla_up_projection"])


@pytest.mark.slow
def test_etp_of_a_dense_model_is_blamed_by_its_own_name():
    with pytest.raises(InputError, match=r"layout\.etp: 2 must be 1"):
        dense(layout__etp=2)


@pytest.mark.slow
def test_published_figures_of_another_run_say_so():
    assert load("h800-2048", "deepseek-v3").as_published
    assert not load("h100-2048", "deepseek-v3").as_published
    assert not load("h800-2048", "deepseek-v3", {"layout.ep": 32}).as_published


# The software stack


@pytest.mark.slow
def test_a_run_is_megatrons_unless_its_workload_names_another_stack():
    assert load("h100-node", "llama-3.1-8b").stack.name == "megatron"
    assert load("h800-2048", "deepseek-v3").stack.name == "deepseek"


def test_an_unknown_stack_is_refused_with_the_one_that_was_meant():
    with pytest.raises(InputError) as error:
        load("h100-node", "llama-3.1-8b", {"stack": "megatrn"})
    assert error.value.key == "stack"
    assert "Did you mean 'megatron'?" in error.value.remedy
