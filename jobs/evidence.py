"""From what the model said to what can be printed: each sentence stands on a quotation, or is kept apart.

Policy: a sentence that the sources bear out carries its citation. One that they do not goes to `unsupported`, so that
nobody takes it for something that was read. Where nothing of an answer is borne out, it is not printed as an answer: the
nearest quotation is shown instead, and where there is none, that nothing was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from corpus.citations import Citation, support
from corpus.retrieval import Hit
from corpus.sentences import sentences

_ENDS = (".", "!", "?", "…", ":", "。", "！", "？", ")", "]", '"', "»", "”", "`", "*")
BEARS_ON = 0.3  # share of a question's words in the sentence that is shown as the nearest


@dataclass(slots=True)
class Checked:
    """An answer, sentence by sentence."""

    supported: list[tuple[str, Citation]] = field(default_factory=list)
    unsupported: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The sentences that stand, in their order, each with the number of its citation."""
        numbers = self._numbers()
        return " ".join(f"{sentence} [{numbers[citation.quote]}]" for sentence, citation in self.supported)

    def citations(self) -> list[dict[str, Any]]:
        """Each quotation once, in the order of its number."""
        by_quote = {citation.quote: citation for _, citation in self.supported}
        return [by_quote[quote].to_json() for quote in self._numbers()]

    def _numbers(self) -> dict[str, int]:
        numbers: dict[str, int] = {}
        for _, citation in self.supported:
            numbers.setdefault(citation.quote, len(numbers) + 1)
        return numbers


def check(answer: str, sources: Sequence[Hit]) -> Checked:
    """Every sentence of the answer held against the sources. A repeated one counts once: small models loop."""
    checked = Checked()
    seen: set[str] = set()
    for start, end in sentences(answer):
        sentence = answer[start:end]
        if sentence in seen or (end == len(answer.rstrip()) and start and not sentence.endswith(_ENDS)):
            continue  # said before, or cut off in the middle by the token limit
        seen.add(sentence)
        found = support(sentence, sources)
        if found is None:
            checked.unsupported.append(sentence)
        else:
            checked.supported.append((sentence, found.citation))
    return checked


def result(question: str, answer: str, sources: Sequence[Hit]) -> dict[str, Any]:
    """The job's result for an answer from these sources, by the policy above."""
    checked = check(answer, sources)
    if checked.supported:
        return {
            "answer": checked.text(),
            "found": True,
            "citations": checked.citations(),
            "unsupported": checked.unsupported,
        }
    nearest = support(question, sources, BEARS_ON)
    if nearest is None:
        return nothing_found(sources, checked.unsupported)
    words = "What the model said is not borne out by the documents. The nearest they say is this. [1]"
    return {
        "answer": words,
        "found": True,
        "citations": [nearest.citation.to_json()],
        "unsupported": checked.unsupported,
    }


def nothing_found(looked_at: Sequence[Hit], unsupported: Sequence[str] = ()) -> dict[str, Any]:
    """The honest result when the documents do not answer; it says what came nearest."""
    files = list(dict.fromkeys(hit.file for hit in looked_at))[:3]
    answer = "The documents do not answer this question."
    if files:
        answer += f" What came nearest, but not near enough, is in {', '.join(files)}."
    return {"answer": answer, "found": False, "citations": [], "unsupported": list(unsupported)}
