"""What mutants of the code that computes a step there are: a sample, and the code of each.

A place is drawn first, by a fixed seed, then one of the changes that cosmic-ray's operators would
make of it.
"""

import ast
import inspect
import random
import types
import warnings
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOMS = ("engine", "program", "collectives", "memory", "experts")
COMPILED = ("compiled", "coflows", "heap", "rows", "sharing")
"""Files of `engine` that numba compiles: checked bit for bit against the reference instead."""


class Mutation(NamedTuple):
    """One change of one file."""

    path: Path
    operator: str
    occurrence: int
    line: int

    def text(self):
        """Return the line that it changes."""
        return self.path.read_text(encoding="utf-8").splitlines()[self.line - 1].strip()


def files():
    """Return the files that are changed, room by room."""
    return [path for room in ROOMS for path in sorted(Path("simulator", room).rglob("*.py"))]


def sample(seed, count):
    """Return mutations of functions: a place is drawn first, then one of what it can become."""
    draw, places = random.Random(seed), []
    for path in files():
        if path.as_posix() != "simulator/engine/compiled.py":
            places += sites(path).values()
    draw.shuffle(places)
    changes = [draw.choice(place) for place in places[:count]]
    return {number: change for number, change in enumerate(changes) if runs(change.path)}


def runs(path):
    """Tell whether mutants of a file would run."""
    return path.parts[1] != "engine" or path.stem not in COMPILED


def sites(path):
    """Return the mutations in the functions of a file: (place, operator) -> those to choose from."""
    text = path.read_text(encoding="utf-8")
    bodies = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    inside = {at for node in bodies for at in range(node.body[0].lineno, node.end_lineno + 1)}
    nodes, found = list(ast_nodes(get_ast(text))), defaultdict(list)
    for name in operator_names():
        if get_operator(name).arguments():  # asks what to change into what
            continue
        operator = get_operator(name)()
        starts = [begin for node in nodes for begin, _ in operator.mutation_positions(node)]
        family = name.split("/")[1].split("_")[0]
        for occurrence, begin in enumerate(starts):
            if begin[0] in inside:
                found[begin, family].append(Mutation(path, name, occurrence, begin[0]))
    return found


def functions(code):
    """Yield the code of functions and methods, not of those inside others."""
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            if constant.co_flags & inspect.CO_OPTIMIZED:
                yield constant
            else:  # the body of a class
                yield from functions(constant)


def changed(change):
    """Return the code that a mutation changes and what it becomes; None if it changes none."""
    path, text = change.path.resolve(), change.path.read_text(encoding="utf-8")
    mutated = mutate_code(text, get_operator(change.operator)(), change.occurrence)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # of `is` with a literal
        old, new = (compile(source, path, "exec") for source in (text, mutated))
    both = zip(functions(old), functions(new), strict=True)
    return next((pair for pair in both if pair[0] != pair[1]), None)
