"""Laws over every configuration: each field is described, its numbers are strict, and its examples are accepted."""

import importlib
import pkgutil
import typing

import pytest
from pydantic import BaseModel, TypeAdapter

import simulator
from simulator import inputs
from simulator.errors import InputError
from simulator.scenario import load


def configs():
    """Return every configuration of the package, those of other packages left out."""
    for module in pkgutil.walk_packages(simulator.__path__, "simulator."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, waiting = {}, [BaseModel]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            waiting.append(kind)
            if kind.__module__.startswith("simulator."):
                found[f"{kind.__module__}.{kind.__name__}"] = kind
    return found


CONFIGS = configs()
FIELDS = {
    f"{name.removeprefix('simulator.')}.{key}": field
    for name, model in CONFIGS.items()
    for key, field in model.model_fields.items()
}
every_field = pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
EVIDENT = (int, bool, type(None))
"""kinds of values that need no example: how they are written is plain"""


def parts(annotation):
    """Return the types that an annotation is made of."""
    inner = [part for part in typing.get_args(annotation) if not isinstance(part, str | int)]
    if typing.get_origin(annotation) is typing.Literal:
        return set()
    if typing.get_origin(annotation) is typing.Annotated:
        return parts(inner[0])
    if inner:
        return set().union(*map(parts, inner))
    return {annotation} - {Ellipsis}


def is_evident(annotation):
    """Tell whether a field shows by its type how it is written: a count, a choice, groups of keys."""
    kinds = parts(annotation)
    groups = {kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)}
    if typing.get_origin(annotation) in (tuple, dict):
        return bool(groups)
    return kinds - groups <= set(EVIDENT)


def test_the_configurations_are_found():
    names = {name.rsplit(".", 1)[1] for name in CONFIGS}
    assert names >= {
        "TopologyConfig",
        "Node",
        "Fabric",
        "WorkloadConfig",
        "LayoutConfig",
        "TrainingConfig",
        "ExpertsConfig",
        "ScheduleConfig",
        "GpuConfig",
        "KernelConfig",
        "CommunicationModel",
        "ModelConfig",
        "SweepConfig",
        "SweepFigure",
    }


@every_field
def test_a_field_is_described_in_a_sentence(field):
    text = field.description
    assert text[0].isupper()
    assert text.endswith(".")
    assert "  " not in text


@every_field
def test_a_field_whose_type_does_not_say_how_it_is_written_has_examples(field):
    assert field.examples or is_evident(field.annotation)


def adapter(field):
    """Return what validates the value of a field alone."""
    if field.metadata:
        return TypeAdapter(typing.Annotated[field.annotation, *field.metadata])
    return TypeAdapter(field.annotation)


@every_field
def test_the_examples_of_a_field_are_accepted(field):
    for example in field.examples or ():
        adapter(field).validate_python(example)


def bare(annotation):
    """Return the bare numbers of an annotation, which pydantic would also read from text and from true."""
    if typing.get_origin(annotation) in (typing.Annotated, typing.Literal):
        return set()
    if typing.get_origin(annotation) is dict:
        return bare(typing.get_args(annotation)[1])  # keys are text in every file
    inner = typing.get_args(annotation)
    return set().union(*map(bare, inner)) if inner else {annotation} & {int, float}


