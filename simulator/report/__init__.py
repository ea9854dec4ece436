"""Summaries and attribution: where the time of a step went, and what a run costs, beside bounds and publications."""

from __future__ import annotations

from simulator.report.overlap import Overlap, mean_share
from simulator.report.summary import Comparison, Report, summarise

__all__ = ["Comparison", "Overlap", "Report", "mean_share", "summarise"]
