"""The group of all commands, and how a call ends."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

import click

from simulator.cli.emit import say
from simulator.cli.outputs import Group


def main() -> None:
    """Run the command line. Exit status: 0 success, 2 bad usage or bad input, 1 anything else."""
    # A program is hundreds of thousands of small objects without cycles; looking for cycles takes
    # 8% of a run.
    gc.set_threshold(500_000, 20, 20)
    status = _main(sys.argv[1:])
    sys.exit(status)


def _main(arguments: Sequence[str]) -> int:
    from simulator.errors import InputError, SimulateError

    try:
        # Not standalone, so that errors come here and end in one line; pages tell the call (`obj`).
        status = cli.main(
            list(arguments),
            prog_name="simulate",
            standalone_mode=False,
            obj=tuple(arguments),
        )
        return int(status or 0)
    except (click.exceptions.Abort, KeyboardInterrupt):
        say("interrupted")
        return 130
    except click.ClickException as error:
        return _usage(error)
    except (InputError, SimulateError) as error:
        say(f"simulate: {error}")
        return 2 if isinstance(error, InputError) else 1
    except BrokenPipeError:
        # The reader of our output has gone, as `simulate ... | head` does.
        sys.stderr.close()
        return 1
    except OSError as error:
        file = error.filename or "output"
        reason = error.strerror or error
        say(f"simulate: {file}: {reason}")
        return 1


def _usage(error: click.ClickException) -> int:
    """Say what is wrong with a call in one line."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return 2
    context = getattr(error, "ctx", None)
    # click breaks lines and indents, for example before the values of an argument.
    message = " ".join(error.format_message().split())
    if context:
        end = "" if message.endswith((".", "?", "?)")) else "."
        message += f"{end} Try '{context.command_path} --help'."
    say(f"simulate: {message}")
    return error.exit_code


@click.group(
    cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="simulate", message="%(prog)s %(version)s")
def cli() -> None:
    """Simulate what a training run costs on a cluster, and why.

    TOPOLOGY and WORKLOAD are YAML files, or bare names of shipped ones.
    """