@every_field
def test_a_number_is_refused_as_text_and_as_true(field):
    kinds = [kind for kind in typing.get_args(field.annotation) if kind is not type(None)]
    if field.annotation in (int, float) or kinds in ([int], [float]):
        for value in ("3", True):
            with pytest.raises(ValueError, match=r"is not an? |has no unit"):
                adapter(field).validate_python(value)
    else:
        assert not bare(field.annotation)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("nodes", "3", "--set: nodes: '3' is not an integer. Write 3 without quotes."),
        ("nodes", True, "--set: nodes: True is not an integer. Write a number without quotes"),
        ("layout.ep", "32", "--set: layout.ep: '32' is not an integer. Write 32 without quotes."),
        ("layout.pp", 8.0, "--set: layout.pp: 8.0 is not an integer. Write 8."),
        ("layout.zero", True, "--set: layout.zero: True is not an integer."),
        ("layout.zero", 4, "--set: layout.zero: 4 is not one of 0, 1, 2 or 3."),
        ("training.tokens", "1e12", "--set: training.tokens: '1e12' is not a number. Write it"),
        ("training.tokens", 0, "--set: training.tokens: 0.0 must be greater than 0."),
        ("training.recompute", 3, "--set: training.recompute: 3 is not a list. Write [first,"),
        ("layout.cp_comm", "ring", "--set: layout.cp_comm: 'ring' is not one of 'p2p',"),
        ("layout.sequence_parallel", 7, "layout.sequence_parallel: 7 is not true or false."),
        ("schedule", "1f1b", "--set: schedule: '1f1b' is not a group of keys. Write keys below"),
        ("name", 3, "name' or 'workload.name'."),
        ("workload.name", 3, "--set: name: 3 is not a text. Put it into quotes."),
    ],
)
def test_a_wrong_value_is_told_in_plain_words(path, value, message):
    with pytest.raises(InputError) as caught:
        load("h800-2048", sets={path: value})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "topolgy.node",
            "'topolgy' is not a key of a topology or a workload. Did you mean 'topology.node'?",
        ),
        ("wrkload.layout.ep", "Did you mean 'workload.layout.ep'?"),
        ("layuot.ep", "Did you mean 'layout.ep'?"),
        ("topology.nod.gpus", "--set: nod: 'nod' is not a key here. Did you mean 'node'?"),
        ("layout.epp", "--set: layout.epp: 'epp' is not a key here. Did you mean 'pp'?"),
        ("zzz", "Choose from: assumed, communication, experts,"),
    ],
)
def test_a_misspelt_path_is_told_the_right_one(path, message):
    with pytest.raises(InputError) as caught:
        load("h800-2048", sets={path: 3})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("layout.vp", "--set: layout.vp: 'vp' is not a key here. Did you mean 'vpp'?"),
        ("topology.nod.gpus", "--set: nod: 'nod' is not a key here. Did you mean 'node'?"),
        ("node.nvlnk", "--set: node.nvlnk: 'nvlnk' is not a key here. Did you mean 'nvlink'?"),
        ("training.seq_len", "Did you mean 'seq_length'?"),
        (
            "model.hiden_size",
            "--set: model.hiden_size: 'hiden_size' is not a key of a model that simulate reads. "
            "Did you mean 'hidden_size'?",
        ),
        ("layout.pp.foo", "--set: layout.pp.foo: 'layout.pp' is not a group of keys."),
    ],
)
def test_an_unknown_key_is_told_the_right_one_where_it_is_removed_too(path, message):
    for value in (None, 3):
        with pytest.raises(InputError) as caught:
            load("h800-2048", sets={path: value})
        assert message in str(caught.value)


@pytest.mark.slow
def test_a_known_key_that_the_file_does_not_have_can_be_removed():
    absent = ("layout.vpp", "jitter", "fabric.file", "model.head_dim", "communication.data")
    changed = load("h800-2048", sets=dict.fromkeys(absent))
    plain = load("h800-2048")
    assert (changed.topology, changed.workload) == (plain.topology, plain.workload)
    assert changed.model == plain.model


def test_keys_of_an_item_of_a_list_are_known():
    with pytest.raises(InputError) as caught:
        load("h800-2048", sets={"faults": [{"gpuu": 3}]})
    assert "'gpuu' is not a key here. Did you mean 'gpu'?" in str(caught.value)


def test_no_message_lists_known_keys_where_there_are_none():
    class Held(BaseModel, extra="forbid"):
        groups: dict[str, typing.Any]

    document = inputs.Document("mine.yaml", {"groups": {}, "zzz": 1}, {})
    with pytest.raises(InputError, match=r"Choose from: groups\.$"):
        inputs.validate(document, Held)

    class Empty(BaseModel, extra="forbid"):
        pass

    with pytest.raises(InputError, match=r"'zzz' is not a key here\.$"):
        inputs.validate(inputs.Document("mine.yaml", {"zzz": 1}, {}), Empty)
