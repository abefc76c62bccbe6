"""What may be sent to `POST /jobs`, and how a body of any kind becomes a job: JSON, or a question in plain text."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from db.queue import NewJob
from jobs.registry import Kinds
from monk.api.errors import checked
from monk.api.moments import Moment, iso
from monk.api.wire import decode, load
from monk.engine.binding import THREADS
from monk.engine.client import ModelUse
from monk.engine.model_use import check_ranges
from monk.errors import InvalidInput, NotFound
from monk.lora.shelf import Shelf
from monk.lora.wear import choose

HOW = 'send {"kind": "answer", "input": {"question": "..."}}, or the question as plain text'
_JSON_TYPES = ("application/json", "text/json")
CheckModel = Callable[[ModelUse], None]
_Positive = Annotated[int, Field(gt=0, le=2**31)]


class Budget(BaseModel):
    """What a job may spend. Absent: the kind's own measure. `thinking`: up to 1 a share of each thought's tokens, above that
    tokens."""

    model_config = ConfigDict(extra="forbid", strict=True)

    tokens: _Positive | None = None
    minutes: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None
    samples: _Positive | None = None
    thinking: Annotated[float, Field(ge=0, le=2**31, allow_inf_nan=False)] | None = None


OF_ALL_JOBS = {"context", "slots", "ubatch", "speculation", "mlock", "mmap", "huge_pages", "numa", "cpus", *THREADS}


class ModelSettings(BaseModel):
    """How the model is to run for a job, where not as it does for the house. Ranges: `monk/engine/model_use.py`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    experts: int | None = None
    rope_freq_base: float | None = None
    rope_freq_scale: float | None = None
    yarn_factor: float | None = None
    yarn_original_context: int | None = None
    kv_type_k: str | None = None
    kv_type_v: str | None = None
    flash_attention: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_one_job(cls, values: Any) -> Any:
        """Refuse what is set once for the whole process, and say where."""
        named = sorted(values.keys() & OF_ALL_JOBS) if isinstance(values, dict) else []
        if named:
            raise ValueError(f"{named[0]} holds for the loaded model and so for all jobs; set it in monk.toml")
        return values


class JobRequest(BaseModel):
    """A job as it is sent. `null` means the same as leaving a field out."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Annotated[str, Field(min_length=1, max_length=100)]
    input: Any
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    not_before: Moment | None = None
    deadline: Moment | None = None
    adapter: str | None = None
    model: ModelSettings = Field(default_factory=ModelSettings)
    budget: Budget = Field(default_factory=Budget)
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    tags: Annotated[list[Annotated[str, StringConstraints(min_length=1, max_length=64)]], Field(max_length=32)] = Field(
        default_factory=list
    )
    idempotency_key: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    max_attempts: Annotated[int, Field(ge=1, le=10)] = 3


@dataclass(frozen=True, slots=True)
class Sent:
    """A request's body and the headers that say what it is."""

    body: bytes
    content_type: str = ""
    idempotency_key: str | None = None


def new_job(sent: Sent, kinds: Kinds, shelf: Shelf, now: datetime, check_model: CheckModel = check_ranges) -> NewJob:
    """The job a body asks for, checked in every field. Raises InvalidInput or UnknownKind; nothing is stored."""
    data = _with_key(fields_of(sent), sent.idempotency_key)
    return job_from(data, kinds, shelf, now, check_model)


def job_from(
    data: dict[str, Any], kinds: Kinds, shelf: Shelf, now: datetime, check_model: CheckModel = check_ranges
) -> NewJob:
    """A job from its fields. Raises InvalidInput or UnknownKind."""
    given = {key: value for key, value in _expanded(data).items() if value is not None or key == "input"}
    request: JobRequest = checked(JobRequest, given)
    _in_time(request, now)
    _on_the_shelf(request.adapter, shelf)
    model = request.model.model_dump(exclude_none=True)
    check_model(ModelUse(**model))
    return NewJob(
        kind=request.kind,
        input=kinds.validate(request.kind, request.input),
        priority=request.priority,
        not_before=request.not_before,
        deadline=request.deadline,
        adapter=request.adapter,
        budget=request.budget.model_dump(exclude_none=True),
        seed=_seed(request),
        tags=request.tags,
        idempotency_key=request.idempotency_key,
        max_attempts=request.max_attempts,
        model=model,
    )


def _on_the_shelf(adapter: str | None, shelf: Shelf) -> None:
    if adapter is None:
        return
    try:
        choose(adapter, shelf)
    except NotFound as exc:
        raise InvalidInput(exc.message, param="adapter") from exc


def fields_of(sent: Sent) -> dict[str, Any]:
    """The fields in a body: a JSON object, or plain text as the question of an `answer` job."""
    text = decode(sent.body)
    if not text.strip():
        raise InvalidInput(f"the body is empty; {HOW}")
    type_ = sent.content_type.partition(";")[0].strip().lower()
    if type_.startswith("multipart/"):
        raise InvalidInput(f"a form with parts is not understood; {HOW}")
    if type_ in _JSON_TYPES or type_.endswith("+json"):
        return _object(load(text))
    return _guessed(text, verbatim=type_ == "text/plain")


def _guessed(text: str, *, verbatim: bool) -> dict[str, Any]:
    """curl calls every body a form, so the text itself must tell. Never form-decoded: + and % and & are the question's."""
    start = text.lstrip()
    if start.startswith("{"):
        try:
            return _object(load(text))
        except InvalidInput as exc:
            if start[1:].lstrip().startswith('"') and not verbatim:
                hint = "if it is meant as plain text, send it with content-type: text/plain"
                raise InvalidInput(f"{exc.message}; {hint}", param=exc.param) from exc
    if "\x00" in text:
        raise InvalidInput(f"the question contains U+0000 at character {text.index(chr(0))}; remove it")
    return {"question": text}


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(f"the body is JSON but no object; {HOW}")
    return value


def _expanded(data: dict[str, Any]) -> dict[str, Any]:
    """{"question": ...} is short for the input of an `answer` job."""
    if "question" not in data or "input" in data:
        return data
    rest = {key: value for key, value in data.items() if key != "question"}
    return {"kind": "answer", **rest, "input": {"question": data["question"]}}


def _with_key(data: dict[str, Any], header: str | None) -> dict[str, Any]:
    if header is None:
        return data
    if data.get("idempotency_key") not in (None, header):
        raise InvalidInput(
            "the Idempotency-Key header and the field idempotency_key differ; send one", param="idempotency_key"
        )
    return {**data, "idempotency_key": header}


def _in_time(request: JobRequest, now: datetime) -> None:
    if request.deadline is None:
        return
    if request.deadline <= now:
        raise InvalidInput(f"deadline {iso(request.deadline)} has passed; give a later one", param="deadline")
    if request.not_before is not None and request.not_before >= request.deadline:
        raise InvalidInput("not_before is not before the deadline, so the job could never run", param="not_before")


def _seed(request: JobRequest) -> int:
    """Random, unless the submit may be repeated: then it follows from the key, or the repeat would look like another job."""
    if request.seed is not None:
        return request.seed
    if request.idempotency_key is None:
        return secrets.randbits(63)
    return int.from_bytes(hashlib.sha256(request.idempotency_key.encode()).digest()[:8], "big") >> 1
