"""Max-min fair rates of flows over links: arrays in, arrays out, no clock.

A flow of rate y takes y * w of each of its links; w is 1 for a plain flow. A coflow's weights are
its bytes on each link relative to its bytes on its own slowest link, so that y is its rate there.
Rates are max-min fair in y: no flow can be faster without slowing one that is not faster.

`max_min` is for many flows, `max_min_few` for a handful, where numpy's overhead would dominate.
`bundle` finds flows that are equal; k of them are one flow whose weights are k times as large.
"""

from simulator.fairshare.bundling import bundle, pick
from simulator.fairshare.filling import TOGETHER, UNBOUNDED, max_min, max_min_few

__all__ = ["TOGETHER", "UNBOUNDED", "bundle", "max_min", "max_min_few", "pick"]
