"""What long work is at, told to whoever watches; work that nobody watches tells nobody.

    with doing("lowering"):
        for rank in counted(ranks, "classes of ranks"):
            ...

A phase that begins within another is a part of it. Only a command line has a watcher: work says the
same wherever it runs, and never learns whether anybody listens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Watcher(Protocol):
    """Whoever shows how far work is. It is called often, so it only takes notes."""

    def begin(self, phase: str) -> None:
        """Note that a phase begins, within those that have not ended."""

    def count(self, done: int, of: int, what: str) -> None:
        """Note how much of the innermost phase is done. of: 0 where nobody knows."""

    def end(self) -> None:
        """Note that the innermost phase has ended."""


# Of a context and not of the process: threads that work for somebody else stay silent.
_WATCHER: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Let a watcher see what the block does."""
    token = _WATCHER.set(watcher)
    try:
        yield
    finally:
        _WATCHER.reset(token)


@contextmanager
def doing(phase: str) -> Iterator[None]:
    """Tell that the block, or the function that this decorates, is a phase."""
    watcher = _WATCHER.get()
    if watcher is None:
        yield
        return
    watcher.begin(phase)
    try:
        yield
    finally:
        watcher.end()


def counting(what: str = "", of: int = 0) -> Callable[[int], None]:
    """Return a function that tells how many are done. of: how many there are, 0 if nobody knows."""
    watcher = _WATCHER.get()
    if watcher is None:
        return _nobody
    count = watcher.count
    return lambda done: count(done, of, what)


def counted(items: Collection[Item], phase: str) -> Iterator[Item]:
    """Yield the items of a phase, and tell which is at work."""
    with doing(phase):
        tell = counting(of=len(items))
        for number, item in enumerate(items, start=1):
            tell(number)
            yield item


def _nobody(done: int) -> None:
    """Tell nobody."""
