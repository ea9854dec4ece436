"""Ops of every block: FLOPs against the model's own counts, recipes, recomputation, kinds."""

from dataclasses import replace

import pytest

from simulator import inputs
from simulator.hardware import KernelConfig
from simulator.model import ModelConfig
from simulator.ops import BLOCKS, Work, block_ops
from simulator.ops.op import KINDS
from simulator.precision import RECIPES, RECOMPUTE

KEPT = ("norm", "mla_up_projection", "swiglu")
"""What is kept where it is not recomputed.

Fused attention keeps nothing of its core but Q, K and V, which recomputing it needs too; full
recompute is not a matter of ops: test_recompute.py.
"""

V3 = inputs.validate(
    inputs.read(inputs.ROOT.parent / "workloads" / "models" / "deepseek-v3.json"), ModelConfig
)
MODELS = {
    "mla": V3,
    "mla without q_lora": V3.model_copy(update={"q_lora_rank": 0}),
    "gqa": ModelConfig(
        vocab_size=128256,
        hidden_size=4096,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        intermediate_size=14336,
        n_routed_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=14336,
        num_nextn_predict_layers=1,
    ),
}
TOKENS, SEQUENCE, EP = 8192, 4096, 8
KERNELS = {
    path.stem: inputs.validate(inputs.data("kernels", path.stem), KernelConfig)
    for path in (inputs.ROOT / "data" / "kernels").glob("*.yaml")
}

DTYPES = {
    "ampere": {"bf16"},
    "hopper": {"bf16", "fp8", "fp8_tensor"},
    "blackwell": {"bf16", "fp8", "fp8_tensor", "mxfp8", "nvfp4"},
    "ada": {"bf16", "fp8", "fp8_tensor"},
}
"""kernel table -> the number formats whose GEMMs it knows"""

every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
every_recipe = pytest.mark.parametrize("recipe", RECIPES)
every_block = pytest.mark.parametrize("kind", BLOCKS)
every_recomputation = pytest.mark.parametrize("name", KEPT)


def work(model, recipe="fp8_block", recompute=()):
    """Return two sequences' work on one of 8 GPUs that share the experts, each equally popular."""
    return Work(
        model=model,
        recipe=RECIPES[recipe],
        tokens=TOKENS,
        seq_length=SEQUENCE,
        expert_rows=float(TOKENS * model.num_experts_per_tok),
        received=6.0 * TOKENS,
        local_experts=model.n_routed_experts // EP,
        recompute=frozenset(recompute),
        norm="norm" if recipe == "fp8_block" else "fused_norm",
    )


def ops(kind, model, recipe="fp8_block", recompute=()):
    return BLOCKS[kind](work(model, recipe, recompute))


def products(kernels):
    """Return the FLOPs of matrix products with weights, recomputation apart."""
    return sum(op.flops for op in kernels if op.kind in ("gemm", "wgrad") and not op.recompute)


def matrices(kind, model):
    """Return a block's weights that multiply a token: its parameters but norms and idle experts."""
    h = model.hidden_size
    if kind == "embedding":
        return 0  # a lookup
    if kind == "head":
        return model.vocab_size * h
    if kind == "mtp_input":
        return 2 * h * h
    dense, _ = model.block_parameters(kind)
    norms = 2 * h + model.q_lora_rank + model.kv_lora_rank
    return (
        dense
        - norms
        + (model.num_experts_per_tok * model.expert_parameters if kind == "moe" else 0)
    )


# FLOPs


@every_model
@every_block
@every_recipe
def test_a_block_multiplies_six_flops_per_active_parameter_and_token(kind, model, recipe):
    # Forward 2, input gradient 2, weight gradient 2. Attention's core has no parameters and counts
    # apart.
    block = ops(kind, model, recipe)
    assert products(block.forward + block.backward) == pytest.approx(
        6 * matrices(kind, model) * TOKENS
    )


@every_model
@every_block
@every_recipe
@pytest.mark.parametrize("recompute", [(), RECOMPUTE])
def test_backward_multiplies_twice_as_much_as_forward_recomputation_apart(
    kind, model, recipe, recompute
):
    block = ops(kind, model, recipe, recompute)
    assert products(block.backward) == pytest.approx(2 * products(block.forward))


@every_model
@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_attentions_core_is_two_causal_products_forward_and_five_backward(kind, model):
    # A token meets half of a sequence of 4,096. Forward: QK and PV. Backward: FlashAttention
    # recomputes QK, then dV and dP of the width of V, dQ and dK of the width of Q (arXiv
    # 2307.08691): 3 d_qk + 2 d_v.
    block = ops(kind, model)
    pairs = TOKENS * 4096 / 2
    heads, qk, v = model.num_attention_heads, model.qk_dim, model.v_dim
    assert [op.flops for op in block.forward if op.kind == "attention"] == [
        2 * pairs * heads * (qk + v)
    ]
    assert [op.flops for op in block.backward if op.kind == "attention_backward"] == [
        2 * pairs * heads * (3 * qk + 2 * v)
    ]


