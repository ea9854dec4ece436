"""Constraints and derived columns: arithmetic and comparisons over names with dots, and nothing else.

    layout.ep * layout.pp <= 2048 and topology.node.nvlink >= '200 GB/s bidirectional'

Python's own grammar is read and walked; names, numbers, texts, + - * / // % **, comparisons, `in`,
and, or, not, `a if b else c`, lists, and the functions of FUNCTIONS are known. Texts that are
quantities count in SI units.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simulator import units
from simulator.errors import InputError

Lookup = Callable[[str], Any]
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "ceil": math.ceil,
    "floor": math.floor,
    "log2": math.log2,
    "max": max,
    "min": min,
    "round": round,
    "sqrt": math.sqrt,
}
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: lambda base, power: float(base) ** float(power),  # whole powers could fill the memory
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_TABLES = (units.TIMES, units.SIZES, units.BYTE_RATES, units.FLOP_RATES, units.PRICES)
_HINT = f"Use names, numbers, + - * / // % **, comparisons, and, or, not, {', '.join(FUNCTIONS)}."


class Nothing(Exception):  # noqa: N818 - no error: a value that is not there
    """A part of an expression has no value, so the whole has none."""


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that was read and holds only what is allowed."""

    text: str
    tree: ast.expr

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names that it uses, each once."""
        found: dict[str, None] = {}
        _collect(self.tree, found)
        return tuple(found)

    def value(self, lookup: Lookup) -> Any:
        """Return its value, None where a name has none or arithmetic fails. Errors: InputError."""
        try:
            found = _value(self.tree, lookup)
            return None if isinstance(found, complex) else found
        except (Nothing, ZeroDivisionError, OverflowError):
            return None
        except InputError:  # of the name's own owner; it is a ValueError too
            raise
        except (TypeError, ValueError) as error:
            raise InputError(f"cannot be worked out: {error}", value=self.text) from error


def read(text: object) -> Expression:
    """Return an expression. Errors: InputError on anything that the language does not have."""
    if not isinstance(text, str):
        raise InputError("is no expression", value=text, remedy="Write it as text.")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError("is no expression", value=text, remedy=_HINT) from error
    _check(tree, text)
    return Expression(text, tree)


def number(value: Any) -> Any:
    """Return a quantity's text as its SI number, anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return units.bandwidth(value)
    except InputError:
        pass
    for table in _TABLES:
        try:
            return units.parse(value, table, "")
        except InputError:
            continue
    return value


def _dotted(node: ast.expr) -> str:
    """Return a name with its dots, empty where the node is none."""
    if isinstance(node, ast.Name):
        return node.id
    above = _dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{above}.{node.attr}" if above and isinstance(node, ast.Attribute) else ""


def _parts(node: ast.expr) -> list[ast.expr]:
    """Return what a node is made of; nothing for a name."""
    if _dotted(node):
        return []
    if isinstance(node, ast.Call):
        return node.args
    return [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]


def _check(node: ast.expr, text: str) -> None:
    fine = (
        bool(_dotted(node))
        or isinstance(node, ast.BoolOp | ast.IfExp | ast.List | ast.Tuple)
        or (isinstance(node, ast.Constant) and isinstance(node.value, int | float | str))
        or (isinstance(node, ast.BinOp) and type(node.op) in _BINARY)
        or (isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY)
        or (isinstance(node, ast.Compare) and all(type(op) in _COMPARE for op in node.ops))
        or (isinstance(node, ast.Call) and _dotted(node.func) in FUNCTIONS and not node.keywords)
    )
    if not fine:
        raise InputError(
            f"holds '{ast.unparse(node)}', which expressions cannot", value=text, remedy=_HINT
        )
    for part in _parts(node):
        _check(part, text)


def _collect(node: ast.expr, found: dict[str, None]) -> None:
    if _dotted(node):
        found[_dotted(node)] = None
    for part in _parts(node):
        _collect(part, found)


def _value(node: ast.expr, lookup: Lookup) -> Any:  # noqa: PLR0911 - one for each kind of node
    if name := _dotted(node):
        return _known(lookup(name))
    match node:
        case ast.Constant():
            return number(node.value)
        case ast.BinOp():
            return _BINARY[type(node.op)](
                *(_number(_value(part, lookup)) for part in (node.left, node.right))
            )
        case ast.UnaryOp():
            return _UNARY[type(node.op)](_value(node.operand, lookup))
        case ast.BoolOp():
            return _either(node, lookup)
        case ast.Compare():
            return _compared(node, lookup)
        case ast.IfExp():
            return _value(node.body if _value(node.test, lookup) else node.orelse, lookup)
        case ast.Call():
            return FUNCTIONS[_dotted(node.func)](*(_value(part, lookup) for part in node.args))
        case _:
            return [_value(part, lookup) for part in _parts(node)]


def _known(value: Any) -> Any:
    if value is None:
        raise Nothing
    return number(value)


def _number(value: Any) -> float:
    if not isinstance(value, int | float):  # a text times a large number could fill the memory
        raise TypeError(f"{value!r} is no number")
    return value


def _either(node: ast.BoolOp, lookup: Lookup) -> Any:
    stop = isinstance(node.op, ast.Or)
    value: Any = not stop
    for part in node.values:
        value = _value(part, lookup)
        if bool(value) == stop:
            return value
    return value


def _compared(node: ast.Compare, lookup: Lookup) -> bool:
    left = _value(node.left, lookup)
    for op, part in zip(node.ops, node.comparators, strict=True):
        right = _value(part, lookup)
        if not _COMPARE[type(op)](left, right):
            return False
        left = right
    return True
