"""What a GPU's datasheet and its kernel tables say.

The numbers are data files, each value with its source.

`simulator/data/gpus/<name>.yaml` is a datasheet, `simulator/data/kernels/<name>.yaml` a table of
measured kernel efficiencies that GPUs of one architecture share. Neither knows of any training
step.
"""

from simulator.hardware.attention import AttentionModel
from simulator.hardware.communication import CommunicationModel, MeasuredLinks
from simulator.hardware.gemm import GemmModel, MeasuredGemms
from simulator.hardware.gpu import GpuConfig, Memory
from simulator.hardware.kernels import KernelConfig, OverlapSlowdown

__all__ = [
    "AttentionModel",
    "CommunicationModel",
    "GemmModel",
    "GpuConfig",
    "KernelConfig",
    "MeasuredGemms",
    "MeasuredLinks",
    "Memory",
    "OverlapSlowdown",
]
