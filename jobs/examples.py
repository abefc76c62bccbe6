"""What an adapter is taught: conversations that end with an answer. Read from JSONL, checked line by line. Pure.

Two forms, as the field writes them: {"messages": [{"role", "content"}, ...]} whose last message is the assistant's, and
{"prompt": text, "completion": text}.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from monk.errors import InvalidInput

MOST_EXAMPLES = 200_000
MOST_CHARACTERS = 1_000_000  # of one example
HELD_SHARE = 0.1  # of the examples, kept out of the training and judged with
LEAST_TAUGHT = 2  # examples without which nothing is trained
FORMS = '{"messages": [...]} or {"prompt": ..., "completion": ...}'
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation up to the answer, as (role, text), and the answer that is taught. `source`: where it is from.

    `prompt_ids`: the very tokens the model was asked with, where they are known; then the turns are only for people.
    """

    turns: tuple[tuple[str, str], ...]
    answer: str
    source: str = ""
    prompt_ids: tuple[int, ...] = ()

    @property
    def question(self) -> str:
        """The last thing that was asked."""
        return self.turns[-1][1]

    def to_json(self) -> dict[str, Any]:
        return {
            "turns": [list(turn) for turn in self.turns],
            "answer": self.answer,
            "source": self.source,
            "prompt_ids": list(self.prompt_ids),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Example:
        turns = tuple((role, text) for role, text in row["turns"])
        return cls(turns, row["answer"], row["source"], tuple(row["prompt_ids"]))

    @property
    def key(self) -> str:
        """The same for all examples with this conversation, however they are spaced and cased."""
        told: list[Any] = [
            (role, " ".join(unicodedata.normalize("NFKC", text).casefold().split())) for role, text in self.turns
        ]
        told += [list(self.prompt_ids)] if self.prompt_ids else []
        return hashlib.sha256(json.dumps(told, ensure_ascii=False).encode()).hexdigest()


def read_lines(text: str, name: str) -> list[Example]:
    """All examples of a JSONL text. Raises InvalidInput with the name, the line and what is wrong with it."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                found.append(example_of(json.loads(line), f"{name}:{number}"))
            except (ValueError, RecursionError) as exc:
                raise InvalidInput(
                    f"{name}, line {number}: this is no JSON ({exc}); one object a line", param="examples"
                ) from exc
    if not found:
        raise InvalidInput(f"{name} holds no example; write {FORMS}, one a line", param="examples")
    return found


def example_of(row: Any, place: str) -> Example:
    """Raises InvalidInput, naming the place."""
    if not isinstance(row, Mapping):
        raise _wrong(place, f"is {type(row).__name__}; write {FORMS}")
    if "messages" in row:
        turns, answer = _conversation(row["messages"], place)
    elif "prompt" in row and "completion" in row:
        turns, answer = (
            [("user", _text(row["prompt"], f"{place}, prompt"))],
            _text(row["completion"], f"{place}, completion"),
        )
    else:
        raise _wrong(place, f"has the fields {', '.join(map(str, list(row)[:8])) or 'none'}; write {FORMS}")
    if sum(len(text) for _, text in turns) + len(answer) > MOST_CHARACTERS:
        raise _wrong(place, f"is longer than {MOST_CHARACTERS} characters; cut it into several")
    return Example(tuple(turns), answer, place)


def _conversation(messages: Any, place: str) -> tuple[list[tuple[str, str]], str]:
    if not isinstance(messages, list) or len(messages) < 2:
        raise _wrong(place, "has no messages; at least one of the user and one of the assistant are needed")
    turns = []
    for number, message in enumerate(messages, 1):
        role = message.get("role") if isinstance(message, Mapping) else None
        if role not in ROLES:
            raise _wrong(place, f"has {role!r} as the role of message {number}; use one of {', '.join(ROLES)}")
        turns.append((str(role), _text(message.get("content"), f"{place}, message {number}")))
    if turns[-1][0] != "assistant":
        raise _wrong(place, f"ends with a message of the {turns[-1][0]}; the answer that is taught comes last")
    if turns[-2][0] == "assistant":
        raise _wrong(place, "ends with two messages of the assistant; join them")
    return turns[:-1], turns[-1][1]


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _wrong(
            place, f"is {'empty' if value == '' or isinstance(value, str) else type(value).__name__}; text is needed"
        )
    return value


def _wrong(place: str, what: str) -> InvalidInput:
    return InvalidInput(f"example {place} {what}", param="examples")


def unique(examples: Iterable[Example]) -> list[Example]:
    """Without those that another one repeats; of several answers to one conversation the last stays."""
    last = {example.key: example for example in examples}
    return list(last.values())


def split(examples: list[Example]) -> tuple[list[Example], list[Example]]:
    """(taught, held back). By hash of the conversation, so that an example stays on its side when others are added.

    Where the hash holds none back, the one nearest to it is, as long as enough is left to teach. Raises InvalidInput.
    """
    if len(examples) < LEAST_TAUGHT + 1:
        raise InvalidInput(
            f"{len(examples)} different examples: at least {LEAST_TAUGHT + 1} are needed, of which one is held back to judge "
            "by; write more of them, or ask the same thing in other words",
            param="examples",
        )
    line = sorted(examples, key=lambda example: example.key)
    limit = int(HELD_SHARE * 16**8)
    count = sum(int(example.key[:8], 16) < limit for example in line)
    count = min(max(1, count), len(line) - LEAST_TAUGHT)
    held = {example.key for example in line[:count]}
    return [one for one in examples if one.key not in held], [one for one in examples if one.key in held]
