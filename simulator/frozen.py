"""How the models behave that hold what files say: frozen, without unknown keys, built at first use.

pydantic compiles a validator for each of dozens of models, most of which a command never uses:
building them where they are first used saves a tenth of the imports of a run. So a default that is
such a model is written `Model.model_construct()`, which needs no validator.
"""

from __future__ import annotations

from pydantic import ConfigDict

FROZEN = ConfigDict(frozen=True, extra="forbid", defer_build=True)
FINITE = ConfigDict(frozen=True, extra="forbid", defer_build=True, allow_inf_nan=False)
"""The same, for values of which none may be infinite."""
