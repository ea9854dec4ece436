"""What the mean of many replicas must be, where failures are exponential and checkpoints periodic.

With failures at a rate r, down for d after each (during which the next may strike), a segment of
training t and its checkpoint c takes on average e^(r d) (e^(r (t + c)) - 1) / r: J. T. Daly, A higher
order estimate of the optimum checkpoint interval for restart dumps, Future Generation Computer Systems
22 (2006), equation 13.
"""

from __future__ import annotations

import math

from simulator.goodput.risks import Risks


def expected_wall(work: float, risks: Risks) -> float:
    """Return the mean wall time of some training [s]. Synchronous checkpoints, any number of spares.

    work: at full speed [s]. What else may happen is left out.
    """
    every, stall = risks.checkpoints.every, risks.checkpoints.stall
    whole = math.ceil(work / every * (1.0 - 1e-12)) - 1
    last = work - whole * every
    # No checkpoint behind the last segment: the run is over.
    return whole * _segment(every + stall, risks) + _segment(last, risks)


def young_interval(stall: float, rate: float) -> float:
    """Return the best training between checkpoints [s]: J. W. Young, CACM 17 (1974).

    stall: of a checkpoint [s]. rate: of failures [1/s].
    """
    return math.sqrt(2.0 * stall / rate)


def daly_interval(stall: float, rate: float) -> float:
    """Return the best training between checkpoints [s]: Daly (2006), equation 37."""
    mean = 1.0 / rate
    if stall >= 2.0 * mean:
        return mean
    ratio = stall / (2.0 * mean)
    return math.sqrt(2.0 * stall * mean) * (1.0 + math.sqrt(ratio) / 3.0 + ratio / 9.0) - stall


def _segment(seconds: float, risks: Risks) -> float:
    rate = risks.rate
    if not rate:
        return seconds
    down = risks.detection + risks.restart
    return math.exp(rate * down) * math.expm1(rate * seconds) / rate
