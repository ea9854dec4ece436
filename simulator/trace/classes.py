"""What a kernel does, from its name: rules in order, the first that fits counts."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple


class Rule(NamedTuple):
    """A class of kernels."""

    name: str
    """What it is called."""
    pattern: str
    """Regular expression that finds it in the name of a kernel, whatever the case of its letters."""
    group: str
    """The simulator's class of op that covers it, or waiting, or one of its transfers."""


RULES = (
    # DeepEP (github deepseek-ai/DeepEP, csrc/kernels): what moves tokens, and what waits for the
    # peers before that.
    Rule(
        "dispatch",
        r"(?:intranode|internode|internode_ll|hybrid)::dispatch|^ncclDevKernel_Dispatch",
        "dispatch",
    ),
    Rule(
        "combine",
        r"(?:intranode|internode|internode_ll|hybrid)::combine|^ncclDevKernel_Combine",
        "combine",
    ),
    Rule("notify", r"notify_dispatch|cached_notify|\bep::.*barrier", "waiting for peers"),
    Rule("dispatch layout", r"get_dispatch_layout", "dispatch"),
    Rule("nccl", r"^nccl\w*?Kernel", "collectives"),
    Rule("copy", r"^Mem(?:cpy|set)|_copy_tensor_kernel|direct_copy_kernel", "memory_bound"),
    Rule("attention", r"flash|fmha|sdpa|attention|compute_attn|attn_(?:fwd|bwd)", "attention"),
    Rule("activation", r"swiglu|silu|gelu", "memory_bound"),
    Rule(
        "quantise",
        r"cast_(?:to|and|back)|cast_transpose|per_(?:token|channel|block)_cast|quanti[sz]e|transpose<",
        "memory_bound",
    ),
    Rule("norm", r"layer_?norm|rms_?norm|\bln_(?:fwd|bwd)", "memory_bound"),
    Rule("rope", r"rotary|\brope", "memory_bound"),
    Rule("gemm", r"gemm|cublas|xmma|wgmma|cutlass|matmul|nvjet", "gemm"),
    Rule("router", r"top_?k|sigmoid|softmax|aux_fi|unique_group|scatter_gather", "memory_bound"),
    Rule(
        "permute",
        r"permute|expand_to_fused|reduce_fused|fused_mapping|count_expert|mapping",
        "memory_bound",
    ),
    Rule("optimizer", r"adam|multi_tensor|^optimizer$", "optimizer"),
    Rule("elementwise", r"elementwise|reduce_kernel|at::native|triton", "memory_bound"),
    Rule("simulated phase", r"^(?:attn|mlp|side)\([FBIW]\)$", "phase"),
    Rule("other", "", "other"),
)
_COMPILED = {rule: re.compile(rule.pattern, re.IGNORECASE) for rule in RULES}
_NCCL = re.compile(r"^nccl\w*?Kernel_?([A-Za-z]+)")
COMMUNICATION = ("dispatch", "combine", "waiting for peers", "collectives")
"""Groups whose kernels move bytes between GPUs or wait to do so."""


@lru_cache(maxsize=4096)
def classify(name: str) -> tuple[str, str]:
    """Return the class of a kernel and its group; NCCL's kernels by collective: `nccl AllReduce`."""
    # The last rule fits every name, so that there is always a first.
    fitting = (rule for rule, pattern in _COMPILED.items() if pattern.search(name))
    rule = next(fitting)
    collective = _NCCL.match(name)
    if rule.name == "nccl" and collective:
        # `AllReduceSum` and its kin name the operator too, which changes nothing here.
        operation = collective[1].removesuffix("Sum")
        return f"nccl {operation}", rule.group
    return rule.name, rule.group
