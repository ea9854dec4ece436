"""Bytes per rank: what stays, activations as the schedule takes and frees them, buffers."""

from __future__ import annotations

from simulator.memory.host import HostUse
from simulator.memory.peak import CATEGORIES, RankMemory, memory, memory_of, over_time

__all__ = ["CATEGORIES", "HostUse", "RankMemory", "memory", "memory_of", "over_time"]
