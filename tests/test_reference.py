"""Key reference and JSON schemas: they say what the loader reads, of shipped files and of wrong ones."""

import copy
import json
import re

import pytest
from pydantic import TypeAdapter, ValidationError

from simulator import inputs, units
from simulator.campaign import CampaignConfig
from simulator.cli.commands import _main
from simulator.collectives import Communication
from simulator.errors import InputError
from simulator.model import ModelConfig
from simulator.reference import KINDS, keys, schema
from simulator.scenario import WorkloadConfig, build, workload_of
from simulator.sweep import read as read_sweep
from simulator.sweep.config import SweepConfig
from simulator.sweep.paths import check_path
from simulator.topology import TopologyConfig

jsonschema = pytest.importorskip("jsonschema")
FOLDERS = {
    "topology": "topologies",
    "workload": "workloads",
    "sweep": "sweeps",
    "campaign": "campaigns",
}
MODELS = {
    "topology": TopologyConfig,
    "workload": WorkloadConfig,
    "sweep": SweepConfig,
    "campaign": CampaignConfig,
}
FILES = {
    f"{folder}/{name}": (kind, path)
    for kind, folder in FOLDERS.items()
    for name, path in inputs.shipped(folder).items()
}
every_file = pytest.mark.parametrize(("kind", "path"), FILES.values(), ids=FILES)
every_kind = pytest.mark.parametrize("kind", KINDS)


def validator(kind):
    return jsonschema.Draft202012Validator(schema(kind))


def complaints(kind, tree):
    return [error.message for error in validator(kind).iter_errors(tree)]


# Schemas


@every_kind
@pytest.mark.slow
def test_a_schema_is_one(kind):
    jsonschema.Draft202012Validator.check_schema(schema(kind))


@every_file
@pytest.mark.slow
def test_a_shipped_file_fits_its_schema(kind, path):
    assert complaints(kind, inputs.read(path).data) == []


@every_file
def test_a_shipped_file_names_its_schema_on_its_first_line(kind, path):
    folder = inputs.ROOT.parent / inputs.FOLDERS.get(FOLDERS[kind], FOLDERS[kind])
    (first, _) = (folder / path.name).read_text(encoding="utf-8").split("\n", 1)
    named = first.removeprefix("# yaml-language-server: $schema=")
    assert named != first
    assert (folder / named).resolve() == inputs.ROOT / "data" / "schemas" / f"{kind}.json"


@every_kind
def test_the_shipped_schema_is_what_the_command_writes(kind, tmp_path):
    assert _main(["schema", kind, "--json", str(tmp_path / "schema.json")]) == 0
    shipped = inputs.ROOT / "data" / "schemas" / f"{kind}.json"
    written = (tmp_path / "schema.json").read_text(encoding="utf-8")
    same = shipped.read_text(encoding="utf-8") == written
    assert same, f"simulate schema {kind} --json simulator/data/schemas/{kind}.json"


def test_a_schema_goes_to_standard_output_unless_a_file_is_named(capsys):
    assert _main(["schema", "topology"]) == 0
    assert json.loads(capsys.readouterr().out) == schema("topology")


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match="topology, workload, sweep, campaign"):
        schema("mesh")


def groups(node):
    """Yield every group of keys of a schema."""
    if isinstance(node, dict):
        if node.get("type") == "object" and "properties" in node:
            yield node
        for value in node.values():
            yield from groups(value)
    elif isinstance(node, list):
        for value in node:
            yield from groups(value)


@every_kind
def test_every_group_of_keys_refuses_others(kind):
    assert list(groups(schema(kind)))
    assert all(group["additionalProperties"] is False for group in groups(schema(kind)))


