"""Memory-bound ops compared with the kernel tables."""

from __future__ import annotations

from collections.abc import Iterator

from simulator import inputs
from simulator.ops.op import moved
from simulator.residuals.rows import Residuals, Timed, against_table, measured_table, processor

VIDUR = {
    "norm": ("norm", 4.0),
    "add": ("residual_add", 6.0),
    "activation": ("activation", 6.0),
}
"""What vidur measured -> kind of op, and bytes per element that must move."""


def memory_bound() -> Iterator[Residuals]:
    """Yield every class of memory-bound op that was measured."""
    table = inputs.table("vidur_memory_bound")
    for gpu in ("a100", "h100"):
        for name, (kind, per_element) in VIDUR.items():
            measured = []
            for row in table:
                if row["gpu"] == gpu and row["op"] == name:
                    elements = 4096.0 * int(row["width"])  # of 4,096 tokens
                    op = moved("", kind, elements, per_element)
                    measured.append(Timed(op, float(row["us"])))
            # Hopper's norm and activation are those of DeepSeek's profile.
            fitted = gpu == "a100" or name == "add"
            label = f"{kind}, vidur's {name}"
            yield against_table("memory-bound", label, processor(gpu), fitted, measured)
    layer = measured_table("training_kernels")["megatron_layer"]["memory_bound"]
    measured = []
    for row in layer:
        op = moved("", row["kind"], row["elements"], row["each"])
        measured.append(Timed(op, 1e3 * row["ms"]))
    part = processor("a100")
    yield against_table("memory-bound", "Megatron's fused kernels", part, True, measured)
    yield from _norms()


NORMS = (
    ("h200", "norms_h200", "cudnn", "fused_norm", False),
    ("h200", "norms_h200", "torch_compile", "compiled_norm", True),
    ("gb200", "norms_blackwell", "cudnn", "fused_norm", True),
    ("gb200", "norms_blackwell", "torch_compile", "compiled_norm", True),
    ("gb300", "norms_blackwell", "cudnn", "fused_norm", True),
    ("gb300", "norms_blackwell", "torch_compile", "compiled_norm", True),
)
"""GPU, table, implementation of a norm, kind of op, and whether its share of HBM comes from these rows."""


def _norms() -> Iterator[Residuals]:
    """Yield RMS norms, forward and backward."""
    for gpu, table, implementation, kind, fitted in NORMS:
        rows = [
            row
            for row in inputs.table(table)
            if row.get("gpu", gpu) == gpu and row["implementation"] == implementation and _wide(row)
        ]
        part = processor(gpu)
        for index, direction in enumerate(("forward", "backward")):
            measured = []
            for row in rows:
                elements = float(row["rows"]) * float(row["width"])
                suffix = ("", "_backward")[index]
                op = moved("", kind + suffix, elements, (4.0, 6.0)[index])
                ms = float(row[f"{direction}_ms"])
                measured.append(Timed(op, 1e3 * ms))
            label = f"{kind}, {implementation}, {direction}"
            yield against_table("memory-bound", label, part, fitted, measured)


def _wide(row: dict[str, str]) -> bool:
    """Tell whether a row of the norms is an RMS norm of a residual stream, not of a head."""
    return row["norm"] == "rms_norm" and int(row["width"]) >= 2048
