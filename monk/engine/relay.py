"""Log records of the child, sent to the parent, whose journal they belong in."""

from __future__ import annotations

import logging
from contextlib import suppress

from monk.engine.wire import Channel

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Relay(logging.Handler):
    """Constant text and fields, as they were given."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(logging.INFO)
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        facts = {name: _plain(value) for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info:
            facts["reason"] = logging.Formatter().formatException(record.exc_info)
        frame = {"event": "log", "level": record.levelno, "text": record.getMessage(), "facts": facts}
        with suppress(OSError):  # the parent is gone, and so are we in a moment
            self._channel.send(frame)


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | None) else str(value)
