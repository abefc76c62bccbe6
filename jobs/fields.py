"""Fields that inputs of several kinds share, with their limits."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MAX_QUESTION = 1_000_000  # characters; the context of the model is the limit that counts


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty; write what you want to know")
    return value


Question = Annotated[str, Field(max_length=MAX_QUESTION), AfterValidator(_not_blank)]


class Input(BaseModel):
    """Base of all inputs: frozen, and a field that does not exist is an error, not silence."""

    model_config = ConfigDict(frozen=True, extra="forbid")
