"""What is installed: one name for distribution, command and import; types, licence and version."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import simulator

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BUILD = "import sys, hatchling.build as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"


def python(*arguments, **options):
    """Run Python and return what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def unpacked(kind, folder):
    """Build a wheel of this checkout, as pip does, and unpack it as pip would."""
    name = python("-c", BUILD, kind, str(folder), cwd=ROOT).split()[-1]
    with zipfile.ZipFile(folder / name) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


@pytest.fixture(scope="module", params=["build_wheel", "build_editable"])
def site(request, tmp_path_factory):
    pytest.importorskip("hatchling")
    pytest.importorskip("editables")
    return unpacked(request.param, tmp_path_factory.mktemp(request.param))


def installed(site, code):
    """Run code where the unpacked wheel comes first on the path, and the checkout only by its .pth."""
    begin = (
        f"import runpy, site, sys; site.addsitedir({str(site)!r}); "
        f"sys.path.sort(key=lambda path: path != {str(site)!r}); "
    )
    return python("-P", "-c", begin + code, cwd=site.parent)


@pytest.mark.slow
def test_the_package_is_imported_by_the_name_that_is_installed(site):
    code = "import simulate, simulator; print(simulate.__file__, simulate.load is simulator.load)"
    file, same = installed(site, code).split()
    assert Path(file) == site / "simulate" / "__init__.py"
    assert same == "True"


@pytest.mark.slow
def test_python_m_runs_the_command_under_that_name(site):
    code = "sys.argv = ['simulate', '--version']; runpy.run_module('simulate', run_name='__main__')"
    assert installed(site, code) == f"simulate {simulator.__version__}\n"


@pytest.mark.slow
def test_every_public_name_is_there_and_nothing_else(site):
    code = (
        "import simulate, simulator; "
        "same = [getattr(simulate, n) is getattr(simulator, n) for n in simulate.__all__]; "
        "print(all(same), set(simulate.__all__) - set(simulator.__all__)); "
        "print(set(simulator.__all__) - set(simulate.__all__), hasattr(simulate, 'no_such_verb'))"
    )
    assert installed(site, code).split() == ["True", "{'__version__'}", "set()", "False"]


@pytest.mark.slow
def test_what_the_verbs_raise_is_caught_under_either_name(site):
    code = (
        "import simulate\nfrom simulator import errors\n"
        "try:\n    raise errors.UnitError('has no unit')\n"
        "except simulate.InputError as error:\n    print(error)"
    )
    assert installed(site, code) == "has no unit.\n"


def test_wheels_say_that_they_are_typed_and_carry_the_licence(site):
    assert (site / "simulate" / "py.typed").is_file()
    (info,) = site.glob("simulate-*.dist-info")
    assert "Apache License" in (info / "licenses" / "LICENSE").read_text(encoding="utf-8")
    assert "License-Expression: Apache-2.0" in (info / "METADATA").read_text(encoding="utf-8")


def test_the_alias_is_in_a_wheel_once(site):
    assert not (site / "simulator" / "alias").exists()


def test_versions_agree():
    citation = YAML(typ="safe", pure=True).load(ROOT / "CITATION.cff")
    assert {PROJECT["version"], citation["version"], simulator.__version__} == {PROJECT["version"]}
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_project_says_where_it_lives_and_under_which_licence():
    assert PROJECT["license"] == "Apache-2.0"
    assert {"Homepage", "Repository", "Issues", "Changelog"} <= set(PROJECT["urls"])
    assert all(url.startswith(PROJECT["urls"]["Homepage"]) for url in PROJECT["urls"].values())


def test_the_workflow_runs_ci_on_linux_and_the_fast_tests_elsewhere():
    jobs = YAML(typ="safe", pure=True).load(ROOT / ".github/workflows/ci.yml")["jobs"]
    runs = {name: [step.get("run") for step in job["steps"]] for name, job in jobs.items()}
    assert "bash .ci/run" in runs["everything"]
    assert 'python -m pytest -m "not slow"' in runs["fast"]
    assert jobs["fast"]["strategy"]["matrix"]["os"] == ["macos-latest", "windows-latest"]
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert all(oldest in job["strategy"]["matrix"]["python"] for job in jobs.values())


def test_the_form_for_a_wrong_number_asks_for_what_repeats_it():
    form = YAML(typ="safe", pure=True).load(ROOT / ".github/ISSUE_TEMPLATE/wrong-number.yml")
    needed = {
        part["id"] for part in form["body"] if part.get("validations", {}).get("required", False)
    }
    assert needed == {"command", "topology", "workload", "simulated", "measured", "source"}
