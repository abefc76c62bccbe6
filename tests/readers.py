"""Models of one's own that read a prompt of the kind `needle`: they find what stands there, within limits that a test sets."""

from __future__ import annotations

import re
from collections.abc import Callable

FACT = re.compile(r"The number of the ([a-z]+ [a-z]+) is (\d{7})\.")
Answer = Callable[[str], str]


def facts_in(prompt: str) -> dict[str, str]:
    """Numbers by name, as the text of the prompt gives them."""
    return dict(FACT.findall(prompt))


def asked_in(prompt: str) -> list[str]:
    """Names in the question, in order."""
    start = prompt.rindex("Question: ")
    question = prompt[start : prompt.index("?", start) + 1]
    return re.findall(r"\bthe ([a-z]+ [a-z]+)(?=, | and |\?)", question)


def reader(reach: int | None = None, *, blind_at: tuple[float, float] | None = None) -> Answer:
    """Finds everything in prompts of up to `reach` characters, but for what stands between these shares of the prompt."""

    def answer(prompt: str) -> str:
        if reach is not None and len(prompt) > reach:
            return "I do not know."
        facts = facts_in(prompt)
        seen = [name for name in asked_in(prompt) if name in facts and not _hidden(prompt, name, blind_at)]
        return "The numbers are " + ", ".join(facts[name] for name in seen) + "." if seen else "It is not in the text."

    return answer


def _hidden(prompt: str, name: str, blind_at: tuple[float, float] | None) -> bool:
    place = prompt.index(f"The number of the {name}") / len(prompt)
    return blind_at is not None and blind_at[0] <= place <= blind_at[1]
