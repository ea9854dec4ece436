"""Summaries and attribution: where the time of a step went, and what a run costs, beside bounds and publications."""

from __future__ import annotations

from simulator.report.summary import Comparison, Imbalance, Report, Span, Stragglers, summarise

__all__ = ["Comparison", "Imbalance", "Report", "Span", "Stragglers", "summarise"]
