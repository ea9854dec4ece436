"""Documents -> validated configuration, and what a wrong document is told."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from simulator.errors import InputError
from simulator.inputs.document import Document, Path_

Config = TypeVar("Config", bound=BaseModel)

RULES = {
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "is not finite",
    "literal_error": "is not one of {expected}",
    "bool_type": "is not true or false",
    "bool_parsing": "is not true or false",
    "string_type": "is not a text",
    "int_type": "is not an integer",
    "int_parsing": "is not an integer",
    "float_type": "is not a number",
    "float_parsing": "is not a number",
    "tuple_type": "is not a list",
    "list_type": "is not a list",
    "dict_type": "is not a group of keys",
    "model_type": "is not a group of keys",
}
"""pydantic's name of a rule -> the rule as a clause that follows the value."""
REMEDIES = {
    "bool_type": "Write true or false.",
    "bool_parsing": "Write true or false.",
    "string_type": "Put it into quotes.",
    "tuple_type": "Write [first, second], or one item a line behind '- '.",
    "list_type": "Write [first, second], or one item a line behind '- '.",
    "dict_type": "Write keys below it, with values.",
    "model_type": "Write keys below it, with values.",
}
"""pydantic's name of a rule -> what to write instead, where the rule alone does not say it."""


def validate(document: Document, model: type[Config]) -> Config:
    """Return the document as a frozen configuration.

    Errors: InputError that names file, line, key, value, rule and remedy of the first mistake.
    """
    _check_removed(document, model)
    try:
        return model.model_validate(document.data, context={"file": document.file})
    except ValidationError as error:
        details = error.errors()
        # A mistyped key is also a missing one: the mistyping says more.
        mistyped = [detail for detail in details if detail["type"] == "extra_forbidden"]
        candidates = [*mistyped, *details]
        raise _explain(candidates[0], document, model) from error


def _check_removed(document: Document, model: type[BaseModel]) -> None:
    """Refuse to remove a key that no file could have. Errors: InputError."""
    # Pydantic sees the keys that are there: a misspelt one that was removed leaves no trace.
    for path in sorted(document.overridden, key=str):
        unknown = _unknown_part(path, model)
        if unknown and not _has(document.data, unknown):
            raise _unknown_key(unknown, model).at(**document.locate(unknown))


def _unknown_part(path: Path_, model: type[BaseModel]) -> Path_:
    """Return a path down to the first key that its group does not have, empty if all are known."""
    for depth, key in enumerate(path, start=1):
        if model.model_config.get("extra") != "forbid":
            break  # a group that ignores what it does not know
        field = model.model_fields.get(str(key))
        if field is None:
            return path[:depth]
        inner = next(_configs(field.annotation), None)
        if inner is None:
            # A group of any keys takes what follows; below a plain value there is nothing.
            if depth == len(path) or _takes_any_key(field.annotation):
                break
            return path[: depth + 1]
        model = inner
    return ()


def _takes_any_key(annotation: Any) -> bool:
    """Tell whether an annotation allows a group of keys that it does not name: `dict[str, Any]`."""
    if annotation is Any or annotation is dict or get_origin(annotation) is dict:
        return True
    return any(_takes_any_key(inner) for inner in get_args(annotation))


def _has(tree: Any, path: Path_) -> bool:
    """Tell whether a tree has a key."""
    for key in path:
        if not isinstance(tree, dict) or key not in tree:
            return False
        tree = tree[key]
    return True


def _explain(detail: ErrorDetails, document: Document, model: type[BaseModel]) -> InputError:
    """Return one of pydantic's complaints as simulate says it."""
    path: Path_ = detail["loc"]
    kind = detail["type"]
    context = detail.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, InputError):
        # Raised by a validator of ours; its key, if any, is seen from the group that it validates.
        inner = cause.key.split(".") if cause.key else []
        cause.key = ""
        path = (*path, *inner)
        return cause.at(**document.locate(path))
    if kind == "extra_forbidden":
        error = _unknown_key(path, model)
    elif kind == "missing":
        error = _missing(path, document)
    else:
        error = InputError(
            _rule(detail),
            value=detail["input"],
            remedy=REMEDIES.get(kind, ""),
        )
    return error.at(**document.locate(path))


def _rule(detail: ErrorDetails) -> str:
    """Return the rule that a value breaks, as a clause that follows the value."""
    pattern = RULES.get(detail["type"])
    if pattern:
        return pattern.format(**detail.get("ctx", {}))
    message = detail["msg"]  # pydantic's: a sentence
    return f"is not accepted: {message[0].lower()}{message[1:]}"


def _missing(path: Path_, document: Document) -> InputError:
    """Return the complaint about a key that must be given."""
    if document.is_overridden(path):
        return InputError("cannot be removed: it has no default", remedy="Give it a value.")
    key = path[-1]
    return InputError("is missing", remedy=f"Add '{key}:' there.")


def _unknown_key(path: Path_, model: type[BaseModel]) -> InputError:
    """Return the complaint about a key that its group does not have."""
    *group, key = path
    known = _known_keys(tuple(group), model)
    remedy = ""
    if known:
        remedy = f"Choose from: {', '.join(known)}."
    for near in difflib.get_close_matches(str(key), known, n=1):
        remedy = f"Did you mean '{near}'?"
    return InputError("is not a key here", value=key, remedy=remedy)


def _known_keys(path: Path_, model: type[BaseModel]) -> list[str]:
    """Return the keys that the group at a path knows.

    Follows nested configurations and lists of them.
    """
    for part in path:
        if isinstance(part, int):
            continue  # an item of a list: the list's annotation names the group already
        field = model.model_fields.get(part)
        if field is None:
            return []
        inner = next(_configs(field.annotation), None)
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _configs(annotation: Any) -> Iterator[type[BaseModel]]:
    """Return the configurations that an annotation names: `Jitter | None`, `tuple[Fault, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _configs(inner)
