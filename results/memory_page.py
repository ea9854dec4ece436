"""All published memory next to the simulated one."""

from __future__ import annotations

from statistics import fmean

from cells import row

from simulator.validate import Check, validate
from simulator.validate.case import MemoryCase, files

HEAD = """# Memory

Every figure of memory in the publications that `simulate validate` knows, next to what the simulator counts. What a
source does not say is set by one rule per source (`simulator/data/cases`); no figure of a run was fitted.

What is compared is what was counted: *allocated* is PyTorch's sum of tensors, *reserved* what its allocator has taken
from CUDA, which is larger by fragmentation (`training.fragmentation`); states and activations of arXiv 2205.05198 are
those of transformer layers alone, of one stage, as its formulas have them.
"""
TAIL = """
## What is behind the errors

- Zero Bubble prints GB and no decimals: a figure may be GiB, 7% more. Its schedules hold as many chunks as their limit
  allows, where a chunk that waits for its weight gradients counts by what those read (its table 1). With every chunk
  counted whole until then, as the simulator first did, ZB rows came out 9 to 12% high; corrected with the errors known.
- Moonlight's four kinds of recomputation come out alike because their peak is not in a layer: Transformer Engine's
  AdamW copies both BF16 moments of all routed experts to FP32 at once. The measured peaks with nothing, or only the
  core of attention, recomputed are 0.7 GB higher than the other three; nothing published says where.
- torchtitan reads what the allocator has reserved. Its unfused loss has the logits in BF16 and twice in FP32 ahead, and
  three times in FP32 on the way back. What is missed is not explained.
- The states of 22 B hold the embedding and the head too, which its formula leaves out.
"""


def page() -> str:
    """Return the table of published memory."""
    cases = {case.case: case for table in files().values() for case in table.memory}
    checks = list(validate(tuple(cases)))
    errors = [abs(check.error) for check in checks]
    worst = max(checks, key=lambda check: abs(check.error))
    lines = [
        HEAD,
        f"{len(checks)} figures: mean absolute error {fmean(errors):.1%}, mean error "
        f"{fmean(check.error for check in checks):+.1%}, worst {worst.error:+.1%} ({worst.case}).",
        "",
        "| case | counted | published | simulated | error |",
        "|---|---|---:|---:|---:|",
        *(_line(check, cases[check.case]) for check in checks),
    ]
    return "\n".join(lines) + "\n" + TAIL


def _line(check: Check, case: MemoryCase) -> str:
    what = check.quantity.replace("_", " ")
    if case.what == "peak":
        what = f"peak, {case.measure}"
    return row(
        check.case,
        what,
        f"{check.published / 1e9:.2f} GB",
        f"{check.simulated / 1e9:.2f} GB",
        f"{check.error:+.1%}",
    )
