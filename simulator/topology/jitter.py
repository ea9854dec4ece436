"""GPUs that are slower than a healthy one by chance."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from simulator.errors import LayoutError
from simulator.frozen import FROZEN
from simulator.units import Integer, Number


class Jitter(BaseModel):
    """A seeded random slow-down of GPUs: `{deviation: 0.02, gpus: 8, seed: 0}`.

    The kernels of each GPU that is drawn take 1 + |x| times as long all through the step, x normal
    with mean 0 and the deviation given: half-normal, on average 0.8 deviations slower, one GPU in
    22 more than two. With `distribution: normal` they take 1 + x times as long, so that half of the
    GPUs are faster than the kernel table: what `spread` stands for, drawn.
    """

    model_config = FROZEN

    deviation: Number = Field(
        gt=0,
        le=1,
        description="Standard deviation of x, the share by which kernels take longer.",
        examples=[0.02],
    )
    gpus: Integer | None = Field(
        None,
        gt=0,
        description="Number of GPUs that are slower, drawn with the seed; default: all.",
    )
    seed: Integer = Field(0, ge=0, description="Seed of the draw.")
    distribution: Literal["half_normal", "normal"] = Field(
        "half_normal",
        description="Whether GPUs are slower than a healthy one only, or slower and faster.",
    )

    def speeds(self, gpus: int) -> NDArray[np.float64]:
        """Return the speed of each GPU of a cluster relative to a healthy one's [gpu].

        Errors: LayoutError.
        """
        count = gpus if self.gpus is None else self.gpus
        if count > gpus:
            raise LayoutError(
                f"exceeds the {gpus} GPUs of the cluster",
                value=count,
                key="jitter.gpus",
                remedy=f"Write at most {gpus}, or leave it out for all GPUs.",
            )
        # First which GPUs, then how slow: another deviation slows the same GPUs in proportion.
        random = np.random.default_rng(self.seed)
        drawn = random.permutation(gpus)[:count]  # [slow] GPU
        longer = random.normal(0.0, self.deviation, count)  # [slow]
        if self.distribution == "half_normal":
            longer = np.abs(longer)
        # Far out in a wide distribution a kernel would take no time at all.
        longer = np.maximum(longer, -0.9)
        speeds = np.ones(gpus)
        speeds[drawn] = 1.0 / (1.0 + longer)
        return speeds
