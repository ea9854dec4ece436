"""The recipes of CONTRIBUTING.md, followed to the letter in a copy of the checkout."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from simulator import bounds, engine

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("simulator", "topologies", "workloads", "tests")
FILES = ("pyproject.toml",)
PROGRAMS = {"simulate": [sys.executable, "-m", "simulator"], "python": [sys.executable]}
"""What a line of commands begins with -> what runs in the copy."""


class Block(NamedTuple):
    """A block between fences."""

    language: str
    text: str


def recipes():
    """Return the recipes: title -> its blocks. What stands before the first of them is titled ''."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    chapter = text.split("\n## Recipes\n")[1].split("\n## ")[0]
    first, *rest = chapter.split("\n### ")
    parts = {"": first} | dict(part.split("\n", 1) for part in rest)
    return {title: blocks(part) for title, part in parts.items()}


def blocks(text):
    return [Block(*found) for found in re.findall(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S)]


RECIPES = recipes()
AFTER = RECIPES.pop("")
"""What is done after any recipe."""


def write(folder, block):
    """Write a block that begins with the path of its file."""
    head, text = block.text.split("\n", 1)
    path = folder / head.removeprefix("# ")
    assert path.parent.is_dir()
    assert not path.exists(), "a recipe adds files, and changes them by diffs"
    path.write_text(text, encoding="utf-8")


def apply(folder, block):
    """Change a file by a diff, whose lines must stand there once, next to each other."""
    head, *lines = block.text.splitlines()
    path = folder / head.removeprefix("--- ")
    assert {line[:1] for line in lines} <= {" ", "+", "-"}
    old = "".join(f"{line[1:]}\n" for line in lines if line[:1] != "+")
    new = "".join(f"{line[1:]}\n" for line in lines if line[:1] != "-")
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{path}: {text.count(old)} times\n{old}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def run(folder, block):
    """Run the commands of a block; return what they print."""
    printed = []
    for line in block.text.splitlines():
        program, *arguments = shlex.split(line)
        done = subprocess.run(
            [*PROGRAMS[program], *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        printed.append(done.stdout)
    return "\n".join(printed)


def follow(folder, steps):
    """Do what blocks say; return what their commands print."""
    printed = []
    for block in steps:
        if block.language == "diff":
            apply(folder, block)
        elif block.language == "sh":
            printed.append(run(folder, block))
        else:
            write(folder, block)
    return "\n".join(printed)


@pytest.fixture
def checkout(tmp_path):
    """Copy what a recipe needs of the checkout."""
    ignore = shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignore)
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path / name)
    # Machine code as well, found by what it is made of: a recipe compiles only what it changes.
    for code in (engine.CODE, bounds.CODE):
        if folder := code.folder():
            kept = tmp_path / "simulator" / "compiled" / "__pycache__"
            kept.mkdir(exist_ok=True)
            shutil.copy(folder / code.name, kept)
    return tmp_path


SHOWN = {
    "A schedule": "eager",
    "A GPU": "gh200",
    "A collective": "all_pairs",
    "A dispatcher": "unique_all_to_all",
    "A software stack": "ddp",
    "A model": "Qwen3 8B",
    "A published case": "dgxc_h100/70b-64-fp8",
}
"""Recipe -> what its commands print only with the new part."""
NAMES = ("eager", "gh200", "all_pairs", "unique_all_to_all", "ddp")
"""Parts that files can name."""


def test_every_recipe_is_followed():
    assert set(SHOWN) == set(RECIPES)


@pytest.mark.slow
@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_works_in_a_clean_checkout(title, checkout):
    assert SHOWN[title] in follow(checkout, RECIPES[title])


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_is_one_file_and_one_row(title):
    # A model has two files, its own and a run's; a part of a table is imported and named.
    steps = [block for block in RECIPES[title] if block.language != "sh"]
    added = [block for block in steps if block.language != "diff"]
    changed = {block.text.splitlines()[0] for block in steps if block.language == "diff"}
    changed = {head for head in changed if not head.startswith("--- tests/")}
    assert len(added) <= 2
    assert len(changed) <= 1
    assert any(block.language == "sh" for block in RECIPES[title])


@pytest.mark.slow
def test_all_recipes_fit_one_checkout_and_its_schemas(checkout):
    for steps in RECIPES.values():
        follow(checkout, [block for block in steps if block.language != "sh"])
    follow(checkout, AFTER)
    schemas = "".join(
        (checkout / f"simulator/data/schemas/{kind}.json").read_text(encoding="utf-8")
        for kind in ("topology", "workload")
    )
    assert all(f'"{name}"' in schemas for name in NAMES)
    listed = run(checkout, Block("sh", "simulate keys schedule.name\nsimulate validate dgxc_h100"))
    assert "eager" in listed
    assert "70b-64-fp8" in listed
    style = "python -m ruff check simulator tests\npython -m ruff format --check simulator tests"
    run(checkout, Block("sh", style))


def test_the_commands_of_the_guide_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path in re.findall(r"`((?:tests|simulator|results|workloads)/[\w/.]+\w)`", text):
        assert (ROOT / path).exists(), path
