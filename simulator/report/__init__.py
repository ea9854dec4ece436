"""Summaries and attribution: where the time of a step went, next to bounds and publications.

`summary` puts a Report together, `breakdown` and `phases` say where time went, `overlap` what was
hidden, `series` what happened when; `parts` names all of these for text, JSON, figures and pages,
and `tree` is the JSON.
"""

from __future__ import annotations

from simulator.report.overlap import Overlap, mean_share
from simulator.report.report import Comparison, Report
from simulator.report.summary import summarise
from simulator.report.tree import as_dict

__all__ = ["Comparison", "Overlap", "Report", "as_dict", "mean_share", "summarise"]
