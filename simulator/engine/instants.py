"""What counts as the same instant, in both executors.

Sums of the same times in another order differ in their last bits. Were these to decide which of two
kernels has the SMs first, a speed that changes by 1e-12 would change a step by percents.
"""

from __future__ import annotations

INSTANT = 1e-10
"""Events that are due within this time of the first of them are due together [s].

Above the rounding of sums in steps of minutes (some 1e-13 s), below the half nanosecond in which the
clock of a GPU ticks.
"""
