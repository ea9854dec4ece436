"""Bytes per rank: what stays, activations as the schedule takes and frees them, buffers; and what would make it fit."""

from __future__ import annotations

from simulator.memory.peak import CATEGORIES, RankMemory, memory, memory_of, over_time
from simulator.memory.remedies import Remedy, remedies

__all__ = ["CATEGORIES", "RankMemory", "Remedy", "memory", "memory_of", "over_time", "remedies"]
