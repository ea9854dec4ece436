"""Text from input as text that shows itself and does nothing else, wherever it is put out."""

from __future__ import annotations

import re

# What a terminal obeys instead of showing it (C0 and C1 controls: ECMA-48), what turns the direction
# of the text around it (Unicode annex 9, "Trojan Source"), and halves of surrogate pairs, which no
# file in UTF-8 can hold.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_HIDDEN_IN_LINES = re.compile(_HIDDEN.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))


def visible(text: object, *, lines: bool = False) -> str:
    r"""Return text with control characters as they are written in source: `\x1b`, `\n`.

    lines: keep the ends of lines, for text that has some of its own.
    """
    pattern = _HIDDEN_IN_LINES if lines else _HIDDEN
    return pattern.sub(lambda match: ascii(match[0])[1:-1], str(text))
