"""From what the model said to what can be printed: each sentence stands on a quotation, or is kept apart.

Policy: a sentence that the sources bear out (see `corpus.support`) carries its citations; a number in it that stands in no
document but follows from some that do is marked as computed, with the step. A sentence that they do not bear out goes to
`unsupported`, so that nobody takes it for something that was read. Where nothing of an answer is borne out, or only what is
beside the question, the sentence of the documents that comes nearest to the question is printed first, word for word; where
that is not near, with the word that nothing was found. References that the model itself writes, such as "[2]", are its words
and prove nothing: they are taken out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from corpus.citations import Citation
from corpus.retrieval import Hit
from corpus.sentences import units
from corpus.support import Support, nearest, nearness, supports
from corpus.terms import query_words
from jobs.phrases import phrase

_ENDS = (".", "!", "?", "…", ":", "。", "！", "？", ")", "]", '"', "»", "”", "`", "*", "|")
_SHOWN_WORDS = 16  # of those that were looked for
BEARS_ON = 0.3  # share of a question's words in the sentence that is shown where nothing else is
CLOSE = 0.5  # the same, from which a sentence is shown before an answer that does not touch it
_REFERENCES = re.compile(
    r"[ \t]?(?:\[\^?\d{1,4}(?:\s*[-–,;]\s*\d{1,4})*\]|【[^】\n]{0,40}】|\((?:excerpt|source|passage)s?\s+\d{1,3}\))",
    re.I,
)
_LIST_MARK = re.compile(r"\A\s*(?:[-*+•>]|#{1,6}|\d{1,3}[.)])\s+")
_LEAD_IN = re.compile(  # says that something is said, and nothing of what
    r"\A(?:(?:according to|based on|as (?:stated|described|mentioned) in|laut|gemäß|selon|d['’]après|"
    r"согласно|по данным|根据|按照)"
    r"[^,，.\n]{0,80}[,，]|"
    r"(?:answer|antwort|réponse|ответ|答案)\s*[:：]|the answer(?: to (?:the|this|that) question)? is:?(?: that)?|"
    r"(?:die antwort|la réponse)(?: ist| est)[: ]|"
    r"(?:yes|so|therefore|thus|hence|however|in short|in summary|overall|also|да|итак|таким образом|поэтому|ja|also|daher|"
    r"zusammengefasst|oui|donc|ainsi|因此|所以|是的)[,:，：])\s*",
    re.I,
)
_DECLINES = re.compile(  # the model itself says that the documents do not answer
    r"\b(?:excerpts?|documents?|text|passages?)\b[^.]{0,60}\b(?:(?:do|does|did) not|don['’]t|doesn['’]t|no)\b|"
    r"\bno (?:information|answer)\b|"
    r"\bnot (?:mentioned|stated|specified|answered|provided)\b|"
    r"\b(?:отрывк|документ|текст)\w*[^.]{0,60}\b(?:не|нет)\b|\bне (?:указан|сказан|упомина)\w+|"
    r"\b(?:Auszüge[n]?|Dokumente?n?|Text)\b[^.]{0,60}\b(?:nicht|kein\w*)\b|"
    r"\b(?:extraits?|documents?|texte)\b[^.]{0,60}\b(?:pas|aucune?)\b|(?:摘录|文档|文中)[^。]{0,30}(?:没有|未|不)",
    re.I,
)
_DRESS = re.compile(r"\*\*|__|(?<!\w)[*_](?=\w)|(?<=\w)[*_](?!\w)|`")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of an answer that stands, as it is printed, with what it stands on."""

    text: str
    grounds: tuple[Support, ...]


