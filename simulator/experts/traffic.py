"""Choices of tokens -> copies between the GPUs of an expert group, exactly or in expectation.

Four ways to travel, each a row of `WAYS`. `sampled` counts the tokens of a sample one by one;
`expected` takes the probabilities of one token and holds for many tokens from sources that are
alike, without the sample's noise.

    hierarchical  once per distinct remote node over the NIC of the sender's rail, there over NVLink
                  to the GPUs (DeepSeek-V3, arXiv 2412.19437, section 3.2.2)
    flat          once per distinct GPU, straight
    low_latency   once per chosen expert, straight (DeepEP's low-latency kernels send before they
                  know who else wants the token)
    gathered      to every GPU of the group, whoever its experts are
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Copies:
    """Copies of tokens that dispatch moves, or their bytes."""

    nic: Array
    """Between nodes, zero on the diagonal [src, dst]."""
    nvlink: Array
    """Inside nodes, zero on the diagonal [src, dst]."""

    def scaled(self, factor: float) -> Copies:
        """Return each entry times a factor: bytes per token, or tokens per sampled token."""
        return Copies(self.nic * factor, self.nvlink * factor)

    def returned(self) -> Copies:
        """Return what combine moves: every copy goes back the way it came."""
        return Copies(self.nic.T, self.nvlink.T)

    def busiest(self) -> tuple[float, float]:
        """Return the most that one NIC and one NVLink port carry in one direction."""
        return _busiest_port(self.nic), _busiest_port(self.nvlink)


def _busiest_port(matrix: Array) -> float:
    """Return the most that one port sends or receives. matrix: [src, dst]."""
    received = matrix.sum(axis=0)
    sent = matrix.sum(axis=1)
    return float(np.concatenate([received, sent]).max())


@dataclass(frozen=True, slots=True)
class Visits:
    """What one token does in one layer, as expectations over the tokens of an expert group."""

    experts: Array
    """Times that it is computed by each expert, over all micro-batches [expert]."""
    pairs: Array
    """Experts that it meets on each GPU, sums to top_k less what is dropped [gpu]."""
    gpus: Array
    """Probability that it reaches each GPU [gpu]."""
    nodes: Array
    """Probability that it reaches each node [node]."""
    dropped: float = 0.0
    """Share of its choices that capacity refuses."""

    @property
    def gpus_per_node(self) -> int:
        """Return the GPUs of the group on each node."""
        return len(self.gpus) // len(self.nodes)

    def rows(self, tokens: float) -> Array:
        """Return the (token, expert) pairs that each GPU computes [gpu]. tokens: of each GPU."""
        return self.pairs * (tokens * len(self.pairs))

    def received(self, tokens: float) -> Array:
        """Return the tokens that dispatch brings to each GPU, its own included, each once [gpu]."""
        return self.gpus * (tokens * len(self.gpus))


# Exactly: gpus [token, choice], -1 where a choice was dropped; source [token]; shape: (GPUs, GPUs
# per node).


def reached(places: Places, count: int) -> NDArray[np.bool_]:
    """Return which GPUs or nodes each token reaches [token, place].

    places: [token, choice] in 0..count-1, or -1.
    """
    # What was dropped marks a column of its own, which is cut off again.
    hit = np.zeros((len(places), count + 1), dtype=bool)
    marked = np.where(places < 0, count, places)
    np.put_along_axis(hit, marked, True, axis=1)
    return hit[:, :count]


def nodes_of(gpus: Places, on_node: int) -> Places:
    """Return the node of each choice, -1 where it was dropped. on_node: GPUs per node."""
    return np.where(gpus < 0, -1, gpus // on_node)


def _split(matrix: Array, on_node: int) -> Copies:
    """Return a [src, dst] matrix of straight copies as those between nodes and those inside one."""
    node = np.arange(len(matrix)) // on_node
    inside = node[:, None] == node  # [src, dst]
    others = ~np.eye(len(matrix), dtype=bool)  # what stays on a GPU crosses no link
    return Copies(
        nic=np.where(inside, 0.0, matrix),
        nvlink=np.where(inside & others, matrix, 0.0),
    )


def _sum_by(source: Places, hit: NDArray[np.bool_], size: int) -> Array:
    """Return the tokens that reach each place by their source [source, place]."""
    result = np.zeros((size, hit.shape[1]))
    np.add.at(result, source, hit)
    return result


def _count_hierarchical(gpus: Places, source: Places, ep: int, on_node: int) -> Copies:
    nodes = reached(nodes_of(gpus, on_node), ep // on_node)
    of_gpu = _sum_by(source, nodes, ep)  # [src, node]
    gpu = np.arange(ep)
    node, rail = gpu // on_node, gpu % on_node
    # Over the NIC to the GPU of the own rail on each node.
    nic = np.zeros((ep, ep))
    for target in range(ep // on_node):
        nic[gpu, target * on_node + rail] = of_gpu[:, target]
    # On a node the GPU of the sender's rail hands on what came for the others, from its own node
    # too.
    of_rail = _sum_by(source % on_node, reached(gpus, ep), on_node)  # [rail, dst]
    same_node = node[:, None] == node  # [src, dst]
    nvlink = np.where(same_node, of_rail[rail], 0.0)
    np.fill_diagonal(nvlink, 0.0)
    np.fill_diagonal(nic, 0.0)
    return Copies(nic, nvlink)


def _count_flat(gpus: Places, source: Places, ep: int, on_node: int) -> Copies:
    return _split(_sum_by(source, reached(gpus, ep), ep), on_node)


def _count_low_latency(gpus: Places, source: Places, ep: int, on_node: int) -> Copies:
    pair = source[:, None] * ep + gpus  # [token, choice] (src, dst) as one number
    sent = pair[gpus >= 0]  # [copy]
    copies = np.bincount(sent, minlength=ep * ep).astype(np.float64)
    return _split(copies.reshape(ep, ep), on_node)


def _count_gathered(gpus: Places, source: Places, ep: int, on_node: int) -> Copies:
    sent = np.bincount(source, minlength=ep).astype(np.float64)  # [src]
    return _split(np.tile(sent[:, None], (1, ep)), on_node)


# In expectation: tokens of each GPU, all sources alike.


def _expect_hierarchical(visits: Visits, tokens: float) -> Copies:
    ep, on_node = len(visits.gpus), visits.gpus_per_node
    gpu = np.arange(ep)
    node, rail = gpu // on_node, gpu % on_node
    same_rail = rail[:, None] == rail  # [src, dst]
    same_node = node[:, None] == node  # [src, dst]
    # A GPU hands on what the GPUs of its rail on all nodes, itself included, send to a peer.
    handed_on = visits.gpus * len(visits.nodes)
    nic = np.where(same_rail, visits.nodes[node], 0.0)
    nvlink = np.where(same_node, handed_on, 0.0)
    np.fill_diagonal(nic, 0.0)
    np.fill_diagonal(nvlink, 0.0)
    return Copies(nic * tokens, nvlink * tokens)


def _expect_flat(visits: Visits, tokens: float) -> Copies:
    return _from_all(visits.gpus * tokens, visits.gpus_per_node)


def _expect_low_latency(visits: Visits, tokens: float) -> Copies:
    return _from_all(visits.pairs * tokens, visits.gpus_per_node)


def _from_all(copies: Array, on_node: int) -> Copies:
    """Return what every source sends alike. copies: of one source to each GPU [gpu]."""
    every_source = np.tile(copies, (len(copies), 1))  # [src, dst]
    return _split(every_source, on_node)


def _expect_gathered(visits: Visits, tokens: float) -> Copies:
    return _from_all(_everywhere(visits) * tokens, visits.gpus_per_node)


@dataclass(frozen=True, slots=True)
class Way:
    """Which copies of a token travel, and how many of them arrive."""

    sampled: Callable[[Places, Places, int, int], Copies]
    """Copies of exactly these tokens: (gpus [token, choice], source [token], ep, GPUs per node)."""
    expected: Callable[[Visits, float], Copies]
    """Copies to expect of `tokens` tokens per GPU: (visits, tokens)."""
    met: Callable[[Visits], Array]
    """Copies of one token that each GPU gets, its own GPU included [gpu]."""

    def received(self, visits: Visits, tokens: float) -> Array:
        """Return the copies that each GPU receives, its own included [gpu]. tokens: of each GPU."""
        return self.met(visits) * (tokens * len(visits.gpus))


def _once_per_gpu(visits: Visits) -> Array:
    return visits.gpus


def _once_per_expert(visits: Visits) -> Array:
    return visits.pairs


def _everywhere(visits: Visits) -> Array:
    return np.ones(len(visits.gpus))


WAYS: dict[str, Way] = {
    "hierarchical": Way(_count_hierarchical, _expect_hierarchical, _once_per_gpu),
    "flat": Way(_count_flat, _expect_flat, _once_per_gpu),
    "low_latency": Way(_count_low_latency, _expect_low_latency, _once_per_expert),
    "gathered": Way(_count_gathered, _expect_gathered, _everywhere),
}
"""Name -> way to travel."""
