"""The owner's kinds: one Markdown file each in `$MONK_HOME/jobs`, front matter above, the prompt below. No Python needed.

    ---
    kind: minutes                        # its name; a file may replace one of ours
    summary: Sums up the minutes of a meeting
    inputs:
      text: Text of the minutes          # name: what it is; all are texts
      language: {help: Language of the answer, default: English}
    retrieve: "{{ text }}"               # optional: look passages up and offer them as `hits` and a `fence` to set
                                         # around each; the answer is then checked
    passages: 6
    only: {folder: minutes, tags: [board]}   # optional: which documents are looked into
    max_tokens: 400
    temperature: 0.0
    samples: 1                           # more: the vote of `think`
    system: You write short, exact minutes.
    ---
    Sum up in {{ language }}:

    {{ text }}

A file that cannot be used is told by name and line, and stops nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, ValidationError, create_model, field_validator

from corpus.retrieval import Hit, hit_from_json
from jobs import fields
from jobs.context import Ask, ChatMessage, Context
from jobs.evidence import nothing_found, result
from jobs.excerpts import PLAIN_FENCE, fence, shown
from jobs.prompts import fill
from monk.errors import InvalidInput

_NAME = re.compile(r"^[a-z][a-z0-9_-]{0,40}$")


class OwnInput(fields.Input):
    """One field of an owner's kind. Without a default it must be given."""

    help: str = ""
    default: str | None = None


class Recipe(fields.Input):
    """The front matter."""

    kind: str
    summary: str
    inputs: Annotated[dict[str, OwnInput], Field(min_length=1)]
    retrieve: str | None = None
    passages: Annotated[int, Field(ge=1, le=64)] = 6
    only: fields.Only | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_048_576)] = 400
    temperature: Annotated[float, Field(ge=0, le=10)] = 0.0
    samples: Annotated[int, Field(ge=1, le=256)] = 1
    system: str | None = None

    @field_validator("kind")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not _NAME.match(value):
            raise ValueError("use lower-case letters, digits, - and _, beginning with a letter")
        return value

    @field_validator("inputs", mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError("is a mapping of names to what they are")
        for name in value:
            if not str(name).isidentifier():
                raise ValueError(f"{name!r} cannot be used in a template; use letters, digits and _")
        return {name: {"help": told} if isinstance(told, str) else told or {} for name, told in value.items()}


@dataclass(frozen=True, slots=True)
class OwnKind:
    """A kind made from a file."""

    name: str
    summary: str
    file: Path
    input_model: type[BaseModel]
    run: Callable[[Context], dict[str, Any]]


def load_own_kinds(folder: Path) -> tuple[list[OwnKind], list[str]]:
    """All usable kinds of a folder, and one line for each file that is not. A folder that does not exist has none."""
    kinds: dict[str, OwnKind] = {}
    problems = []
    for file in sorted(folder.glob("*.md")):
        try:
            own = load_own_kind(file)
            if own.name in kinds:
                raise InvalidInput(
                    f"{file}: kind {own.name!r} is defined in {kinds[own.name].file} already; rename one"
                )
            kinds[own.name] = own
        except InvalidInput as exc:
            problems.append(exc.message)
    return list(kinds.values()), problems


def load_own_kind(file: Path) -> OwnKind:
    """One file. Raises InvalidInput with file, field and way out."""
    try:
        head, template = _split(file.read_text(encoding="utf-8"))
        recipe = Recipe.model_validate(yaml.safe_load(head))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise InvalidInput(f"{file} cannot be used: {' '.join(str(exc).split())}") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the front matter"
        raise InvalidInput(f"{file}: {where}: {first['msg'].removeprefix('Value error, ')}") from exc
    except ValueError as exc:
        raise InvalidInput(f"{file}: {exc}") from exc
    _try_out(recipe, template, file)

    def run(ctx: Context) -> dict[str, Any]:
        return _run(ctx, recipe, template, str(file))

    return OwnKind(recipe.kind, recipe.summary, file, _input_model(recipe), run)


def _split(text: str) -> tuple[str, str]:
    match = re.match(r"\A---\s*\n(.*?)\n---\s*\n(.*)\Z", text, re.S)
    if match is None:
        raise ValueError("has no front matter; begin with a line ---, the settings, and a line ---")
    return match[1], match[2]


def _input_model(recipe: Recipe) -> type[BaseModel]:
    described: dict[str, Any] = {
        name: (
            fields.Question if told.default is None else str,
            Field(... if told.default is None else told.default, description=told.help),
        )
        for name, told in recipe.inputs.items()
    }
    return create_model(f"Input_{recipe.kind}", __base__=fields.Input, **described)


def _try_out(recipe: Recipe, template: str, file: Path) -> None:
    """Fill every template once, so that a wrong name is told by day and not at night."""
    values: dict[str, Any] = dict.fromkeys(recipe.inputs, "x")
    if recipe.retrieve is not None:
        fill(recipe.retrieve, values, f"{file} (retrieve)")
        values["hits"] = []
        values["fence"] = PLAIN_FENCE
    for text in (template, recipe.system or ""):
        fill(text, values, str(file))


def _run(ctx: Context, recipe: Recipe, template: str, where: str) -> dict[str, Any]:
    values: dict[str, Any] = dict(ctx.input)
    hits: list[Hit] = []
    query = ""
    if recipe.retrieve is not None:
        query = fill(recipe.retrieve, values, where)
        only = fields.documents(recipe.only)
        rows = ctx.step("retrieve", lambda: [hit.to_json() for hit in ctx.retrieve(query, recipe.passages, only)])
        hits = [hit_from_json(row) for row in rows]
        values["hits"] = shown(hits)
        values["fence"] = fence([hit.text for hit in values["hits"]])
        if not hits:
            return ctx.step("check", lambda: nothing_found((), (), query))
    messages = [ChatMessage("system", fill(recipe.system, values, where))] if recipe.system else []
    messages.append(ChatMessage("user", fill(template, values, where)))
    return _answered(ctx, recipe, messages, hits, query)


def _answered(ctx: Context, recipe: Recipe, messages: list[ChatMessage], hits: list[Hit], query: str) -> dict[str, Any]:
    from jobs.think import vote_or_judge

    samples = int(ctx.budget.get("samples") or recipe.samples)
    limit = int(ctx.budget.get("tokens") or recipe.max_tokens * samples) // samples
    ask = Ask(max_tokens=max(1, limit), temperature=recipe.temperature, top_p=0.95, repeat_penalty=1.05)
    if samples > 1:
        return vote_or_judge(ctx, messages[-1].content, ctx.think_samples("sample", messages, ask, samples))
    said = ctx.think("reply", messages, ask)
    if hits:
        return ctx.step("check", lambda: result(query, said.answer, hits))
    return {"answer": said.answer, "reasoning": said.reasoning, "finish_reason": said.reason}
