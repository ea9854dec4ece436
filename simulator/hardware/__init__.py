"""What a GPU's datasheet, its kernel tables and a software stack say.

The numbers are data files, each value with its source.

`simulator/data/gpus/<name>.yaml` is a datasheet, `simulator/data/kernels/<name>.yaml` a table of
measured kernel efficiencies that GPUs of one architecture share, `simulator/data/stacks/<name>.yaml`
a software stack: what its hosts need to launch kernels. None knows of any training step.
"""

from simulator.hardware.attention import AttentionModel, Benchmark, Speed, Tail
from simulator.hardware.communication import (
    CommunicationModel,
    CopyModel,
    MeasuredLinks,
    Ramp,
    SmCopies,
)
from simulator.hardware.gemm import GemmModel, MeasuredGemms
from simulator.hardware.gpu import GpuConfig, Memory
from simulator.hardware.grouped import GroupedModel
from simulator.hardware.host import LAUNCHES, HostConfig
from simulator.hardware.kernels import Contention, ContentionLimit, KernelConfig, OverlapSlowdown
from simulator.hardware.model_code import FUSED, ModelCode
from simulator.hardware.nccl import PROTOCOLS, Tuner, TunerLimits
from simulator.hardware.power import PowerLaw
from simulator.hardware.sharding import Sharding
from simulator.hardware.stack import (
    Drain,
    ExpertKernels,
    LayerKernels,
    LossName,
    OptimizerKernels,
    StackConfig,
    StackHost,
)
from simulator.hardware.tensor_overlap import (
    OverlapMethod,
    Overlaps,
    TensorGroup,
    TensorOverlap,
)
from simulator.hardware.transport import Transport

__all__ = [
    "FUSED",
    "LAUNCHES",
    "PROTOCOLS",
    "AttentionModel",
    "Benchmark",
    "CommunicationModel",
    "Contention",
    "ContentionLimit",
    "CopyModel",
    "Drain",
    "ExpertKernels",
    "GemmModel",
    "GpuConfig",
    "GroupedModel",
    "HostConfig",
    "KernelConfig",
    "LayerKernels",
    "LossName",
    "MeasuredGemms",
    "MeasuredLinks",
    "Memory",
    "ModelCode",
    "OptimizerKernels",
    "OverlapMethod",
    "OverlapSlowdown",
    "Overlaps",
    "PowerLaw",
    "Ramp",
    "Sharding",
    "SmCopies",
    "Speed",
    "StackConfig",
    "StackHost",
    "Tail",
    "TensorGroup",
    "TensorOverlap",
    "Transport",
    "Tuner",
    "TunerLimits",
]
