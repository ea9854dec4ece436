"""Compiled functions, and where what was compiled is kept: everything that numba compiles goes through here.

numba keeps machine code next to the source or under HOME. In a container neither may be writable,
and a process that is killed leaves files that cannot be read. Here the temporary folder is used
instead, then no cache at all, and a file that cannot be read is compiled anew (`numba_cache`).

`machine` keeps the code of functions that every run needs such that it is loaded without numba,
which takes half a second to import and to prepare; `linking` compiles plain functions with all that
they call; `places` says where files may lie.

numba is imported when the first function is compiled, not before.
"""

from __future__ import annotations

from simulator.compiled.linking import with_callees
from simulator.compiled.machine import MachineCode
from simulator.compiled.numba_cache import inner, outer

__all__ = ["MachineCode", "inner", "outer", "with_callees"]
