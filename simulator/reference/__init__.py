"""What the files may say, made from the configurations that read them: key references and JSON schemas.

| module | job |
|---|---|
| `nodes` | parts of schemas: what they refer to, which keys they have |
| `names` | the names that a key may hold, from the tables that define them |
| `rules` | which keys go together |
| `models` | the keys of a model, inline or of a `config.json` |
| `sweeps` | paths of keys as axes and as fixed values |
| `schema` | configurations -> one JSON schema for each kind of file |
| `keys` | JSON schemas -> one row for each key |
"""

from __future__ import annotations

from simulator.reference.keys import Key, keys
from simulator.reference.schema import KINDS, schema

__all__ = ["KINDS", "Key", "keys", "schema"]
