"""What a model is: its architecture in Hugging Face's keys, and what follows from it by counting.

| module | job |
|---|---|
| `read` | a `config.json` of any known family -> the keys of one configuration |
| `config` | that configuration: widths, heads, experts, which layer is what |
| `counts` | parameters and FLOPs that follow from it |
"""

from simulator.model.config import BlockKind
from simulator.model.counts import ModelConfig, Passes
from simulator.model.read import FAMILIES, NOT_YET, RENAMED, UNREAD

KEYS = frozenset({*ModelConfig.model_fields, *RENAMED, *UNREAD, *NOT_YET})
"""Every key that a model may hold: read, renamed, of no cost, or refused with a reason."""

__all__ = ["FAMILIES", "KEYS", "NOT_YET", "UNREAD", "BlockKind", "ModelConfig", "Passes"]
