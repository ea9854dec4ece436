"""HybridEP: DeepEP's copies, by TMA over NVLink and one warp's RDMA, with fewer SMs.

github deepseek-ai/DeepEP, branch hybrid-ep, Hybrid-EP_Implementation.md (NVIDIA).
"""

from __future__ import annotations

from simulator.collectives.batch import TokenKernels
from simulator.collectives.deepep import nodes_reached
from simulator.collectives.kinds import EXCHANGES, CoflowKind
from simulator.errors import InputError
from simulator.experts import Load
from simulator.hardware import KernelConfig


def kernels(table: KernelConfig) -> TokenKernels:
    """Return HybridEP's kernels. Errors: InputError where none were measured."""
    rows = table.communication
    if "hybrid_dispatch" not in rows:
        raise InputError(f"has no published measurement on {table.name} GPUs")
    models = dict.fromkeys(EXCHANGES, rows["hybrid_dispatch"])
    models[CoflowKind.COMBINE] = rows["hybrid_combine"]
    return TokenKernels(models)


def copied(load: Load) -> float:
    """Return the copies that SMs make of a token: for each node, or for each GPU of the only one.

    Inside a node TMA moves what RDMA brought, which holds SMs back where there is no NIC alone.
    """
    return nodes_reached(load) if load.ep_nodes > 1 else load.received
