"""llama-server of the same llama.cpp: all requests at once over HTTP, since it batches what it has."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from tests.bench.engine.peers import ENVIRONMENT, WARM_TOKENS, Answer, Outcome, PeerFailed, Place
from tests.bench.engine.workloads import TOP_K, Tokens, Work

WIDTHS = (1, 4, 8, 16, 32)  # of -np, in which its best is looked for
LOAD_SECONDS = 120.0
LONGEST_SECONDS = 7200.0


class Server:
    """One width of one build. `give_up_seconds`: a run that takes longer fails; the search for the best uses it."""

    name = "server"

    def __init__(self, path: Path, width: int, extra: tuple[str, ...] = (), give_up_seconds: float | None = None):
        self._path = path
        self._width = width
        self._extra = extra
        self._limit = give_up_seconds or LONGEST_SECONDS

    def run(self, work: Work, place: Place) -> Outcome:
        with self._running(work, place) as port:
            _post(port, _request(work.prompts[0][:WARM_TOKENS][::-1], WARM_TOKENS), LOAD_SECONDS)
            shape = work.shape
            bodies = [
                _request(prompt, shape.new_tokens, shape.temperature, shape.samples, number)
                for number, prompt in enumerate(work.prompts)
            ]
            began = time.perf_counter()
            with ThreadPoolExecutor(len(bodies)) as pool:
                answers = list(pool.map(lambda body: _post(port, body, self._limit), bodies))
            seconds = time.perf_counter() - began
        return Outcome(seconds, tuple(answer for some in answers for answer in some))

    @contextmanager
    def _running(self, work: Work, place: Place) -> Iterator[int]:
        """A server that answers, with a context as long as the others' for each slot; its port."""
        port = _free_port()
        place.folder.mkdir(parents=True, exist_ok=True)
        log = place.folder / "llama-server.log"
        with (
            log.open("wb") as words,
            subprocess.Popen(self._command(work, place, port), stdout=words, stderr=words, env=ENVIRONMENT) as child,
        ):
            try:
                _wait_until_it_answers(child, port, log)
                yield port
            finally:
                child.kill()  # it has nothing to save, and would finish what was given up

    def _command(self, work: Work, place: Place, port: int) -> list[str]:
        threads, context = str(place.threads), str(work.context * self._width)
        command = [str(self._path), "--model", str(place.model), "--host", "127.0.0.1", "--port", str(port)]
        command += ["--parallel", str(self._width), "--ctx-size", context, "--threads", threads]
        return [*command, "--threads-batch", threads, "--threads-http", "40", "--no-ui", "--offline", *self._extra]


def widths_for(work: Work, widths: tuple[int, ...] = WIDTHS) -> tuple[int, ...]:
    """Those that make a difference: samples of one prompt need as many slots, more slots than answers stay empty."""
    wide = [width for width in widths if width >= work.shape.samples]
    useful = [width for width in wide if width <= work.shape.num_answers]
    return tuple(useful or wide[:1] or [work.shape.samples])


def _request(
    prompt: Tokens, new_tokens: int, temperature: float = 0.0, samples: int = 1, seed: int = 0
) -> dict[str, Any]:
    return {
        "prompt": list(prompt),
        "n_predict": new_tokens,
        "n_cmpl": samples,
        "ignore_eos": True,
        "temperature": temperature,
        "top_k": TOP_K,
        "top_p": 1.0,
        "min_p": 0.0,
        "seed": seed,
        "return_tokens": True,
    }


def _post(port: int, body: dict[str, Any], seconds: float) -> list[Answer]:
    """The answers to one request. Raises PeerFailed."""
    client = HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        client.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
        response = client.getresponse()
        text = response.read()
    except (OSError, HTTPException) as exc:
        raise PeerFailed(f"llama-server gave no answer within {seconds:.0f} s ({exc!r})") from exc
    finally:
        client.close()
    if response.status != 200:
        raise PeerFailed(f"llama-server said {response.status}: {text[:200].decode('utf-8', 'replace')}")
    found = json.loads(text)
    rows = found if isinstance(found, list) else [found]
    return [Answer(len(row["tokens"]), row["content"], tuple(row["tokens"])) for row in rows]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_answers(child: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + LOAD_SECONDS
    while time.monotonic() < deadline and child.poll() is None:
        client = HTTPConnection("127.0.0.1", port, timeout=5.0)
        try:
            client.request("GET", "/health")
            if client.getresponse().status == 200:
                return
        except (OSError, HTTPException):
            pass
        finally:
            client.close()
        time.sleep(0.05)
    last = log.read_text("utf-8", "replace").strip().splitlines()[-3:]
    raise PeerFailed(f"llama-server does not start: {' / '.join(last)}")
