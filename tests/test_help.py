"""The help: every command in one sentence, every option in a full sentence, at once."""

import subprocess
import sys
import time

import click
import pytest

from simulator.cli import commands
from simulator.cli.outputs import ORDER

GROUP = commands.cli
OPTIONS = {
    f"{name} {option.opts[0]}": option
    for name, command in GROUP.commands.items()
    for option in command.params
    if isinstance(option, click.Option) and not option.hidden
}


def shown(*arguments):
    """Return the help as it is printed where no terminal says how wide it is."""
    done = subprocess.run(
        [sys.executable, "-m", "simulator", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout


def test_commands_are_listed_from_a_run_to_the_tools():
    lines = shown("--help").split("Commands:\n")[1].splitlines()
    assert tuple(line.split()[0] for line in lines) == ORDER
    assert set(ORDER) == set(GROUP.commands)


def test_every_command_is_one_sentence_that_fits_its_line():
    for line in shown("--help").split("Commands:\n")[1].splitlines():
        sentence = line.split(maxsplit=1)[1]
        assert sentence[0].isupper()
        assert sentence.endswith(".")
        assert not sentence.endswith("..."), line
        assert len(line) <= 80


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_says_in_a_sentence_what_it_does(name):
    text = OPTIONS[name].help
    assert text[0].isupper()
    assert text.endswith(".")


def test_the_help_imports_nothing_heavy():
    code = "import sys; from simulator.cli.commands import _main; _main(['--help']); "
    code += "print([n for n in ('numpy', 'pydantic', 'numba', 'matplotlib', 'rich') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_help_comes_at_once():
    # A quarter of a second where nothing else runs; the bound is for machines that are busy.
    start = time.perf_counter()
    shown("--help")
    assert time.perf_counter() - start < 5
