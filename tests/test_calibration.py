"""Calibration: every fitted constant of the kernel tables, recomputed from the measurements in `data/measured`.

A constant that stands in `data/kernels` must follow from published rows that stand beside it. GEMM constants are
refitted from a neutral start; ratios are formed again; shares of HBM take their bytes from `simulator.ops`.
"""

import csv

import numpy as np
from scipy.optimize import least_squares

from simulator.compute import Processor
from simulator.experts import route
from simulator.hardware import GpuConfig, KernelConfig
from simulator.inputs import ROOT, data, read, validate
from simulator.model import ModelConfig
from simulator.ops import Work, block_ops
from simulator.ops.op import gemm, wgrad
from simulator.precision import RECIPES, RECOMPUTE

TOKENS = 4096  # of every measurement in DeepSeek's trace and in DeepEP's tables
PHASES = {
    "attn(F)": "attention_f", "mlp(F)": "mlp_f", "mlp(B)": "mlp_b", "mlp(W)": "mlp_w", "attn(B)": "attention_b",
    "attn(W)": "attention_w",
}
MEMORY_BOUND = ("norm", "norm_backward", "quantise", "transpose", "rope", "copy", "elementwise", "activation", "permute")


def measured(name):
    return data("measured", name).data


def measured_csv(name):
    """Return a measured table as columns, name -> [row]; text where it is not a number."""
    lines = (ROOT / "data" / "measured" / f"{name}.csv").read_text(encoding="utf-8").splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    return {key: [row[key] for row in rows] for key in rows[0]}


def processor(gpu, reserved_sms=0):
    sheet = validate(data("gpus", gpu), GpuConfig)
    return Processor(sheet, validate(data("kernels", sheet.kernels), KernelConfig), reserved_sms)


HOPPER, AMPERE = processor("h100"), processor("a100")
TRACED = processor("h800", 20)  # 20 of 132 SMs belong to communication
CHUNK = measured("deepseek_v3_chunk")
V3 = validate(read(ROOT.parent / "workloads" / "models" / "deepseek-v3.json"), ModelConfig)
ROUTING = route(V3, 64, 8, 0)


def v3_layer():
    """Return the ops of one of V3's MoE layers as the trace ran it."""
    work = Work(
        V3, RECIPES["fp8_block"], TOKENS, TOKENS, float(TOKENS * V3.num_experts_per_tok), TOKENS * ROUTING.gpus,
        V3.n_routed_experts // 64, frozenset(RECOMPUTE),
    )
    (ops,) = block_ops("moe", work)
    return ops


LAYER = v3_layer()


# --- GEMMs: the wave model, fitted again -------------------------------------------------------------------------


class Waves:
    """The wave model over arrays of measured rows, written a second time so that it checks `compute` as well."""

    def __init__(self, part, ops, model):
        self.bandwidth = part.gpu.memory.bandwidth
        self.bytes = np.array([op.bytes for op in ops])
        groups, m, n, k = np.array([op.shape for op in ops]).T
        sms, peak = part.gpu.sms - part.reserved_sms, part.peak(ops[0].dtype) / part.gpu.sms
        tiles = [(groups * np.ceil(m / rows) * np.ceil(n / columns), rows * columns / relative)
                 for rows, columns, relative in model.tiles]
        self.waves = np.array([np.ceil(count / sms) for count, _ in tiles])
        self.work = np.array([2.0 * area * k / peak for _, area in tiles])

    def seconds(self, mainloop, tile, memory, ramp):
        on_sms = (self.waves * (self.work / mainloop + tile)).min(axis=0)
        return ramp + np.maximum(on_sms, self.bytes / (self.bandwidth * memory))


def deepgemm():
    rows = measured("deepgemm_a6d97a1")["dense_and_contiguous"]
    ops = [gemm("", row["m"], row["n"], row["k"], "fp8", row["groups"]) for row in rows]
    return ops, [op.flops / row["tflops"] / 1e12 for op, row in zip(ops, rows, strict=True)]


def vidur(gpu):
    table = measured_csv(f"vidur_{gpu}_gemm")
    shapes = zip(*(map(int, table[key]) for key in "mnk"), strict=True)
    return [gemm("", *shape, "bf16") for shape in shapes], [float(us) * 1e-6 for us in table["us"]]


def traced_wgrads():
    """Return weight gradients of the trace; beside communication, in a training process, as `Processor` adds later."""
    rows, kernels = CHUNK["fp8_wgrad_us"], TRACED.kernels
    longer = kernels.sustained * kernels.beside_communication.gemm
    ops = [wgrad("", row["m"], row["n"], row["k"], "fp8") for row in rows]
    return ops, [np.mean(row["us"]) * 1e-6 / longer for row in rows]


# name -> processor, its fitted model, measured rows, what was fitted
FITS = {
    "hopper gemm fp8": (HOPPER, HOPPER.kernels.gemm["fp8"], deepgemm, ("mainloop", "tile", "memory", "ramp")),
    "hopper gemm bf16": (HOPPER, HOPPER.kernels.gemm["bf16"], lambda: vidur("h100"), ("mainloop", "tile", "memory", "ramp")),
    "hopper wgrad fp8": (TRACED, TRACED.kernels.wgrad["fp8"], traced_wgrads, ("mainloop", "tile")),
    "ampere gemm bf16": (AMPERE, AMPERE.kernels.gemm["bf16"], lambda: vidur("a100"), ("mainloop", "tile", "memory", "ramp")),
}
START = {"mainloop": 0.6, "tile": 1e-6, "memory": 0.6, "ramp": 2e-6}
UPPER = {"mainloop": 1.0, "tile": 1e-5, "memory": 1.0, "ramp": 2e-5}


def rms(errors):
    return float(np.sqrt(np.mean(np.square(errors))))

if __name__ == "__main__":
    for name, (part, model, rows, free) in FITS.items():
        ops, seconds = rows()
        waves = Waves(part, ops, model)
        sh = {k: getattr(model, k) for k in START}
        def res(x):
            return np.log(waves.seconds(**(sh | dict(zip(free, x)))) / seconds)
        x0 = [START[k] for k in free]; ub = [UPPER[k] for k in free]
        for loss in ("linear", "soft_l1"):
            fit = least_squares(res, x0, x_scale=ub, bounds=([0 if k in("tile","ramp") else .1 for k in free], ub), diff_step=1e-3,loss=loss,f_scale=.1)
            print(name, len(ops), loss, dict(zip(free, fit.x)), "refit rms", rms(res(fit.x)), "shipped", rms(res([sh[k] for k in free])), sh, fit.nfev)
