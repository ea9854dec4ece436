"""Files: YAML 1.2, the line of every key, shipped files by name, and what a wrong file is told, as whole messages."""

import json
import math
from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from simulator import inputs
from simulator.errors import InputError
from simulator.topology import TopologyConfig

SMALL = """\
name: small
gpu: h800
nodes: 3
node:
  gpus: 4
  nvlink: 400 GB/s bidirectional
  nics: 4
  nic: 50 GB/s per direction
fabric: {kind: rail_optimised, switch_ports: 4, latency: 3.7 us}
price: 2 USD per GPU-hour
"""


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a text as if it were the file `mine.yaml`, or another name."""

    def reader(text, name="mine.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return inputs.read(path, name)

    return reader


def refusal(call, *arguments):
    with pytest.raises(InputError) as caught:
        call(*arguments)
    return str(caught.value)


# YAML 1.2


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e9", 1e9),  # YAML 1.1 reads a string: it wants 1.0e+9
        ("14.8e12", 14.8e12),
        ("12", 12),
        ("0o17", 15),
        ("0x10", 16),
        (".inf", math.inf),
        ("no", "no"),  # YAML 1.1 reads False
        ("yes", "yes"),
        ("true", True),
        ("1:30", "1:30"),  # YAML 1.1 reads 90, base 60
        ("'5'", "5"),
        ("50 GB/s per direction", "50 GB/s per direction"),
        ("[1, no, 1e3]", [1, "no", 1000.0]),
    ],
)
def test_values_are_read_as_yaml_1_2_from_a_file_and_from_the_command_line_alike(read, text, value):
    for found in (read(f"key: {text}\n").data["key"], inputs.parse_value(text)):
        assert found == value
        assert type(found) is type(value)


def test_the_tree_is_made_of_plain_values_only(read):
    def kinds(node):
        inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        return {type(node)}.union(*map(kinds, inner))

    tree = read("2: {b: [1, 2.5, 'x', true, null]}\nc: \"quoted\"\nd: >-\n  folded\n  text\n").data
    assert kinds(tree) == {dict, list, int, float, str, bool, type(None)}
    assert (
        json.loads(json.dumps(tree))
        == tree
        == {"2": {"b": [1, 2.5, "x", True, None]}, "c": "quoted", "d": "folded text"}
    )


def test_what_is_no_yaml_value_is_refused():
    assert refusal(inputs.parse_value, "a: b: c") == "'a: b: c' is not a YAML value."


# Lines


NESTED = """\
# a comment counts
a:
  b: 1

  c:
    - x
    - y: 2
      z: [3, 4]
d: {e: 5,
    f: 6}