@every_model
def test_the_blocks_of_a_model_multiply_what_flops_per_token_says(model):
    # flops_per_token leaves out MTP and counts norms as if they were matrices: two per layer and
    # MLA's, one at the end.
    blocks = [kind for kind in model.blocks if kind != "mtp"]
    per_block = {kind: ops(kind, model) for kind in set(blocks)}
    ran = sum(products(per_block[kind].forward + per_block[kind].backward) for kind in blocks)
    core = sum(
        3 * op.flops for kind in blocks for op in per_block[kind].forward if op.kind == "attention"
    )
    norms = model.num_hidden_layers * (
        2 * model.hidden_size + model.q_lora_rank + model.kv_lora_rank
    )
    told = model.flops_per_token(SEQUENCE) - 6 * (norms + model.hidden_size)
    assert (ran + core) / TOKENS == pytest.approx(told)


@every_model
@every_block
def test_flops_of_a_gemm_are_two_per_multiply_add_of_its_shape(kind, model):
    block = ops(kind, model, recompute=RECOMPUTE)
    for op in block.forward + block.backward:
        if op.kind in ("gemm", "wgrad"):
            groups, m, n, k = op.shape
            assert op.flops == 2.0 * groups * m * n * k > 0


def test_a_dense_layer_of_v3_by_hand():
    # Two per weight: attention 187,114,496, of which 1,536 + 512 + 7,168 are norms, and FFN 3 x
    # 7,168 x 18,432.
    attention = 187_114_496 - 1536 - 512 - 7168
    block = ops("dense", V3)
    assert products(block.forward) == 2 * TOKENS * (attention + 3 * 7168 * 18432)


def test_an_mtp_module_is_its_projection_a_layer_and_the_shared_head():
    everything = work(V3)
    assert block_ops("mtp", everything) == tuple(
        BLOCKS[part](everything) for part in ("mtp_input", "moe", "head")
    )
    dense = work(V3.model_copy(update={"n_routed_experts": 0}))
    assert block_ops("mtp", dense)[1] == BLOCKS["dense"](dense)


def test_only_moe_exchanges_experts():
    assert [kind for kind in BLOCKS if ops(kind, V3).exchanges_experts] == ["moe"]


# Recipes


@every_model
@every_block
@pytest.mark.parametrize("recompute", [(), RECOMPUTE])
def test_bf16_neither_casts_nor_transposes(kind, model, recompute):
    block = ops(kind, model, "bf16", recompute)
    used = block.forward + block.backward
    assert {op.kind for op in used} & {"quantise", "transpose"} == set()
    assert {op.dtype for op in used} == {"bf16"}


def test_fp8_multiplies_all_but_the_core_the_router_and_the_head_in_fp8():
    # arXiv 2412.19437, section 3.3.1: embedding, head, gating, norms and attention keep their
    # precision.
    for kind, kept in {
        "dense": set(),
        "moe": {"router"},
        "mtp_input": set(),
        "head": {"head"},
    }.items():
        block = ops(kind, V3)
        wide = {
            op.name.split()[0]
            for op in block.forward + block.backward
            if op.flops and op.dtype == "bf16"
        }
        assert wide - {"core"} == kept


@every_model
@pytest.mark.parametrize("kind", ["dense", "moe", "mtp_input"])
def test_fp8_keeps_fewer_bytes_and_multiplies_as_much(kind, model):
    fp8, bf16 = (ops(kind, model, recipe) for recipe in ("fp8_block", "bf16"))
    assert sum(op.saved for op in fp8.forward) <= sum(op.saved for op in bf16.forward)
    assert products(fp8.forward + fp8.backward) == products(bf16.forward + bf16.backward)


# Recomputation


def saved(block):
    return sum(op.saved for op in block.forward)


@every_recipe
@every_recomputation
@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_what_is_recomputed_is_not_kept(kind, recipe, name):
    without, with_it = ops(kind, V3, recipe), ops(kind, V3, recipe, [name])
    assert saved(with_it) < saved(without)
    assert with_it.forward != without.forward
    repeated = [op for op in with_it.backward if op.recompute]
    assert sum(op.bytes for op in repeated) > 0
    assert not any(op.saved for op in with_it.backward)


