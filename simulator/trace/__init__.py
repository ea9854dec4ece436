"""Perfetto out, PyTorch traces in: a timeline as a profiler would have written it, and what a profile says."""

from __future__ import annotations

from simulator.trace.kernels import Kernels, of_timeline, of_tree
from simulator.trace.summary import Summary, summaries
from simulator.trace.write import check_target, write

__all__ = ["Kernels", "Summary", "check_target", "of_timeline", "of_tree", "summaries", "write"]
