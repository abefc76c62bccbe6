"""The reading process itself: takes a descriptor, reads its document, answers with JSON; ends when its parent does.

Never writes a file, and cannot: its limit for that is zero bytes. A document that hangs it is ended by an alarm of its own
as well as by the parent, so that it does not outlive a daemon that was killed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import resource
import signal
import socket
from typing import Any

from corpus.process import HEADER
from corpus.readers import read_bytes
from monk.errors import DocumentUnreadable

_ALARM_GRACE_SECONDS = 5  # the parent's own limit comes first and is the one that is told


def main(memory_bytes: int) -> None:
    """Serve the socket that is our standard input until it closes."""
    _limit(memory_bytes)
    with socket.socket(fileno=os.dup(0)) as pipe:
        while True:
            question, descriptors, _, _ = socket.recv_fds(pipe, 1 << 16, 1)
            if not question:
                return
            answer = _answer(json.loads(question), descriptors[0])
            body = json.dumps(answer, ensure_ascii=False).encode()
            pipe.sendall(HEADER.pack(len(body)) + body)


def _limit(memory_bytes: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is for the daemon
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(question: dict[str, Any], descriptor: int) -> dict[str, Any]:
    signal.alarm(math.ceil(question["timeout_seconds"]) + _ALARM_GRACE_SECONDS)
    try:
        with open(descriptor, "rb") as file:
            data = file.read()
        sha256 = hashlib.sha256(data).hexdigest()
        return {"reading": read_bytes(question["name"], data).to_json(), "sha256": sha256}
    except DocumentUnreadable as exc:
        return {"unreadable": exc.message}
    except MemoryError:
        return {"out_of_memory": True}
    except RecursionError:
        return {"unreadable": "is nested too deeply to be read"}
    except OSError as exc:
        return {"out_of_reach": f"cannot be read: {(exc.strerror or str(exc)).lower()}"}
    except Exception as exc:  # the rim of this process: a reader's own mistake costs one document
        return {"unreadable": f"makes its reader fail ({type(exc).__name__}); please report it"}
    finally:
        signal.alarm(0)
