"""Constraints and derived columns: arithmetic and comparisons over dotted names, nothing else.

    layout.ep * layout.pp <= 2048 and topology.node.nvlink >= '200 GB/s bidirectional'

Python's own grammar is read and walked; it knows names, numbers, texts, + - * / // % **,
comparisons, `in`, and, or, not, `a if b else c`, lists, and the functions of FUNCTIONS. Texts that
are quantities count in SI units.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from simulator import units
from simulator.errors import InputError

Lookup = Callable[[str], Any]
"""Name with its dots -> value, None where it has none. Errors: InputError."""
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
"""Functions that expressions may call, by name."""
DEEPEST = 100
"""How far an expression may be nested; Python's own stack ends some way behind."""
Operation = Callable[[Any, Any], Any]
_BINARY: dict[type[ast.operator], Operation] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    # As fractions: powers of integers could fill the memory.
    ast.Pow: lambda base, power: float(base) ** float(power),
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_COMPARE: dict[type[ast.cmpop], Operation] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_ALLOWED: dict[type[ast.expr], Callable[[Any], bool]] = {
    ast.BinOp: lambda node: type(node.op) in _BINARY,
    ast.BoolOp: lambda node: True,
    ast.Call: lambda node: _dotted(node.func) in FUNCTIONS and not node.keywords,
    ast.Compare: lambda node: _COMPARE.keys() >= set(map(type, node.ops)),
    ast.Constant: lambda node: isinstance(node.value, int | float | str),
    ast.IfExp: lambda node: True,
    ast.List: lambda node: True,
    ast.Tuple: lambda node: True,
    ast.UnaryOp: lambda node: type(node.op) in _UNARY,
}
"""Kind of node, names aside -> whether the language has this one."""
_TABLES = (units.TIMES, units.SIZES, units.BYTE_RATES, units.FLOP_RATES, units.PRICES)
_HINT = f"Use names, numbers, + - * / // % **, comparisons, and, or, not, {', '.join(FUNCTIONS)}."


class NoValueError(Exception):
    """A part of an expression has no value, so the whole has none."""


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that was read and holds only what is allowed."""

    text: str
    """The expression as written."""
    tree: ast.expr
    """The same, as Python's grammar reads it."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names that it uses, each once, in order of appearance."""
        return tuple(dict.fromkeys(_names(self.tree)))

    def value(self, lookup: Lookup) -> Any:
        """Return its value, None where a name has none or arithmetic fails. Errors: InputError."""
        try:
            value = _value(self.tree, lookup)
        except (NoValueError, ZeroDivisionError, OverflowError):
            return None
        except InputError:  # of the name's own owner; it is a ValueError too
            raise
        except (TypeError, ValueError) as error:
            raise InputError(f"cannot be worked out: {error}", value=self.text) from error
        return None if isinstance(value, complex) else value


def read(text: object) -> Expression:
    """Return an expression. Errors: InputError on anything that the language does not have."""
    if not isinstance(text, str):
        raise InputError("is not an expression", value=text, remedy="Write it as text.")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError("is not an expression", value=text, remedy=_HINT) from error
    _check(tree, text)
    return Expression(text, tree)


def number(value: Any) -> Any:
    """Return a quantity's text as its SI number, anything else as it is."""
    if not isinstance(value, str):
        return value
    # Bandwidths first: `400 GB/s bidirectional` counts half, which no table of units says.
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
    """Return a name with its dots, empty where the node is not a name."""
    if isinstance(node, ast.Name):
        return node.id
    if not isinstance(node, ast.Attribute):
        return ""
    above = _dotted(node.value)
    return f"{above}.{node.attr}" if above else ""


def _parts(node: ast.expr) -> list[ast.expr]:
    """Return what a node is made of; nothing for a name."""
    if _dotted(node):
        return []
    if isinstance(node, ast.Call):
        return node.args
    return [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]


def _check(node: ast.expr, text: str, depth: int = 0) -> None:
    """Refuse what the language does not have. depth: of the node. Errors: InputError."""
    if depth > DEEPEST:
        rule = f"is nested more than {DEEPEST} deep"
        raise InputError(rule, value=text, remedy="Split it into several.")
    if not _dotted(node) and not _is_allowed(node):
        rule = f"holds '{ast.unparse(node)}', which expressions cannot"
        raise InputError(rule, value=text, remedy=_HINT)
    for part in _parts(node):
        _check(part, text, depth + 1)


def _is_allowed(node: ast.expr) -> bool:
    """Return whether the language has a node that is not a name; its parts are another matter."""
    allowed = _ALLOWED.get(type(node))
    return allowed is not None and allowed(node)


def _names(node: ast.expr) -> Iterator[str]:
    if name := _dotted(node):
        yield name
    for part in _parts(node):
        yield from _names(part)


# What follows walks a tree that `_check` has passed: no kind of node, operator or function is
# missing in the tables.


def _value(node: ast.expr, lookup: Lookup) -> Any:
    if name := _dotted(node):
        return _known(lookup(name))
    return _VALUES[type(node)](node, lookup)


def _known(value: Any) -> Any:
    # As in SQL, arithmetic over a gap is a gap; an exception spares each operation the question.
    if value is None:
        raise NoValueError
    return number(value)


def _constant(node: ast.Constant, _: Lookup) -> Any:
    return number(node.value)


def _binary(node: ast.BinOp, lookup: Lookup) -> Any:
    left = _number(_value(node.left, lookup))
    right = _number(_value(node.right, lookup))
    return _BINARY[type(node.op)](left, right)


def _number(value: Any) -> float:
    if not isinstance(value, int | float):  # a text times a large number could fill the memory
        raise TypeError(f"{value!r} is not a number")
    return value


def _unary(node: ast.UnaryOp, lookup: Lookup) -> Any:
    return _UNARY[type(node.op)](_value(node.operand, lookup))


def _bool(node: ast.BoolOp, lookup: Lookup) -> Any:
    """Return the first value that decides, as Python does: `or` stops at a true one."""
    decides = isinstance(node.op, ast.Or)
    value: Any = not decides
    for part in node.values:
        value = _value(part, lookup)
        if bool(value) == decides:
            return value
    return value


def _compare(node: ast.Compare, lookup: Lookup) -> bool:
    # `1 < x < 8` is two comparisons that share x, which is worked out once.
    left = _value(node.left, lookup)
    for op, part in zip(node.ops, node.comparators, strict=True):
        right = _value(part, lookup)
        if not _COMPARE[type(op)](left, right):
            return False
        left = right
    return True


def _choice(node: ast.IfExp, lookup: Lookup) -> Any:
    # The other branch may have no value, or divide by zero.
    chosen = node.body if _value(node.test, lookup) else node.orelse
    return _value(chosen, lookup)


def _call(node: ast.Call, lookup: Lookup) -> Any:
    function = FUNCTIONS[_dotted(node.func)]
    return function(*_list(node, lookup))


def _list(node: ast.expr, lookup: Lookup) -> list[Any]:
    return [_value(part, lookup) for part in _parts(node)]


_VALUES: dict[type[ast.expr], Callable[[Any, Lookup], Any]] = {
    ast.BinOp: _binary,
    ast.BoolOp: _bool,
    ast.Call: _call,
    ast.Compare: _compare,
    ast.Constant: _constant,
    ast.IfExp: _choice,
    ast.List: _list,
    ast.Tuple: _list,
    ast.UnaryOp: _unary,
}
"""Kind of node, names aside -> its value."""
