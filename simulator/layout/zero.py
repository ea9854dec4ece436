"""The stages of ZeRO: what data parallel ranks shard among them (arXiv 1910.02054, section 5)."""

from __future__ import annotations

from enum import IntEnum


class ZeroStage(IntEnum):
    """What ZeRO shards: what a stage's name says, and all that the stages before it shard."""

    NONE = 0
    OPTIMIZER = 1
    GRADIENTS = 2
    PARAMETERS = 3