@dataclass(slots=True)
class Checked:
    """An answer, sentence by sentence."""

    question: str = ""
    supported: list[Sentence] = field(default_factory=list)
    unsupported: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The sentences that stand, in their order, each with what was computed and the numbers of its citations."""
        return " ".join(self._printed(sentence) for sentence in self.supported)

    def citations(self) -> list[dict[str, Any]]:
        """Each quotation once, in the order of its number."""
        return [citation.to_json() for citation in self._numbered().values()]

    def computed(self) -> list[dict[str, str]]:
        """Every number that was computed, with its step."""
        steps = (step for sentence in self.supported for ground in sentence.grounds for step in ground.computed)
        return [step.to_json() for step in dict.fromkeys(steps)]

    def comes_near(self, citation: Citation, question: str) -> bool:
        """Whether something cited is half as near to the question as this citation; if not, the answer misses the point.

        Where the citation itself is not close, nothing can be said of the point, and anything that is borne out will do.
        """
        if nearness(citation.quote, question) < CLOSE:
            return bool(self.supported)
        quotes = [ground.citation.quote for sentence in self.supported for ground in sentence.grounds]
        best = max((nearness(quote, question) for quote in quotes), default=0.0)
        return best > nearness(citation.quote, question) / 2

    def declines(self) -> bool:
        """Whether the model said that the documents do not answer, and nothing else that stands."""
        return not self.supported and any(_DECLINES.search(sentence) for sentence in self.unsupported)

    def _printed(self, sentence: Sentence) -> str:
        numbers = {key: number for number, key in enumerate(self._numbered(), 1)}
        marks = dict.fromkeys(f"[{numbers[_key(ground.citation)]}]" for ground in sentence.grounds)
        steps = "; ".join(dict.fromkeys(step.step for ground in sentence.grounds for step in ground.computed))
        computed = [phrase("computed", self.question, steps=steps)] if steps else []
        return " ".join([sentence.text, *computed, *marks])

    def _numbered(self) -> dict[tuple[str, int, int], Citation]:
        found: dict[tuple[str, int, int], Citation] = {}
        for sentence in self.supported:
            for ground in sentence.grounds:
                found.setdefault(_key(ground.citation), ground.citation)
        return found


def _key(citation: Citation) -> tuple[str, int, int]:
    return citation.file, citation.start, citation.end


def check(answer: str, sources: Sequence[Hit], question: str = "") -> Checked:
    """Every sentence of the answer held against the sources. A repeated one counts once: small models loop."""
    checked = Checked(question)
    for sentence in dict.fromkeys(_sentences(answer)):
        grounds = supports(_DRESS.sub("", _LEAD_IN.sub("", sentence)), sources, question)
        if grounds:
            checked.supported.append(Sentence(sentence, tuple(grounds)))
        else:
            checked.unsupported.append(sentence)
    return checked


def _sentences(answer: str) -> Iterator[str]:
    """What the model said, without its own references and list marks, and without what the token limit cut in the middle."""
    whole = len(answer.rstrip())
    for start, end in units(answer):
        sentence = answer[start:end]
        if end == whole and start and not sentence.endswith(_ENDS):
            continue
        sentence = _LIST_MARK.sub("", _REFERENCES.sub("", sentence)).strip()
        if any(map(str.isalnum, sentence)) and not sentence.endswith(("?", "？")):  # a question states nothing
            yield sentence


def result(question: str, answer: str, sources: Sequence[Hit]) -> dict[str, Any]:
    """The job's result for an answer from these sources, by the policy above."""
    checked = check(answer, sources, question)
    found = nearest(question, sources, BEARS_ON)
    if found is not None and checked.declines():
        return _declined(question, found)
    borne_out = bool(checked.supported)
    if found is not None and not borne_out and nearness(found.quote, question) < CLOSE:
        return _far(question, found, checked.unsupported, sources)
    if found is not None and not checked.comes_near(found, question):
        checked.supported.insert(0, Sentence(_quotation(found, question), (Support(found, 1.0),)))
    if not checked.supported:
        return nothing_found(sources, checked.unsupported, question)
    computed = checked.computed()
    return {
        "answer": checked.text() if borne_out else f"{checked.text()}\n\n{phrase('not_borne_out', question)}",
        "found": True,
        "citations": checked.citations(),
        "unsupported": checked.unsupported,
        **({"computed": computed} if computed else {}),
    }


def _declined(question: str, found: Citation) -> dict[str, Any]:
    """The model says that there is no answer: its word against a sentence that comes near. The reader sees both."""
    quote = f"{_quotation(found, question)} [1]"
    return {
        "answer": phrase("declined", question, quote=quote),
        "found": False,
        "citations": [found.to_json()],
        "unsupported": [],
    }


def _far(question: str, found: Citation, unsupported: Sequence[str], sources: Sequence[Hit]) -> dict[str, Any]:
    """Nothing is borne out, and the nearest sentence is not near: no answer, but the reader sees the sentence."""
    refusal = nothing_found(sources, unsupported, question)
    quote = f"{_quotation(found, question)} [1]"
    return {**refusal, "answer": f"{refusal['answer']}\n\n{quote}", "citations": [found.to_json()]}


def _quotation(found: Citation, question: str) -> str:
    return phrase("quotation", question, quote=" ".join(found.quote.split()))


def nothing_found(looked_at: Sequence[Hit], unsupported: Sequence[str] = (), question: str = "") -> dict[str, Any]:
    """The honest result when the documents do not answer: what was looked for and what came nearest, in the question's
    language."""
    files = list(dict.fromkeys(hit.file for hit in looked_at))[:3]
    answer = phrase("not_answered", question)
    if files:
        if words := query_words(question)[:_SHOWN_WORDS]:
            answer += phrase("looked_for", question, words=", ".join(words))
        answer += phrase("came_nearest", question, files=", ".join(files))
    return {"answer": answer, "found": False, "citations": [], "unsupported": list(unsupported)}
