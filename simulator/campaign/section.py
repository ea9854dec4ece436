"""What every group of keys of a campaign file has in common."""

from __future__ import annotations

from pydantic import BaseModel

from simulator.frozen import FINITE


class Section(BaseModel):
    """A group of keys, frozen, that knows every key it may have."""

    model_config = FINITE
