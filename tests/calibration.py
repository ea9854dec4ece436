"""What the calibration tests share: the measurements in `simulator/data/measured`, the processors, V3's layer."""

import csv

from simulator.compute import Processor
from simulator.experts import route
from simulator.hardware import GpuConfig, KernelConfig
from simulator.inputs import ROOT, data, read, validate
from simulator.model import ModelConfig
from simulator.ops import Work, block_ops
from simulator.precision import RECIPES

TOKENS = 4096  # of every measurement in DeepSeek's trace and in DeepEP's tables
PHASES = {
    "attn(F)": "attention_f",
    "mlp(F)": "mlp_f",
    "mlp(B)": "mlp_b",
    "mlp(W)": "mlp_w",
    "attn(B)": "attention_b",
    "attn(W)": "attention_w",
}


def measured(name):
    return data("measured", name).data


def measured_csv(name):
    """Return a measured table as columns, name -> [row]; text where it is not a number."""
    lines = (ROOT / "data" / "measured" / f"{name}.csv").read_text(encoding="utf-8").splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    return {key: [row[key] for row in rows] for key in rows[0]}


def processor(gpu, reserved_sms=0, attention=""):
    sheet = validate(data("gpus", gpu), GpuConfig)
    kernels = validate(data("kernels", sheet.kernels), KernelConfig)
    return Processor(sheet, kernels, reserved_sms, attention)


HOPPER, AMPERE, B200 = processor("h100"), processor("a100"), processor("b200")
TRACED = processor("h800", 20, "deepseek")  # 20 of 132 SMs belong to communication
CHUNK = measured("deepseek_v3_chunk")
V3 = validate(read(ROOT.parent / "workloads" / "models" / "deepseek-v3.json"), ModelConfig)
ROUTING = route(V3, 64, 8, 0)


def v3_layer():
    """Return the ops of one of V3's MoE layers as the trace ran it."""
    work = Work(
        V3,
        RECIPES["fp8_block"],
        TOKENS,
        TOKENS,
        float(TOKENS * V3.num_experts_per_tok),
        TOKENS * ROUTING.gpus,
        V3.n_routed_experts // 64,
        frozenset(
            ("norm", "mla_up_projection", "swiglu")
        ),  # arXiv 2412.19437, sections 3.2.3 and 3.3.3
        router_kernels=35,
        router_kernels_backward=35,
        mapping_kernels=4,
        norm="norm",
    )
    (ops,) = block_ops("moe", work)
    return ops


LAYER = v3_layer()
