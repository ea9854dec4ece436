"""A process that simulates what it is told, a line of JSON each way; `processes.Scenarios` talks to it.

In: {"topology", "workload", "sets", "folded"}. Out: CPU seconds of each phase, and figures of the report.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from simulator.engine import run
from simulator.program import lower
from simulator.report import summarise
from simulator.scenario import load


def answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Simulate one scenario."""
    clock = [time.process_time()]
    scenario = load(asked["topology"], asked["workload"], asked["sets"])
    clock.append(time.process_time())
    program = lower(scenario, folded=asked.get("folded", True))
    clock.append(time.process_time())
    timeline = run(program, asked.get("executor", "auto"))
    clock.append(time.process_time())
    report = summarise(timeline)
    clock.append(time.process_time())
    names = ("load", "lower", "run", "summarise")
    phases = zip(names, clock, clock[1:], strict=False)
    return {
        "phases": {name: end - start for name, start, end in phases},
        "step_time": report.step_time,
        "rows": timeline.events,
        "bounds": {bound.name: bound.seconds for bound in report.bounds},
        "parts": list(report.breakdown.values()),
    }


def main() -> None:
    """Answer until there is no more to read."""
    # As the command line and the workers of a sweep do.
    gc.set_threshold(500_000, 20, 20)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
