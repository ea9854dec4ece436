"""Every shipped workload and published case: it parses, its model counts, its degrees divide, its sources stand."""

import math

import pytest

from simulator import inputs, scenario
from simulator.inputs import find, read, shipped, validate
from simulator.model import ModelConfig

WORKLOADS, TOPOLOGIES = shipped("workloads"), shipped("topologies")
CASES = sorted(path.stem for path in (inputs.ROOT / "data" / "cases").glob("*.yaml"))
QUANTITIES = {*scenario.QUANTITIES, "tokens_per_second_per_gpu"}
OF_THE_MODEL = ("parameters", "active_parameters", "flops_per_token")
CASE_KEYS = {
    "case",
    "topology",
    "workload",
    "set",
    "quantity",
    "published",
    "source",
    "note",
    "scored",
    "twin_of",
    "alternatives",
}
MEMORY_KEYS = {
    "case",
    "topology",
    "workload",
    "set",
    "what",
    "stage",
    "measure",
    "published_gib",
    "published_gb",
    "source",
    "note",
}

ELSEWHERE = {
    "deepseek-v3-32k": "h800-2048",
    "deepseek-v3-128k": "h800-2048",
    "mixtral-8x7b": "h100-64",
    "qwen2.5-1.5b": "h800-node",
}
"""workload without published figures -> where it runs, if not on 512 H800s"""

NAMED = [
    "deepseek-v3",
    "deepseek-v3-32k",
    "deepseek-v3-128k",
    "deepseek-v3-sft",
    "deepseek-v2",
    "llama-3.1-8b",
    "llama-3.1-70b",
    "llama-3.1-405b",
    "llama-3.1-405b-128k",
    "mixtral-8x7b",
    "mixtral-8x22b",
    "gpt-3-175b",
    "gpt-4",
    "qwen2.5-1.5b",
    "qwen2.5-7b",
    "qwen2.5-14b",
    "qwen2.5-32b",
    "llama-3.3-70b",
    *(
        f"megatron-{size}"
        for size in ("1.7b", "3.6b", "7.5b", "18b", "39b", "76b", "145b", "310b", "530b", "1t")
    ),
    *(f"megatron-2022-{size}" for size in ("22b", "175b", "530b", "1t")),
    "zero-bubble-1.5b",
    "zero-bubble-6.2b",
    "zero-bubble-14.6b",
    "nemotron-4-340b",
    "gpt-3-175b-nemo",
    "grok-1",
    "qwen3-30b-a3b",
    "qwen3-235b-a22b",
    "qwen2-57b-a14b",
    "mixtral-8x22b-g8t8",
    "deepseek-v3-megatron",
    "megascale-moe-352b",
    "moonlight-16b-a3b",
    "mpt-7b",
    "mpt-30b",
]


def tree(kind, name):
    return read(find(name, kind))


def changed(name, topology, *sets):
    """Return a workload and the GPUs of a topology with changes over them, and its model."""
    run, cluster = tree("workloads", name), tree("topologies", topology)
    for changes in sets:
        for path, value in (changes or {}).items():
            if path.startswith("topology."):
                cluster = inputs.override(cluster, path.removeprefix("topology."), value)
            else:
                run = inputs.override(run, path, value)
    own = {key: value for key, value in run.data["model"].items() if key != "hf_config"}
    file = WORKLOADS[name].parent / run.data["model"]["hf_config"]
    document = inputs.Document(str(file), read(file).data | own, {})
    return (
        run.data,
        cluster.data["nodes"] * cluster.data["node"]["gpus"],
        validate(document, ModelConfig),
    )


def check_degrees(run, gpus, model):
    """Hold a layout's product rules by hand, apart from the program's own: all in Megatron's terms."""
    layout, training = run["layout"], run["training"]
    tp, cp, pp, ep = (layout.get(key, 1) for key in ("tp", "cp", "pp", "ep"))
    vpp, etp = layout.get("vpp", 1), layout.get("etp", 0) or tp
    assert gpus % (tp * cp * pp) == 0
    dp = gpus // (tp * cp * pp)
    batch = training["global_batch_size"]
    assert batch % (dp * training.get("micro_batch_size", 1)) == 0
    micro_batches = batch // (dp * training.get("micro_batch_size", 1))
    assert model.num_attention_heads % tp == model.intermediate_size % tp == 0
    assert (
        training["seq_length"] % (2 * cp if cp > 1 else 1) == 0
    )  # the causal ring cuts in 2 cp chunks
    assert (tp * cp * dp) % (ep * etp) == 0 and max(model.n_routed_experts, 1) % ep == 0
    assert pp * vpp <= len(model.blocks)
    assert vpp == 1 or run["schedule"]["name"] == "interleaved"
    if run["schedule"]["name"] == "interleaved":
        assert micro_batches % pp == 0  # Megatron-LM's rule
    if isinstance(layout.get("stages"), list):
        assert len(layout["stages"]) == pp * vpp
    assert not model.learned_positions or training["seq_length"] <= model.learned_positions


