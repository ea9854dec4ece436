"""Colours of figures and pages: Okabe and Ito's, which most colour-blind readers can tell apart.

Source: M. Okabe and K. Ito, "Color Universal Design", 2008.
"""

from __future__ import annotations

ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILLION = "#D55E00"
PINK = "#CC79A7"
# Two more that are dark enough for white paper and light enough for a dark page.
BROWN = "#8C510A"
GREY = "#666666"

SERIES = (BLUE, VERMILLION, GREEN, PINK, ORANGE, SKY, BROWN, GREY)
"""Colours of lines, bars and marks that a chart tells apart by nothing but their number."""


def darker(colour: str) -> str:
    """Return a darker shade of a colour, for one of two things of a kind. colour: #RRGGBB."""
    return "#" + "".join(f"{round(0.68 * int(colour[at : at + 2], 16)):02X}" for at in (1, 3, 5))


def ink(colour: str) -> str:
    """Return the colour of text that is legible on a colour: white or nearly black. colour: #RRGGBB."""
    red, green, blue = (int(colour[at : at + 2], 16) / 255.0 for at in (1, 3, 5))
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue  # Rec. 709, of the encoded values
    return "#FFFFFF" if luma < 0.5 else "#1A1A1A"
