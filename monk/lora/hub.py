"""Fetches an adapter from a model hub by name, org/name or org/name@revision. Only the two files of PEFT, nothing that runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from monk.errors import AdapterUnusable, Unavailable
from monk.lora.adapter import MAX_BYTES
from monk.lora.peft_folder import CONFIG, WEIGHTS

_REPOSITORY = re.compile(r"(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w./-]+))?", re.ASCII)
SPARE_BYTES = 1 << 30  # left on the disk beside what is fetched


def is_repository(text: str) -> bool:
    """Whether this can be the name of a repository and is no path that exists."""
    return _REPOSITORY.fullmatch(text) is not None and not Path(text).exists()


def fetch(name: str, folder: Path) -> Path:
    """The adapter's two files, put into `folder`; the hub is HF_ENDPOINT's, or huggingface.co.

    Raises AdapterUnusable when the hub has no such adapter, Unavailable when it cannot be reached.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    match = _REPOSITORY.fullmatch(name)
    if match is None:
        raise AdapterUnusable(f"{name!r} is no repository; write org/name or org/name@revision")
    repository, revision = match["repository"], match["revision"]
    try:
        for file in (CONFIG, WEIGHTS):
            _check_room(repository, file, revision, folder)
            hf_hub_download(repository, file, revision=revision, local_dir=folder)
    except AdapterUnusable:
        raise
    except LocalEntryNotFoundError as exc:
        raise Unavailable(f"the model hub cannot be reached for {name}: {_first_line(exc)}") from exc
    except EntryNotFoundError as exc:
        raise AdapterUnusable(f"{name} holds no {file}: it is no PEFT adapter in safetensors") from exc
    except HfHubHTTPError as exc:
        raise AdapterUnusable(f"{name} cannot be fetched: {_first_line(exc)}; check the name, or HF_TOKEN") from exc
    except Exception as exc:  # offline, or its transport's own errors, which differ from version to version
        raise Unavailable(f"the model hub cannot be reached for {name}: {_first_line(exc)}") from exc
    return folder


def _check_room(repository: str, file: str, revision: str | None, folder: Path) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    size = get_hf_file_metadata(hf_hub_url(repository, file, revision=revision)).size or 0
    free = shutil.disk_usage(folder).free - SPARE_BYTES
    if size > min(MAX_BYTES, free):
        raise AdapterUnusable(
            f"{file} of {repository} has {size} bytes; at most {MAX_BYTES} are taken and {max(0, free)} are free"
        )


def _first_line(exc: Exception) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(exc).__name__
