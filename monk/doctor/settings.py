"""The settings in force, and where each comes from: default, monk.toml, or a variable."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from pydantic import SecretStr

from monk.settings import PREFIX, Settings, load


def in_force(home: Path | None) -> list[tuple[str, str, str]]:
    """(setting, value, source), in the order of the README's table. Raises SettingsInvalid."""
    settings = load(home=home)
    file = settings.home / "monk.toml"
    from_file = set(tomllib.loads(file.read_text(encoding="utf-8"))) if file.exists() else set()
    return [(key, _value(getattr(settings, key)), _source(key, home, file, from_file)) for key in Settings.model_fields]


def _source(key: str, home: Path | None, file: Path, from_file: set[str]) -> str:
    variable = PREFIX + key.upper()
    if key == "home" and home is not None:
        return "--home"
    if os.environ.get(variable):
        return variable
    return str(file) if key in from_file else "default"


def _value(value: object) -> str:
    if value is None:
        return "unset"
    if isinstance(value, SecretStr):
        return "(hidden)"
    return str(value).lower() if isinstance(value, bool) else str(value)
