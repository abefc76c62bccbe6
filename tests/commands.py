"""The command line as a person meets it: a process of its own, its exit status, its two streams."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOBODY = 65534


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    status: int
    out: str
    err: str

    def refusal(self) -> str:
        """The one line of a mistake that the user can mend: status 2, nothing but it on either stream."""
        assert (self.status, self.out) == (2, ""), self
        assert self.err.count("\n") == 1 and self.err.endswith("\n"), self
        assert self.err.rstrip("\n").isprintable(), self
        return self.err.rstrip("\n")


def monk(
    environ: dict[str, str], *arguments: str, stdin: str = "", user: int | None = None, seconds: float = 60.0
) -> Ended:
    """Run `monk` to its end; `user`: with the rights of this user id only. One that does not end is killed and fails."""
    command = [sys.executable, "-m", "monk.cli", *arguments]
    if user is not None:
        command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command]
    done = subprocess.run(
        command, env=environ, input=stdin, capture_output=True, text=True, cwd=ROOT, timeout=seconds, check=False
    )
    return Ended(done.returncode, done.stdout, done.stderr)
