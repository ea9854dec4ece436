"""What every data file of hardware has in common."""

from __future__ import annotations

from pydantic import BaseModel

from simulator.frozen import FROZEN


class Data(BaseModel):
    """A data file, or a part of one: it does not change, and every key is known."""

    model_config = FROZEN
