"""An op -> seconds on a GPU, with efficiencies from its kernel table, never from the scenario."""

from simulator.compute.contention import INSENSITIVE, Sensitivity, speed
from simulator.compute.processor import Processor

__all__ = ["INSENSITIVE", "Processor", "Sensitivity", "speed"]