def paths(data, above=""):
    for key, value in data.items():
        yield above + key
        if isinstance(value, dict):
            yield from paths(value, f"{above}{key}.")


def test_what_people_ask_for_is_shipped_by_name():
    assert set(NAMED) == set(WORKLOADS)
    assert {
        "h100-16384",
        "h100-24576",
        "a100-selene",
        "a100-25000",
        "a100-50000",
        "h800-512",
        "h800-2048",
        "h100-eos",
    } <= set(TOPOLOGIES)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workloads_figures_name_their_sources_and_its_assumptions_their_keys(name):
    run = tree("workloads", name).data
    for row in run.get("reference", []):
        assert row["quantity"] in QUANTITIES and row["value"] > 0 and row["source"]
    known = set(paths(run))
    for row in run.get("assumed", []):
        assert row["key"] in known and row["rule"]
        assert isinstance(row.get("alternatives", []), list)
    figures = {row["quantity"] for row in run.get("reference", [])} - set(OF_THE_MODEL)
    if name != "deepseek-v3":  # waits for the key
        assert ("published_on" in run) == bool(figures)


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.slow
def test_a_workloads_degrees_divide_where_it_was_published(name):
    run = tree("workloads", name).data
    topology = run.get("published_on", ELSEWHERE.get(name, "h800-512"))
    check_degrees(*changed(name, topology))
    for row in run.get("assumed", []):
        for value in row.get("alternatives", []):
            if row["key"].startswith("layout.") and row["key"] != "layout.stages":
                check_degrees(*changed(name, topology, {row["key"]: value}))


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.slow
def test_a_workloads_model_counts_as_its_source_says(name):
    run, _, model = changed(name, "h100-node")
    for row in run.get("reference", []):
        if row["quantity"] == "flops_per_token":
            assert model.flops_per_token(run["training"]["seq_length"]) == pytest.approx(
                row["value"], rel=0.03
            )
        elif row["quantity"] == "active_parameters":
            # Publishers count the input embedding.
            counted = model.active_parameters + (
                0 if model.tie_word_embeddings else model.embedding_parameters
            )
            assert counted == pytest.approx(row["value"], rel=0.02)
        elif row["quantity"] == "parameters":
            assert model.parameters == pytest.approx(row["value"], rel=0.03)


@pytest.mark.parametrize(
    "name", [name for name in WORKLOADS if name.startswith(("megatron", "gpt-3"))]
)
def test_virtual_stages_hold_as_many_layers_each(name):
    run, _, model = changed(name, "h100-node")
    assert model.num_hidden_layers % (run["layout"]["pp"] * run["layout"].get("vpp", 1)) == 0


def test_llama_405b_has_a_chunk_for_every_layer_and_one_for_each_end():
    # arXiv 2407.21783, section 3.3.2: the first chunk has only the embedding, the last only the
    # head.
    run, _, model = changed("llama-3.1-405b", "h100-16384")
    assert run["layout"]["pp"] * run["layout"]["vpp"] == model.num_hidden_layers + 2


def test_the_reported_gpt_4_adds_up():
    # 16 experts of 111 B and 55 B shared: 8 h^2 and 4 h^2 in each of 120 layers at one width.
    _, _, model = changed("gpt-4", "a100-25000")
    assert 120 * model.expert_parameters == pytest.approx(111e9, rel=0.01)
    assert 120 * sum(out * inp for _, out, inp in model.projections) == pytest.approx(
        55e9, rel=0.01
    )


def test_every_context_extension_step_has_as_many_tokens_as_pre_training():
    for name in ("deepseek-v3", "deepseek-v3-32k", "deepseek-v3-128k"):
        run, gpus, _ = changed(name, "h800-2048")
        training, layout = run["training"], run["layout"]
        assert training["global_batch_size"] * training["seq_length"] == 62_914_560
        assert training["seq_length"] // layout.get("cp", 1) == 4096
        assert training["global_batch_size"] * layout["pp"] * layout.get("cp", 1) // gpus == 120


# Cases


