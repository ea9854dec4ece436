"""How far to trust a result: an interval on the step, where it comes from, and what it can tell apart.

`kind`: what runs have in common that are wrong for the same reasons. `cases`: the errors of all
published runs, as a table. `likeness`: how like a run they are. `conformal`: an interval that holds
as many of them as it says. `parts`: what a run itself is unsure of. `interval`: all of it together.
`resolution`: how large a difference of two runs must be to be one. `tree`: as JSON and as text.
"""

from __future__ import annotations

from simulator.trust.cases import PublishedRun, published_runs
from simulator.trust.interval import Interval, Part, Steps, interval
from simulator.trust.kind import Kind, kind_of
from simulator.trust.resolution import Paced, Resolution, resolution
from simulator.trust.tree import as_dict, resolution_dict, sentences

__all__ = [
    "Interval",
    "Kind",
    "Paced",
    "Part",
    "PublishedRun",
    "Resolution",
    "Steps",
    "as_dict",
    "interval",
    "kind_of",
    "published_runs",
    "resolution",
    "resolution_dict",
    "sentences",
]
