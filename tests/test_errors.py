"""The exception tree is the one that its module draws, messages name place, value, rule and remedy, and all pickles."""

import copy
import inspect
import pickle
import re

import pytest

from simulator import errors
from simulator.errors import (
    EngineError,
    InputError,
    LayoutError,
    ScheduleError,
    SimulateError,
    UnitError,
)

FIELDS = ("rule", "value", "remedy", "key", "file", "line")
CLASSES = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)
]
INPUT_ERRORS = [kind for kind in CLASSES if issubclass(kind, InputError)]


def drawn():
    """Return (name, parent) of every class in the drawing of the module's docstring; the root's parent is ''."""
    rows, above = [], {}
    for line in inspect.getdoc(errors).splitlines():
        found = re.match(r"^([│ ├└─]*)([A-Z]\w+Error)\b", line)
        if found:
            depth, name = len(found[1]) // 4, found[2]
            above[depth] = name
            rows.append((name, above[depth - 1] if depth else ""))
    return rows


# The tree


def test_the_tree_in_the_docstring_is_the_tree_of_classes():
    real = [
        (kind.__name__, kind.__base__.__name__ if kind is not SimulateError else "")
        for kind in CLASSES
    ]
    assert sorted(drawn()) == sorted(real)


def test_the_tree_is_this_one():
    assert drawn() == [
        ("SimulateError", ""),
        ("InputError", "SimulateError"),
        ("UnitError", "InputError"),
        ("LayoutError", "InputError"),
        ("ScheduleError", "InputError"),
        ("EngineError", "SimulateError"),
    ]


def test_what_the_user_gave_wrong_is_a_value_error_and_a_fault_of_the_program_is_not():
    assert issubclass(InputError, ValueError)
    assert not issubclass(EngineError, ValueError)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_says_in_a_docstring_what_it_means(kind):
    assert kind.__doc__.strip()


# The message


@pytest.mark.parametrize(
    ("place", "head"),
    [
        ({}, ""),
        ({"file": "mine.yaml"}, "mine.yaml: "),
        ({"file": "mine.yaml", "line": 7}, "mine.yaml:7: "),
        ({"key": "node.nvlink"}, "node.nvlink: "),
        ({"file": "mine.yaml", "key": "node.nvlink"}, "mine.yaml: node.nvlink: "),
        ({"file": "mine.yaml", "line": 7, "key": "node.nvlink"}, "mine.yaml:7: node.nvlink: "),
        ({"line": 7}, ""),  # a line without its file says nothing
    ],
)
def test_the_place_stands_before_the_message_as_far_as_it_is_known(place, head):
    error = InputError(
        "has no unit", value="400", remedy="Write '400 GB/s bidirectional'.", **place
    )
    assert str(error) == f"{head}'400' has no unit. Write '400 GB/s bidirectional'."


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("is missing"), "is missing."),
        (InputError("is missing."), "is missing."),
        (InputError("is missing", remedy="Add it."), "is missing. Add it."),
        (InputError("does not divide 2048 GPUs", value=7), "7 does not divide 2048 GPUs."),
        (InputError("is odd", value=0), "0 is odd."),
        (InputError("is empty", value=""), "'' is empty."),
        (InputError("is wrong", value=False, key="on"), "on: False is wrong."),
        (
            InputError("holds no keys", file="a.yaml", remedy="Write some."),
            "a.yaml: holds no keys. Write some.",
        ),
    ],
)
def test_a_message_is_value_rule_and_remedy(error, message):
    assert str(error) == message


@pytest.mark.parametrize("kind", INPUT_ERRORS)
def test_every_input_error_prints_alike(kind):
    error = kind("is wrong", value=3, remedy="Write 4.", key="layout.pp", file="a.yaml", line=2)
    assert str(error) == "a.yaml:2: layout.pp: 3 is wrong. Write 4."


def test_a_place_is_filled_in_once_and_by_whoever_knows_it_first():
    error = LayoutError("is wrong", key="pp")
    assert error.at(file="a.yaml", line=2) is error
    assert str(error.at(file="b.yaml", line=9, key="ep")) == "a.yaml:2: pp: is wrong."


def test_no_place_is_forgotten_when_none_is_given():
    assert (
        str(UnitError("is wrong", key="k", file="a.yaml", line=2).at()) == "a.yaml:2: k: is wrong."
    )


# Between processes


@pytest.mark.parametrize("kind", INPUT_ERRORS)
@pytest.mark.parametrize(
    "carry", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy]
)
def test_an_input_error_crosses_to_another_process_with_all_its_fields(kind, carry):
    error = kind(
        "is wrong", value=(3, "x"), remedy="Write 4.", key="layout.pp", file="a.yaml", line=2
    )
    back = carry(error)
    assert type(back) is kind
    assert [getattr(back, field) for field in FIELDS] == [
        "is wrong",
        (3, "x"),
        "Write 4.",
        "layout.pp",
        "a.yaml",
        2,
    ]
    assert str(back) == str(error)


def test_an_error_whose_place_was_filled_in_later_crosses_too():
    back = pickle.loads(
        pickle.dumps(ScheduleError("is wrong").at(file="a.yaml", line=2, key="schedule"))
    )
    assert str(back) == "a.yaml:2: schedule: is wrong."


def test_an_engine_error_crosses_with_its_message():
    assert str(pickle.loads(pickle.dumps(EngineError("3 ops never ran")))) == "3 ops never ran"