@every_recipe
@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_the_bytes_saved_by_each_by_hand(kind, recipe):
    # norm: two normed residual streams. mla_up_projection: Q, K, V of 128 heads (192 + 192 + 128
    # wide, BF16), but for the 64 rotary elements of K that all heads share. swiglu: its output, as
    # wide as a FFN, of each row.
    widths = {"dense": [18432], "moe": [2048] * 9}[kind]
    each = RECIPES[recipe].activation
    by_hand = {
        "norm": 2 * each * 7168,
        "mla_up_projection": 2 * (128 * (192 + 192 + 128) - 64),
        "swiglu": each * sum(widths),
    }
    plain = saved(ops(kind, V3, recipe))
    assert {name: plain - saved(ops(kind, V3, recipe, [name])) for name in KEPT} == pytest.approx(
        {name: TOKENS * size for name, size in by_hand.items()}
    )


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_recomputed_up_projections_run_as_they_ran_first(kind):
    # q_b: 1,536 -> 128 x 192; kv_b: 512 -> 128 x 256. Norm and SwiGLU are memory-bound. The core:
    # two causal products of 128 heads, 192 and 128 wide, over 4,096 tokens.
    flops = {
        name: sum(op.flops for op in ops(kind, V3, recompute=[name]).backward if op.recompute)
        for name in RECOMPUTE
    }
    assert flops == {
        "norm": 0,
        "mla_up_projection": 2 * TOKENS * (1536 * 24576 + 512 * 32768),
        "swiglu": 0,
        "core_attention": TOKENS * 128 * (192 + 128) * 4096,
        "moe_act": 0,
        # The FFN of a dense layer, the shared expert of others; of `moe` the router: experts and
        # exchanges are run again by the program.
        "mlp": 2 * TOKENS * 3 * 7168 * 18432 if kind == "dense" else 0,
        "shared_experts": 2 * TOKENS * 3 * 7168 * 2048 if kind == "moe" else 0,
        "moe": 2 * TOKENS * 7168 * 256 if kind == "moe" else 0,
        "full": 0,
    }


@every_model
@every_block
@every_recipe
def test_without_recomputation_nothing_is_repeated(kind, model, recipe):
    block = ops(kind, model, recipe)
    assert not any(op.recompute for op in block.forward + block.backward)
    every = ops(kind, model, recipe, RECOMPUTE)
    assert not any(op.recompute for op in every.forward)


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_without_mla_there_is_no_up_projection_to_recompute(kind):
    gqa = MODELS["gqa"]
    assert ops(kind, gqa, "bf16", ["mla_up_projection"]) == ops(kind, gqa, "bf16")


# Kinds


@every_model
@every_block
@every_recipe
def test_every_op_is_of_a_known_kind_for_which_both_kernel_tables_have_a_figure(
    kind, model, recipe
):
    block = ops(kind, model, recipe, RECOMPUTE)
    for op in block.forward + block.backward:
        assert op.kind in KINDS
        for table in KERNELS.values():
            if not op.flops and op.bytes:
                assert 0 < table.memory[op.kind] <= 1
            known = op.dtype in DTYPES[table.name]
            if op.kind in ("gemm", "wgrad") and known:
                assert op.dtype in (table.gemm if op.kind == "gemm" else table.wgrad)


@pytest.mark.parametrize("table", KERNELS.values(), ids=KERNELS)
def test_a_kernel_table_has_a_share_for_every_memory_bound_kind_and_no_other(table):
    assert set(table.memory) == set(KINDS) - {"gemm", "wgrad", "attention", "attention_backward"}


@every_model
@every_block
def test_no_op_has_negative_work(kind, model):
    block = ops(kind, model, recompute=RECOMPUTE)
    assert all(min(op.flops, op.bytes, op.saved) >= 0 for op in block.forward + block.backward)


# Bytes by hand


def named(kernels, name):
    (op,) = [op for op in kernels if op.name == name]
    return op


@every_model
def test_the_loss_reads_a_logit_and_writes_its_gradient(model):
    # BF16, 2 B each way; the gradient is what is kept.
    loss = named(ops("head", model).forward, "loss")
    assert loss.bytes == 4 * TOKENS * model.vocab_size
    assert loss.saved == 2 * TOKENS * model.vocab_size


@every_model
def test_both_norms_before_mtps_projection_have_a_backward_pass(model):
    # Each reads its input and a gradient and writes one: 3 x 2 B per element, two residual streams
    # of 8,192 tokens. The final norm's, one stream.
    width = TOKENS * model.hidden_size
    assert named(ops("mtp_input", model).backward, "two norms backward").bytes == 2 * 6 * width
    assert named(ops("head", model).backward, "final norm backward").bytes == 6 * width


# What stands around experts


@pytest.mark.parametrize(("model", "shared"), [(V3, 1), (MODELS["gqa"], 0)], ids=["shared", "none"])
@pytest.mark.parametrize("kernels", ["per_expert", "grouped"])
def test_what_experts_give_is_added_up_and_so_are_the_gradients_of_what_they_read(
    model, shared, kernels
):
    # Megatron-LM, moe_layer.py and transformer_layer.py: the shared experts' output is added to the
    # routed ones', the sum to the residual stream. Router, dispatch and shared experts read the norm's
    # output: autograd adds three gradients with two kernels. Each reads two operands and writes one.
    one = replace(work(model, "bf16"), expert_kernels=kernels)
    block = BLOCKS["moe"](one)
    before = BLOCKS["moe"](replace(one, expert_kernels="deepseek"))

    def added(ops):
        return [op.name for op in ops if op.kind == "residual_add"]

    forward = ["add shared experts"] * shared + ["residual"]
    assert added(block.forward) == added(before.forward) + forward
    more = added(block.backward)
    assert len(more) == len(added(before.backward)) + 1 + shared
    assert more.count("sum token gradients") == 1 + shared
    width = TOKENS * model.hidden_size
    assert {op.bytes for op in block.forward if op.name in forward} == {6.0 * width}
