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

# Greys of what is not data, from dark to light.
NOTE = "#444444"
"""Words in a panel, and cables that no colour tells apart."""
CABLE = "#777777"
"""Cables between groups, where those inside have a colour."""
RULE = "#999999"
"""Lines to compare with, and what is there without being counted: a node, a margin."""
PALE = "#BBBBBB"
"""Hatching, and what is only hinted at."""
GRID = "#DDDDDD"
"""Lines of a grid behind data."""
EMPTY = "#E8E8E8"
"""Cells of a matrix that have no value."""
BAND = "#EEEEEE"
"""Ranges behind data, and panels in which values are missing."""
IDLE = "#F2F2F2"
"""Time in which nothing runs."""

SERIES = (BLUE, VERMILLION, GREEN, PINK, ORANGE, SKY, BROWN, GREY)
"""Colours of lines, bars and marks that a chart tells apart by nothing but their number."""


def darker(colour: str) -> str:
    """Return a darker shade of a colour, for one of two things of a kind. colour: #RRGGBB."""
    # One factor for all channels leaves hue and saturation as they are.
    shades = [round(0.68 * value) for value in _channels(colour)]
    digits = [f"{shade:02X}" for shade in shades]
    return "#" + "".join(digits)


def ink(colour: str) -> str:
    """Return the colour of text that is legible on a colour: white or nearly black. colour: #RRGGBB."""
    red, green, blue = (value / 255.0 for value in _channels(colour))
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue  # Rec. 709, of the encoded values
    return "#FFFFFF" if luma < 0.5 else "#1A1A1A"


def _channels(colour: str) -> tuple[int, ...]:
    """Return red, green and blue of a colour, 0 to 255. colour: #RRGGBB."""
    pairs = (colour[1:3], colour[3:5], colour[5:7])
    return tuple(int(pair, 16) for pair in pairs)