BASE = {"topology": "h800-2048", "workload": "deepseek-v3", "sweep": "nvlink"}
WRONG = [
    ("topology", "nodes", "256"),
    ("topology", "nodes", 0),
    ("topology", "node.nvlink", 400),
    ("topology", "node.nvlink", "400 GB/s"),
    ("topology", "node.nvlink", "400 bidirectional"),
    ("topology", "node.nic", "50 GB per direction"),
    ("topology", "node.nvlnk", "400 GB/s bidirectional"),
    ("topology", "fabric.latency", "3.7 GB"),
    ("topology", "fabric.latency", 3.7e-6),
    ("topology", "fabric.kind", "rail"),
    ("topology", "fabric.dims", [4, 4, 4]),
    ("topology", "fabric.kind", "clos_3"),
    ("topology", "fabric.routing", "random"),
    ("topology", "gpu", "h900"),
    ("topology", "price", "2 EUR"),
    ("topology", "faults", [{"gpu": 3}]),
    ("topology", "faults", [{"gpu": 3, "nic": [0, 0], "down": True}]),
    ("topology", "faults", [{"switch": "spine0", "speed": 0.5}]),
    ("topology", "faults", [{"gpu": 3, "speed": 1.5}]),
    ("topology", "jitter", {"deviation": "2%"}),
    ("workload", "layout.zero", 4),
    ("workload", "layout.ep", 0),
    ("workload", "layout.stages", "evenly"),
    ("workload", "layout.order", "tp-cp-ep-dp"),
    ("workload", "schedule.name", "dualpip"),
    ("workload", "schedule.nam", "dualpipe"),
    ("workload", "training.recompute", ["norms"]),
    ("workload", "training.recompute", "norm"),
    ("workload", "training.tokens", 0),
    ("workload", "precision.recipe", "fp4"),
    ("workload", "experts", {"distribution": "power_law"}),
    ("workload", "experts", {"distribution": "balanced", "exponent": 1.0}),
    ("workload", "experts", {"exponent": 1.0}),
    ("workload", "experts", {"dispatcher": "deepp"}),
    ("workload", "communication.data.algorithm", "rings"),
    ("workload", "communication.data.algorithm", "tree"),
    ("workload", "communication.expert.algorithm", "ring"),
    ("workload", "reference", [{"quantity": "loss", "value": 2, "source": "log"}]),
    ("sweep", "axes", {}),
    ("sweep", "axes", {"layout.eq": [1]}),
    ("sweep", "axes", {"layout.ep": []}),
    ("sweep", "axes", {"layout.ep": 32}),
    ("sweep", "axes", {"layout.ep": {"from": 8, "to": 64, "factor": 1}}),
    ("sweep", "axes", {"layout.ep": {"random": {"low": 8, "high": 64}}}),
    ("sweep", "set", {"name": "both"}),
    ("sweep", "mode", "random"),
    ("sweep", "points", 5),
    ("sweep", "figures", [{"kind": "pie", "x": "layout.ep"}]),
]


def changed(kind, path, value):
    """Return a shipped file's document with one key changed."""
    document = inputs.read(inputs.shipped(FOLDERS[kind])[BASE[kind]])
    return inputs.override(document, path, copy.deepcopy(value))


def load(kind, document, tmp_path):
    """Read a file as the commands do."""
    if kind != "sweep":
        return inputs.validate(document, MODELS[kind])
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps(document.data), encoding="utf-8")
    return read_sweep(str(path))


def cross_checked(kind, document, tmp_path):
    """Read a file, and check it against the other one of a scenario, which knows some names."""
    load(kind, document, tmp_path)
    if kind != "sweep":
        others = {name: changed(name, "name", "other") for name in ("topology", "workload")}
        documents = others | {kind: document}
        Communication.of(build(documents["topology"], documents["workload"]))


@pytest.mark.parametrize(("kind", "path", "value"), WRONG)
@pytest.mark.slow
def test_what_the_loader_refuses_the_schema_refuses(kind, path, value, tmp_path):
    document = changed(kind, path, value)
    with pytest.raises(InputError):
        cross_checked(kind, document, tmp_path)
    assert complaints(kind, document.data)


