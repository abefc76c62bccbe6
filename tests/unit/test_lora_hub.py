"""Adapters by name, fetched from a small hub on this machine that speaks as much of the protocol as is needed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from monk.lora.hub import is_repository
from tests.unit.test_lora_refused import peft

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves repositories as folders: {"org/name": folder}. `claimed` lies about sizes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.repositories: dict[str, Path] = {}
        self.claimed: int | None = None
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Page(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        self.server.asked.append(self.path)
        organisation, name, _resolve, revision, *rest = [*self.path.strip("/").split("/"), *[""] * 5]
        folder = self.server.repositories.get(f"{organisation}/{name}")
        if folder is None:
            return self._refuse("RepoNotFound")
        path = folder / rest[0]
        if revision not in ("main", COMMIT, "v2") or not path.is_file():
            return self._refuse("EntryNotFound")
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        size = self.server.claimed if self.server.claimed is not None and not with_body else len(content)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def _refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args: object) -> None: ...


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def fetched(hub_url: str, name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the library reads its hub from the environment when it is imported."""
    folder.mkdir(exist_ok=True)
    code = (
        "import sys; from pathlib import Path; from monk.errors import MonkError; from monk.lora.hub import fetch\n"
        "try: fetch(sys.argv[1], Path(sys.argv[2]))\n"
        "except MonkError as error: sys.exit(f'{error.code}: {error.message}')\n"
    )
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub_url,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(folder / "hf"),
        "NO_PROXY": "*",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    return subprocess.run(
        [sys.executable, "-c", code, name, str(folder)], env=environment, capture_output=True, text=True
    )


def test_an_adapter_comes_whole(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["org/lawyer"] = peft(tmp_path / "there")
    ended = fetched(hub.url, "org/lawyer", tmp_path / "here")

    assert ended.returncode == 0, ended.stderr
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


def test_a_revision_is_asked_for(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["org/lawyer"] = peft(tmp_path / "there")

    assert fetched(hub.url, "org/lawyer@v2", tmp_path / "here").returncode == 0
    assert any("/v2/" in path for path in hub.asked)


def test_what_the_hub_does_not_have_is_one_line(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    hub.repositories["org/empty"] = tmp_path / "empty"

    nobody = fetched(hub.url, "org/nobody", tmp_path / "here")
    empty = fetched(hub.url, "org/empty", tmp_path / "here")

    assert "adapter_unusable: org/nobody cannot be fetched" in nobody.stderr and "Traceback" not in nobody.stderr
    assert "adapter_unusable: org/empty holds no adapter_config.json" in empty.stderr


def test_a_hub_that_claims_more_than_the_disk_holds_is_refused_before_it_sends(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["org/lawyer"] = peft(tmp_path / "there")
    hub.claimed = 100 << 40

    ended = fetched(hub.url, "org/lawyer", tmp_path / "here")

    assert f"has {100 << 40} bytes" in ended.stderr


def test_no_hub_is_unavailable(tmp_path: Path) -> None:
    ended = fetched("http://127.0.0.1:1", "org/lawyer", tmp_path / "here")

    assert "unavailable: " in ended.stderr and "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("org/name", True),
        ("org/name@v1.0", True),
        ("./folder/x", False),
        ("/a/b", False),
        ("a/b/c", False),
        ("name", False),
    ],
)
def test_names_of_repositories_are_told_from_paths(text: str, is_one: bool) -> None:
    assert is_repository(text) is is_one
