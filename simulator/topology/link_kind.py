"""The kinds of links: what a kernel's rates, a report's shares and a figure's colours go by."""

from __future__ import annotations

from enum import StrEnum


class LinkKind(StrEnum):
    """What a link joins. Files, graphs and reports hold the same words as plain text."""

    NVLINK = "nvlink"
    """A GPU and its NVSwitch."""
    NIC = "nic"
    """A NIC and its switch, or its GPUs."""
    FABRIC = "fabric"
    """Two switches."""
    PCIE = "pcie"
    """The slot of a NIC and its GPUs."""