RIGHT = [
    ("topology", "node.pcie", "64 GB/s per direction"),
    ("topology", "node.nic", "400 Gb/s per direction"),
    ("topology", "fabric.latency", "3700 ns"),
    ("topology", "faults", [{"link": "leaf0.1 - spine3", "bandwidth": "25 GB/s per direction"}]),
    ("topology", "jitter", {"deviation": 0.02, "gpus": 8, "seed": 1}),
    ("workload", "layout.stages", "even"),
    ("workload", "layout.stages", ["embedding 0-59", 60, "head mtp"]),
    ("workload", "training.tokens", 1_000_000),
    ("workload", "experts", {"distribution": "power_law", "exponent": 1}),
    ("workload", "experts", {"capacity_factor": 1.5}),
    ("workload", "experts", {"dispatcher": "all_to_all"}),
    ("workload", "communication", {"data": {"algorithm": "nccl"}, "tensor": {}}),
    ("workload", "model.num_hidden_layers", 12),
    ("workload", "model.sliding_window", None),
    ("sweep", "axes", {"node.nvlink": "100 .. 900 GB/s bidirectional"}),
    ("sweep", "axes", {"layout.ep": {"from": 8, "to": 64, "factor": 2}}),
    ("sweep", "axes", {"topology": ["h800-2048", "h100-2048"], "model.topk_group": [4, 8]}),
    ("sweep", "axes", {"workload.layout.ep": {"random": {"low": 8, "high": 64, "count": 3}}}),
    ("sweep", "set", {"fabric.kind": "fat_tree_3", "layout.stages": "balanced"}),
]


@pytest.mark.parametrize(("kind", "path", "value"), RIGHT)
def test_what_the_loader_takes_the_schema_takes(kind, path, value, tmp_path):
    document = changed(kind, path, value)
    load(kind, document, tmp_path)
    assert complaints(kind, document.data) == []


def test_the_value_of_a_sweep_is_checked_as_the_key_itself():
    assert complaints("sweep", changed("sweep", "set", {"layout.ep": "many"}).data)


@pytest.mark.parametrize(
    ("quantity", "text"),
    [
        (units.Bandwidth, "400 GB/s bidirectional"),
        (units.Bandwidth, " 1e2 Gb/s  per direction "),
        (units.Bandwidth, "400 GB/s"),
        (units.Bandwidth, "-1 GB/s bidirectional"),
        (units.MemoryBandwidth, "3.35 TB/s"),
        (units.MemoryBandwidth, "3.35 TB/s per direction"),
        (units.Seconds, ".5 µs"),
        (units.Seconds, "5"),
        (units.Seconds, "5 seconds"),
        (units.Bytes, "1 MiB"),
        (units.Bytes, "1 mb"),
        (units.FlopRate, "+989.4 TFLOP/s"),
        (units.FlopRate, "989.4 TFLOPS"),
        (units.Price, "2 USD per GPU-hour"),
        (units.Dollars, "20 kUSD"),
        (units.Dollars, "20 k USD"),
    ],
)
def test_a_pattern_takes_the_text_that_its_quantity_reads(quantity, text):
    adapter = TypeAdapter(quantity)
    try:
        adapter.validate_python(text)
        reads = True
    except ValidationError:
        reads = False
    assert bool(re.search(adapter.json_schema()["pattern"], text)) == reads


# Keys


def fields(model, prefix=""):
    """Yield the path of every field of a configuration, with [] behind lists."""
    for name, field in model.model_fields.items():
        key = field.alias or name
        yield prefix + key
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        many = getattr(field.annotation, "__origin__", None) is tuple
        for kind in kinds:
            if hasattr(kind, "model_fields"):
                yield from fields(kind, f"{prefix}{key}{'[]' if many else ''}.")


@every_kind
def test_every_field_is_a_key(kind):
    listed = {key.path.removeprefix(f"{kind}.") for key in keys() if key.file == kind}
    assert set(fields(MODELS[kind])) <= listed


def test_every_key_of_a_model_is_listed():
    listed = {key.path for key in keys("model.")}
    assert {f"model.{name}" for name in ModelConfig.model_fields} < listed
    assert {"model.hf_config", "model.num_local_experts"} < listed
    assert "model.rope_theta" not in listed


