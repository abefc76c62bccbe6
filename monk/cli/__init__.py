"""The command line. `monk --help` names every command; each command's file holds what it says and prints.

Imports are late: a command loads what it needs when it runs, so that help and completion stay instant.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from monk.errors import MonkError

INTERRUPTED = 130  # 128 + SIGINT, as a shell counts
PIPE_CLOSED = 1  # as typer, which meets it first in most cases


def main() -> NoReturn:
    """The `monk` script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command. 0: done; 2: the user can mend it; 1: ours; every error is one line on stderr."""
    import typer

    from monk.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 shows "?", it does not end the program
    try:
        status = app(args=arguments or ["--help"], prog_name="monk", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except MonkError as exc:
        return _failed(exc.message, exc.exit_status, exc)
    except typer.TyperException as exc:
        return _failed(f"{_sentence(exc.format_message())}; see `{_path_of(exc)} --help`", 2, exc)
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        return PIPE_CLOSED
    except Exception as exc:
        text = f"{type(exc).__name__}: {exc}; a mistake of ours: MONK_LOG_LEVEL=debug shows where"
        return _failed(text, 1, exc)


def _failed(message: str, status: int, exc: BaseException) -> int:
    from monk.cli.terminal import one_line, tell

    if os.environ.get("MONK_LOG_LEVEL") == "debug":  # before and beside the settings: they may be what is wrong
        import traceback

        traceback.print_exception(exc)
    tell(f"monk: {one_line(message)}")
    return status


def _sentence(message: str) -> str:
    return message.rstrip(".")


def _path_of(exc: Exception) -> str:
    context = getattr(exc, "ctx", None)
    return context.command_path if context is not None else "monk"
