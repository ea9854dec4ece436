"""The self-contained page: numbers, charts, a timeline to zoom into, provenance and what it takes to reproduce them.

The only room that imports plotly. `blocks`: pieces of HTML, where all text is escaped. `charts`: what
plotly draws. `spans`: the timeline's columns. `tables`: numbers. `provenance`: where they come from.
`sweeps`: many points. `page`: puts them together with styles and scripts of `simulator/data/page`.
"""

from __future__ import annotations

from simulator.html.page import Inputs, comparison, run, sweep

__all__ = ["Inputs", "comparison", "run", "sweep"]
