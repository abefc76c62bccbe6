"""Every error Night Monk raises on purpose, in one tree. A leaf: imports nothing of ours, all may use it.

    MonkError                       code                   HTTP  exit
    ├── InvalidInput                invalid_input           400     2   the user can mend it by changing what was sent
    │   ├── UnknownKind             unknown_kind            400     2
    │   ├── ContextTooLong          context_too_long        400     2
    │   └── BodyTooLarge            body_too_large          413     2
    ├── NotFound                    not_found               404     2
    ├── Conflict                    conflict                409     2   the state does not allow it
    │   └── LeaseLost               lease_lost              409     1   a newer worker owns the job
    ├── Unauthorized                unauthorized            401     2
    ├── SettingsInvalid             settings_invalid        500     2   monk.toml, MONK_* or a flag is wrong
    ├── HomeUnusable                home_unusable           500     2   read-only, full, locked by another daemon
    │   └── DatabaseTooNew          database_too_new        500     2
    ├── ModelUnusable               model_unusable          500     2   missing, truncated, not GGUF, wrong hash
    │   └── MemoryTooSmall          memory_too_small        500     2   carries the figures
    ├── AdapterUnusable             adapter_unusable        422     2   broken, hostile, or for another model
    ├── DocumentUnreadable          document_unreadable     422     2   broken, encrypted, scanned, too large
    ├── DeadlinePassed              deadline_passed         409     1
    ├── EngineFailed                engine_failed           500     1   the engine refused or lost one thought
    │   └── EngineDied              engine_died             503     1   the child is gone; tokens saved so far stand
    ├── InternalError               internal                500     1   a fault of the program or of a kind
    └── Unavailable                 unavailable             503     1   not ready yet, or the daemon cannot be reached

The text says what, which value, and the way out: `ContextTooLong: prompt has 9412 tokens, a slot holds 8192; shorten it
or raise MONK_CONTEXT`. Facts are attributes, so code decides on classes and never on wording.
"""

from __future__ import annotations

from typing import ClassVar


class MonkError(Exception):
    """Root. `str(error)` is one line for a person; `code` is stable for programs; `facts` are JSON values."""

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, param: str | None = None, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.facts = facts


class InvalidInput(MonkError):
    """What was sent cannot be used; `param` names the field."""

    code = "invalid_input"
    http_status = 400
    exit_status = 2


class UnknownKind(InvalidInput):
    """No such kind of job; the text lists those that exist."""

    code = "unknown_kind"


class ContextTooLong(InvalidInput):
    """A prompt does not fit. Facts: num_tokens, limit_tokens."""

    code = "context_too_long"


class BodyTooLarge(InvalidInput):
    """A request body is above the limit. Facts: limit_bytes."""

    code = "body_too_large"
    http_status = 413


class NotFound(MonkError):
    """A job, report, document or kind with this id does not exist."""

    code = "not_found"
    http_status = 404
    exit_status = 2


class Conflict(MonkError):
    """The thing exists, but its state does not allow this."""

    code = "conflict"
    http_status = 409
    exit_status = 2


class LeaseLost(Conflict):
    """The job was taken over, cancelled or finished meanwhile; this worker's result must not be written."""

    code = "lease_lost"
    exit_status = 1


class Unauthorized(MonkError):
    """The bearer token is missing or wrong."""

    code = "unauthorized"
    http_status = 401
    exit_status = 2


class SettingsInvalid(MonkError):
    """A setting is unknown, out of range or unreadable; `param` names it."""

    code = "settings_invalid"
    exit_status = 2


class HomeUnusable(MonkError):
    """The home cannot be written, is full, or belongs to another running daemon."""

    code = "home_unusable"
    exit_status = 2


class DatabaseTooNew(HomeUnusable):
    """The database was written by a newer Night Monk. Facts: found, known."""

    code = "database_too_new"


class ModelUnusable(MonkError):
    """The model file is missing, truncated, not GGUF, or not the one that was pinned."""

    code = "model_unusable"
    exit_status = 2


class MemoryTooSmall(ModelUnusable):
    """Model, KV and buffers do not fit. Facts: needed_bytes, available_bytes, and the parts by name."""

    code = "memory_too_small"


class AdapterUnusable(MonkError):
    """A LoRA that cannot be read, is not expressible, or does not fit the model; the text names both sides."""

    code = "adapter_unusable"
    http_status = 422
    exit_status = 2


class DocumentUnreadable(MonkError):
    """A document cannot be read: broken, encrypted, a scan without text, too large. Facts: file, reason."""

    code = "document_unreadable"
    http_status = 422
    exit_status = 2


class DeadlinePassed(MonkError):
    """The job's deadline went by before it could end."""

    code = "deadline_passed"
    http_status = 409


class EngineFailed(MonkError):
    """The engine refused or lost one thought; its neighbours go on."""

    code = "engine_failed"


class EngineDied(EngineFailed):
    """The engine process is gone. What it sent before stands; the thought may be submitted again with those tokens."""

    code = "engine_died"
    http_status = 503


class InternalError(MonkError):
    """A fault of the program or of a kind; the text names the exception, the journal has the traceback."""


class Unavailable(MonkError):
    """Not ready, or not reachable, right now."""

    code = "unavailable"
    http_status = 503