"""


def test_every_key_knows_its_line_also_nested_and_in_lists(read):
    assert read(NESTED).lines == {
        ("a",): 2,
        ("a", "b"): 3,
        ("a", "c"): 5,
        ("a", "c", 0): 6,
        ("a", "c", 1): 7,
        ("a", "c", 1, "y"): 7,
        ("a", "c", 1, "z"): 8,
        ("a", "c", 1, "z", 0): 8,
        ("a", "c", 1, "z", 1): 8,
        ("d",): 9,
        ("d", "e"): 9,
        ("d", "f"): 10,
    }


def test_an_unknown_path_has_the_line_of_its_longest_known_part(read):
    document = read(NESTED)
    assert document.locate(("a", "c", 1, "z")) == {"file": "mine.yaml", "line": 8, "key": "a.c.1.z"}
    assert [
        document.locate(path)["line"] for path in [("a", "c", 7, "q"), ("d", "g"), ("h",), ()]
    ] == [5, 9, 0, 0]


# Overrides


def test_an_override_replaces_one_nested_key_and_leaves_the_document_as_it_was(read):
    before = read(SMALL)
    after = inputs.override(before, "node.nvlink", "900 GB/s bidirectional")
    assert after.data["node"] == {**before.data["node"], "nvlink": "900 GB/s bidirectional"}
    assert {**after.data, "node": before.data["node"]} == before.data
    assert before.data["node"]["nvlink"] == "400 GB/s bidirectional"
    assert inputs.validate(after, TopologyConfig).node.nvlink == 450e9


def test_an_override_adds_groups_and_an_overridden_value_stands_in_no_file_any_more(read):
    assert inputs.override(read("a: 1\n"), "b.c.d", 2).data == {"a": 1, "b": {"c": {"d": 2}}}
    after = inputs.override(read(NESTED), "a.c", [7])
    assert after.locate(("a", "b")) == {"file": "mine.yaml", "line": 3, "key": "a.b"}
    assert after.locate(("a", "c", 0)) == {"file": "--set", "key": "a.c.0"}


def test_an_override_inside_a_value_is_refused(read):
    assert refusal(inputs.override, read("name: small\n"), "name.x", 1) == (
        "--set: name.x: 'name' is not a group of keys. Set it as a whole."
    )


# Finding


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in inputs.SINGULAR for name in inputs.shipped(kind)],
)
@pytest.mark.slow
def test_every_shipped_file_is_found_by_its_bare_name_and_by_its_path(kind, name):
    path = inputs.find(name, kind)
    assert (path.name, path.parent.name) == (f"{name}.yaml", kind)
    assert inputs.find(str(path), kind) == path
    assert inputs.read(path).data["name"] == name


def test_a_file_of_ones_own_goes_before_a_shipped_one_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "h800-2048").write_text(SMALL)
    monkeypatch.chdir(tmp_path)
    assert inputs.find("h800-2048", "topologies") == Path("h800-2048")


@pytest.mark.parametrize(
    "name", ["h800-2047", "h800-2047.yaml", "h800-2048.yaml", "topologies/h800-2047.yaml"]
)
def test_a_name_that_is_nearly_shipped_is_told_the_right_one(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refusal(inputs.find, name, "topologies")
    assert message.endswith(f"'{name}' does not exist. Did you mean 'h800-2048'?")


def test_a_name_like_none_is_told_all():
    shipped = ", ".join(inputs.shipped("workloads"))
    assert refusal(inputs.find, "zzz", "workloads") == (
        f"zzz: workload: 'zzz' does not exist. Give a path, or one of the shipped workloads: {shipped}."
    )


def test_a_topology_is_called_a_topology():
    assert ": topology: " in refusal(inputs.find, "zzz", "topologies")


def test_a_folder_is_told_to_be_one(tmp_path):
    shipped = ", ".join(inputs.shipped("topologies"))
    assert refusal(inputs.find, str(tmp_path), "topologies") == (
        f"topology: '{tmp_path}' is a folder, not a file. Shipped topologies: {shipped}."
    )


# Files that cannot be read


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\nb: 2\n", "mine.yaml:2: is not YAML: expected ',' or ']', but got ':'."),
        ("a: 1\n b: 2\n", "mine.yaml:2: is not YAML: mapping values are not allowed here."),
        (
            "a: 1\n\tb: 2\n",
            "mine.yaml:2: is not YAML: found character '\\t' that cannot start any token.",
        ),
        ("a: *x\n", "mine.yaml:1: is not YAML: found undefined alias 'x'."),
        (
            "a:\n  b: 1\n  c: 2\n  b: 3\n",
            'mine.yaml:4: is not YAML: found duplicate key "b" with value "3" (original value: "1").',
        ),
    ],
)
def test_a_mistake_in_yaml_is_told_with_its_line(read, text, message):
    assert refusal(read, text) == message


@pytest.mark.parametrize(
    "text", ["", "# only a comment\n", "- 1\n- 2\n", "just words\n", "3\n", "~\n"]
)
def test_a_file_without_keys_is_told_so(read, text):
    assert (
        refusal(read, text)
        == "mine.yaml: holds no keys. Write 'key: value' lines, as the shipped files do."
    )


def test_json_is_read_and_its_mistakes_told_with_their_line(read):
    assert read('{"a": [1, 2.5, null]}', "mine.json").data == {"a": [1, 2.5, None]}
    assert (
        refusal(read, '{"a": 1,\n "b": }', "mine.json")
        == "mine.json:2: is not JSON: Expecting value."
    )
    assert refusal(read, "[1]", "mine.json").startswith("mine.json: holds no keys.")


def test_a_file_that_is_not_there_is_no_text_or_is_a_folder_is_an_input_error(read, tmp_path):
    assert "No such file or directory" in refusal(inputs.read, tmp_path / "nope.yaml")
    assert refusal(inputs.read, tmp_path).startswith(f"{tmp_path}: cannot be read: ")
    assert refusal(read, b"\xff\xfe\x00").startswith(
        "mine.yaml: cannot be read: 'utf-8' codec can't decode"
    )


def test_merged_keys_are_read(read):
    assert read("a: &a {b: 1}\nc:\n  <<: *a\n  d: 2\n").data == {
        "a": {"b": 1},
        "c": {"b": 1, "d": 2},
    }


def test_duplicate_keys_in_json_are_refused_as_in_yaml(read):
    refusal(read, '{"a": 1, "a": 2}', "mine.json")


# Validation


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("nodes: 3\n", "", "mine.yaml: nodes: is missing. Add 'nodes:' there."),
        # A mistyped key is also a missing one: the mistyping says more.
        (
            "nodes: 3",
            "nods: 3",
            "mine.yaml:3: nods: 'nods' is not a key here. Did you mean 'nodes'?",
        ),
        ("  nics: 4\n", "", "mine.yaml:4: node.nics: is missing. Add 'nics:' there."),
        (
            "  nics: 4\n",
            "  nics: 4\n  nvlnk: 5\n",
            "mine.yaml:8: node.nvlnk: 'nvlnk' is not a key here. Did you mean 'nvlink'?",
        ),
        (
            "nodes: 3",
            "nodes: 3\ntorus: 5",
            "mine.yaml:4: torus: 'torus' is not a key here. Choose from: name, gpu, nodes, node, fabric, price, "
            "prices, faults, jitter, spread.",
        ),
        (
            "400 GB/s bidirectional",
            "400",
            "mine.yaml:6: node.nvlink: '400' has no unit. "
            "Write '400 GB/s bidirectional' (as datasheets do) or '200 GB/s per direction'.",
        ),
        (
            "nodes: 3",
            "nodes: three",
            "mine.yaml:3: nodes: 'three' is not an integer. Write a number without quotes, for example 8.",
        ),
    ],
)
def test_a_mistake_is_told_with_file_line_key_value_rule_and_remedy(read, old, new, message):
    assert SMALL.count(old) == 1
    assert refusal(inputs.validate, read(SMALL.replace(old, new)), TopologyConfig) == message


class Part(BaseModel):
    size: int = Field(gt=0)


class Parts(BaseModel):
    parts: tuple[Part, ...]


def test_a_mistake_inside_a_list_names_its_place_and_line(read):
    text = "parts:\n  - size: 1\n  - size: 0\n"
    assert refusal(inputs.validate, read(text), Parts) == (
        "mine.yaml:3: parts.1.size: 0 must be greater than 0."
    )
