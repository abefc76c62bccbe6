"""The README is tested like code: its settings, commands, routes and folders are the real ones."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from jobs.registry import OURS
from monk.settings import table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_settings_table_is_the_one_the_program_prints() -> None:
    assert f"<!-- settings: python -m monk.settings -->\n{table()}\n<!-- end of settings -->" in README


def test_every_folder_of_the_file_map_exists_and_every_package_is_in_it() -> None:
    section = README.split("## File map")[1].split("##")[0]
    folders = set(re.findall(r"^\| `([a-z/]+)/` \|", section, re.M))

    assert {"monk", "jobs", "corpus", "db", "systemd", "tests"} <= folders
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []
    files = re.findall(r"`([a-z_]+\.py)`", section)
    assert [file for file in files if not (ROOT / "monk" / file).is_file()] == []


def test_every_kind_is_told() -> None:
    assert [kind for kind in OURS if f"| `{kind}` |" not in README] == []


def test_every_command_of_the_readme_exists() -> None:
    from typer.main import get_command

    from monk.cli.app import app

    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    used = set(re.findall(r"(?:bin/|`)monk ([a-z-]+)", README))

    assert used - known == set()


def test_every_route_of_the_readme_exists() -> None:
    from monk.api import create_app  # noqa: F401  # imported so that a broken application fails here first

    told = set(re.findall(r"(?:GET|POST|DELETE) (/[a-z/{}]+)", README))
    source = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "monk" / "api").glob("*.py"))

    missing = [route for route in told if re.sub(r"\{[a-z]+\}", "{", route).split("{")[0] not in source]
    assert missing == []


@pytest.mark.parametrize("name", ["demo", "test"])
def test_the_two_commands_are_in_the_makefile(name: str) -> None:
    assert f"\n{name}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"make {name}" in README


def test_every_dependency_says_why_it_is_there() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    needed = tomllib.loads(text)["project"]["dependencies"]

    assert [one for one in needed if not re.search(re.escape(f'"{one}",') + r"\s+# \w+", text)] == []


def test_the_repository_speaks_of_no_machine() -> None:
    foreign = re.compile(r"/(?:root|home/[a-z]+)/|--(?:extra-)?index-url")

    assert foreign.findall(README) == []
