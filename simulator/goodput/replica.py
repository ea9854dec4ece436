"""One run from its first step to its last, with what happens on the way: a SimPy process.

The run trains, saves and stops by itself; causes of failure, slow nodes and maintenance interrupt it.
What strikes while it is down makes it begin its restart again.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import simpy

from simulator.errors import InputError
from simulator.goodput.risks import Cause, Risks

Steps = Generator[simpy.Event, Any, None]
SLOW, MAINTENANCE = "slow", "maintenance"
PLANNED = (SLOW, MAINTENANCE)
"""What a run that stands still anyway does not notice."""
MOST_EVENTS = 500_000
"""Failures, checkpoints and stops of one run, after which it counts as one that never ends: about a second.

Two months with a checkpoint every minute are 170,000.
"""


@dataclass(slots=True)
class Outcome:
    """Where the wall time of a run went; the parts sum up to it [s]."""

    training: float = 0.0
    """Steps that the finished run contains."""
    lost: float = 0.0
    """Steps that were done again, since the last checkpoint before a failure."""
    slowed: float = 0.0
    """What slow nodes added to steps."""
    checkpoints: float = 0.0
    """Waiting at checkpoints."""
    detection: float = 0.0
    """Standing still before anybody noticed."""
    restart: float = 0.0
    """Restarting."""
    parts: float = 0.0
    """Waiting for nodes to be repaired, where spares ran out."""
    maintenance: float = 0.0
    """Planned stops."""
    failures: int = 0
    """How often it failed."""

    @property
    def wall(self) -> float:
        """Return the wall time [s]."""
        saved = self.training + self.lost + self.slowed + self.checkpoints
        return saved + self.detection + self.restart + self.parts + self.maintenance


def replica(work: float, risks: Risks, seed: tuple[int, ...]) -> Outcome:
    """Return how a run goes. work: training at full speed [s]. seed: of its chance.

    Errors: InputError where more happens to it than it can ever get over.
    """
    env = simpy.Environment()
    run = _Run(env, work, risks)
    process = env.process(run.train())
    chance = np.random.default_rng(seed)
    for cause in risks.causes:
        env.process(_strikes(env, process, cause, chance))
    if risks.slow.rate:
        env.process(_strikes(env, process, Cause(SLOW, risks.slow.rate), chance))
    if risks.maintenance.every:
        env.process(_maintains(env, process, risks.maintenance.every))
    _finish(env, process, run)
    return run.outcome


def _finish(env: simpy.Environment, process: simpy.Process, run: _Run) -> None:
    """Go on until the run is over. Errors: InputError after too many events."""
    # Step by step instead of env.run: a run that fails faster than it saves would never come back.
    for _ in range(MOST_EVENTS):
        env.step()
        if process.processed:
            return
    raise InputError(
        f"lets the run get through {run.done / run.work:.1%} of its training in {MOST_EVENTS:,} events, "
        f"{run.outcome.failures:,} of them failures",
        remedy="Give it fewer failures and stops, faster restarts, spares or rarer checkpoints.",
    )


def _strikes(
    env: simpy.Environment, run: simpy.Process, cause: Cause, chance: np.random.Generator
) -> Steps:
    """Interrupt the run at random, as long as it goes on."""
    while cause.rate:
        yield env.timeout(chance.exponential(1.0 / cause.rate))
        if run.is_alive:
            run.interrupt(cause.name)


def _maintains(env: simpy.Environment, run: simpy.Process, every: float) -> Steps:
    while True:
        yield env.timeout(every)
        if run.is_alive:
            run.interrupt(MAINTENANCE)


class _Run:
    """The state of one run; it lives in `replica` and dies there."""

    def __init__(self, env: simpy.Environment, work: float, risks: Risks) -> None:
        self.env, self.work, self.risks = env, work, risks
        self.outcome = Outcome()
        self.done = 0.0  # training that the run has behind it [s]
        self.safe = 0.0  # training that a finished checkpoint holds [s]
        self.written = 0.0  # training that the checkpoint on its way holds [s]
        self.arrives = 0.0  # when that is safe [s]
        self.slow_until = 0.0  # when the slow node is found; not slow before that [s]
        self.away: list[float] = []  # when nodes in repair come back [s]

    def train(self) -> Steps:
        """Train until the work is done, and react to what interrupts that."""
        struck = ""
        while struck or self.done < self.work:
            try:
                yield from self._struck(struck) if struck else self._segment()
                struck = ""
            except simpy.Interrupt as interrupt:
                struck = str(interrupt.cause)
        self.outcome.training = self.work

    def _segment(self) -> Steps:
        """Train up to the next checkpoint, and write it unless the run is over."""
        every = self.risks.checkpoints.every
        target = min(self.work, self.safe_or_written + every)
        yield from self._advance(target)
        if self.done < self.work:
            yield from self._save()

    @property
    def safe_or_written(self) -> float:
        """Return the training that the last checkpoint holds, safe or on its way [s]."""
        return max(self.safe, self.written)

    def _advance(self, target: float) -> Steps:
        """Train up to a point, slowly until a slow node is found."""
        while self.done < target:
            left = self.slow_until - self.env.now
            if left <= 0.0:
                yield from self._at_pace(target, 1.0)
                continue
            pace = self.risks.slow.pace
            if self.done + left * pace >= target:
                yield from self._at_pace(target, pace)
            else:
                yield from self._at_pace(self.done + left * pace, pace)
                yield from self._found()

    def _at_pace(self, target: float, pace: float) -> Steps:
        """Train up to a point. pace: speed over that of healthy nodes."""
        seconds = (target - self.done) / pace
        began = self.env.now
        try:
            yield self.env.timeout(seconds)
        except simpy.Interrupt:
            passed = self.env.now - began
            self.outcome.slowed += passed * (1.0 - pace)
            self.done = min(target, self.done + passed * pace)
            raise
        # Not by the clock, whose last bit would keep the run from ever reaching its target.
        self.outcome.slowed += seconds * (1.0 - pace)
        self.done = target

    def _save(self) -> Steps:
        """Write a checkpoint; it is safe after its lag."""
        checkpoints = self.risks.checkpoints
        self._settle()
        began = self.env.now
        try:
            yield self.env.timeout(checkpoints.stall)
        finally:
            self.outcome.checkpoints += self.env.now - began
        self.written = self.done
        self.arrives = self.env.now + checkpoints.lag
        self._settle()

    def _save_for_a_stop(self) -> Steps:
        """Write a checkpoint before a planned stop, and wait until it is safe."""
        checkpoints = self.risks.checkpoints
        yield from self._down(checkpoints.stall + checkpoints.lag, "checkpoints")
        self.safe = self.written = self.done

    def _settle(self) -> None:
        """Take the checkpoint on its way as safe once it has arrived."""
        if self.env.now >= self.arrives:
            self.safe = max(self.safe, self.written)

    def _found(self) -> Steps:
        """Restart without the slow node, from a checkpoint taken for that."""
        self.slow_until = 0.0
        yield from self._save_for_a_stop()
        yield from self._down(self.risks.restart, "restart")

    def _struck(self, cause: str) -> Steps:
        """React to what interrupted the run."""
        if cause == SLOW:
            self.slow_until = max(self.slow_until, self.env.now + self.risks.slow.found)
        elif cause == MAINTENANCE:
            yield from self._save_for_a_stop()
            yield from self._down(self.risks.maintenance.takes, "maintenance")
        else:
            yield from self._failed()

    def _failed(self) -> Steps:
        """Lose what no checkpoint holds, and come back; what fails meanwhile begins that again."""
        down = True
        while down:
            self.outcome.failures += 1
            self._settle()
            self.outcome.lost += self.done - self.safe
            self.done = self.written = self.safe
            try:
                yield from self._down(self.risks.detection, "detection")
                yield from self._wait_for_parts()
                yield from self._down(self.risks.restart, "restart")
                down = False
            except simpy.Interrupt:
                continue

    def _wait_for_parts(self) -> Steps:
        """Wait for a node in repair where no spare is left."""
        if self.risks.spares < 0:
            return
        now = self.env.now
        self.away = sorted(back for back in (*self.away, now + self.risks.repair) if back > now)
        missing = len(self.away) - self.risks.spares
        if missing > 0:
            # So many have to come back, the first ones first; without spares the failed node itself.
            yield from self._down(self.away[missing - 1] - now, "parts")

    def _down(self, seconds: float, part: str) -> Steps:
        """Stand still. Errors: Interrupt if something fails meanwhile."""
        until = self.env.now + seconds
        while self.env.now < until:
            began = self.env.now
            try:
                yield self.env.timeout(until - began)
            except simpy.Interrupt as interrupt:
                self._book(part, self.env.now - began)
                if interrupt.cause not in PLANNED:
                    raise
            else:
                self._book(part, until - began)
                return

    def _book(self, part: str, seconds: float) -> None:
        setattr(self.outcome, part, getattr(self.outcome, part) + seconds)