def test_a_key_is_named_by_the_path_that_set_takes():
    for key in keys():
        if key.file in ("topology", "workload") and "[]" not in key.path:
            check_path(key.path)


def test_keys_are_listed_once():
    paths = [key.path for key in keys()]
    assert len(paths) == len(set(paths))


def test_every_key_has_a_meaning_and_every_value_an_example():
    for key in keys():
        assert key.meaning.endswith("."), key
        assert key.example is not None or "group" in key.type, key


def test_examples_are_accepted_by_the_schema():
    for kind in KINDS:
        tree = schema(kind)
        examples = [key for key in keys(f"{kind}.") if "[]" not in key.path and key.example]
        for key in examples:
            node = tree
            for part in key.path.removeprefix(f"{kind}.").split("."):
                node = down(node, part, tree["$defs"])
            checker = jsonschema.Draft202012Validator({**node, "$defs": tree["$defs"]})
            assert checker.is_valid(key.example), key


def down(node, part, defs):
    for inner in (node, *node.get("anyOf", ())):
        if "$ref" in inner:
            node = defs[inner["$ref"].rpartition("/")[2]]
    return node["properties"][part]


@pytest.mark.parametrize(
    ("prefix", "remedy"),
    [
        ("layut.", "Did you mean 'layout.'?"),
        ("topolgy.node.", "Did you mean 'topology.node.'?"),
        ("layout.zer0", "Did you mean 'layout.zero'?"),
        ("zzzzzz", "`simulate keys` lists them all."),
    ],
)
def test_a_prefix_of_no_key_is_told_the_nearest(prefix, remedy, capsys):
    assert _main(["keys", prefix]) == 2
    assert capsys.readouterr().err == f"simulate: no key starts with '{prefix}'. {remedy}\n"


@pytest.mark.parametrize(
    ("prefix", "first", "last"),
    [
        ("layout.", "layout.tp", "layout.stages"),
        ("workload.layout.", "layout.tp", "layout.stages"),
        ("topology.node.", "topology.node.gpus", "topology.node.host_memory"),
        ("node.", "topology.node.gpus", "topology.node.host_memory"),
        ("schedule", "schedule", "schedule.delay_wgrad_compute"),
        ("sweep.figures[].", "sweep.figures[].kind", "sweep.figures[].label"),
    ],
)
def test_a_prefix_chooses_keys_in_the_order_of_the_file(prefix, first, last):
    chosen = [key.path for key in keys(prefix)]
    assert (chosen[0], chosen[-1]) == (first, last)


def test_a_key_says_type_example_default_and_meaning():
    (key,) = keys("topology.node.nvlink_latency")
    assert (key.type, key.default, key.required) == ("time", "3.33 us", False)
    (key,) = keys("schedule.name")
    assert key.required
    assert "dualpipe" in key.choices
    assert key.type.startswith("one of gpipe, 1f1b")


def test_the_command_lists_keys(capsys):
    assert _main(["keys", "layout.ep"]) == 0
    head, meaning, *_ = capsys.readouterr().out.splitlines()
    assert head == "layout.ep  integer, such as 64; default: 1"
    assert meaning.startswith("    Expert parallel degree")


def test_the_command_wraps_long_meanings(capsys):
    assert _main(["keys", "layout.stages"]) == 0
    head, *meaning = capsys.readouterr().out.splitlines()
    assert head.startswith("layout.stages  one of balanced, even or list of")
    assert len(meaning) == 2
    assert all(line.startswith("    ") and "\\n" not in line for line in meaning)


def test_the_command_writes_json(capsys):
    assert _main(["keys", "layout.tp", "--json", "-"]) == 0
    rows = json.loads(capsys.readouterr().out)["keys"]
    assert rows[0] | {"example": 0, "meaning": ""} == {
        "path": "layout.tp",
        "file": "workload",
        "type": "integer",
        "choices": [],
        "example": 0,
        "required": False,
        "default": 1,
        "meaning": "",
    }


def test_a_workload_that_fits_the_schema_has_a_model_that_is_read():
    assert workload_of("deepseek-v3")[1].n_routed_experts == 256