def cases(name):
    return inputs.data("cases", name).data


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_case_names_what_exists_and_divides_with_each_alternative(name):
    table = cases(name)
    assert table["source"]
    for row in table["cases"]:
        assert (
            set(row) <= CASE_KEYS
            and row["quantity"] in QUANTITIES
            and row["published"] > 0
            and row["source"]
        )
        assert row["case"].startswith(f"{name}/")
        for alternative in ({}, *row.get("alternatives", [])):
            check_degrees(*changed(row["workload"], row["topology"], row.get("set"), alternative))
    for row in table.get("memory", []):
        assert set(row) <= MEMORY_KEYS and row["stage"] in ("first", "middle", "largest")
        assert row["what"] in ("parameters_and_optimizer", "activations", "peak")
        check_degrees(*changed(row["workload"], row["topology"], row.get("set")))


@pytest.mark.slow
def test_cases_that_reduce_gradients_after_the_backward_pass_say_so_to_the_simulator():
    # Found by their words; the alternative that overlaps them then differs from the case.
    late = [
        row
        for name in CASES
        for row in cases(name)["cases"]
        if "after the last backward" in row.get("note", "")
    ]
    assert late
    for row in late:
        run, _, _ = changed(row["workload"], row["topology"], row.get("set"))
        assert run["layout"]["overlap_grad_reduce"] is False


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.slow
def test_what_a_workload_takes_from_pre_training_is_what_stands_there(name):
    run, base = tree("workloads", name).data, tree("workloads", "deepseek-v3").data
    for row in run.get("assumed", ()):
        if row["rule"].startswith("as in pre-training, deepseek-v3.yaml"):
            group, key = row["key"].split(".")
            assert run[group][key] == base[group][key]


@pytest.mark.slow
@pytest.mark.parametrize("case", [row["case"] for name in CASES for row in cases(name)["cases"]])
def test_no_alternative_of_a_case_is_the_case_itself(case):
    row = next(row for row in cases(case.split("/")[0])["cases"] if row["case"] == case)
    chosen = changed(row["workload"], row["topology"], row.get("set"))[0]
    for alternative in row.get("alternatives", []):
        other = changed(row["workload"], row["topology"], row.get("set"), alternative)[0]
        assert scenario.WorkloadConfig(**other) != scenario.WorkloadConfig(**chosen)


@pytest.mark.slow
def test_no_two_cases_have_one_name():
    names = [
        row["case"]
        for name in CASES
        for row in (*cases(name)["cases"], *cases(name).get("memory", []))
    ]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("case", "seconds"),
    [
        # Narayanan 2021 gives TFLOP/s; the times as its formula makes them, to four digits.
        ("megatron_2021/7.5b", 3.696),
        ("megatron_2021/39b", 14.45),
        ("megatron_2021/145b", 24.82),
        ("megatron_2021/530b", 54.08),
        # GBS x 8,192 / (GPUs x tokens per second and GPU).
        ("megatron_bridge_h100/llama3-8b-25.11", 128 * 8192 / (8 * 14451)),
        ("megatron_bridge_h100/llama3.1-405b-25.11", 512 * 8192 / (1024 * 292)),
    ],
)
def test_derived_times_follow_from_what_was_printed(case, seconds):
    file = case.split("/")[0]
    row = next(row for row in cases(file)["cases"] if row["case"] == case)
    assert row["published"] == pytest.approx(seconds, rel=5e-4)


@pytest.mark.parametrize(
    ("size", "layers", "hidden", "step"), [("145b", 80, 12288, 24.82), ("1t", 128, 25600, 102.6)]
)
def test_narayanans_formula_counts_four_passes_over_the_whole_matrix(size, layers, hidden, step):
    # 96 B s l h^2 (1 + s/(6h) + V/(16 l h)): layers forward, again, and backward, 8 FLOPs a weight;
    # the head, not recomputed, 6 (as 6 s h V); attention 16 s h a token and layer, the whole
    # matrix. Biases and norms apart.
    run, gpus, model = changed(
        f"megatron-{size}", tree("workloads", f"megatron-{size}").data["published_on"]
    )
    batch, s = run["training"]["global_batch_size"], run["training"]["seq_length"]
    ours = (
        batch
        * s
        * (
            8 * 12 * layers * hidden**2
            + 6 * model.vocab_size * hidden
            + 4 * layers * model.attention_flops_per_token(s, causal=False)
        )
    )
    paper = (
        96
        * batch
        * s
        * layers
        * hidden**2
        * (1 + s / (6 * hidden) + model.vocab_size / (16 * layers * hidden))
    )
    assert ours == pytest.approx(paper, rel=1e-12)
    printed = {"145b": 148, "1t": 163}[size]
    assert paper / gpus / step == pytest.approx(printed * 1e12, rel=1e-3)


# Through the program


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_loads_where_it_was_published(name):
    run = tree("workloads", name).data
    one = scenario.load(run.get("published_on", ELSEWHERE.get(name, "h800-512")), name)
    assert math.isclose(
        one.tokens_per_step, run["training"]["global_batch_size"] * run["training"]["seq_length"]
    )
