"""From a report's job to a verdict: is the answer right, and does everything in it stand? Pure but for the look-up."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.phrases import phrase
from tests.bench.night.independent import STANDS, Finding, look_up
from tests.bench.night.questions import Known

_MARKED = re.compile(r"(.+?)((?:\s*\[\d{1,3}\])+)(?=\s|$)", re.S)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_WORD = re.compile(r"[^\W\d_]{4,}")
_SENTENCE = re.compile(r"(?<=[.!?…])\s+")
_COMPUTED = "(computed: "
WEAK = 0.5  # of a sentence's longer words, those that must stand in what it cites
RIGHT, PART, WRONG, BESIDE = "right", "in part", "WRONG", "beside"  # beside: only a quotation, and not the one
FALSE_ANSWER, FALSE_REFUSAL, REFUSED = "FALSE ANSWER", "FALSE REFUSAL", "refused"
UNFINISHED = "unfinished"


@dataclass(slots=True)
class Judged:
    """One question of the night."""

    known: Known
    verdict: str
    answer: str
    files: tuple[str, ...]
    findings: list[Finding]
    loose: list[str] = field(default_factory=list)  # sentences printed as read that what they cite does not bear out
    unsupported: int = 0  # sentences that the report itself kept apart


def judged(known: Known, job: dict[str, Any] | None, folder: Path) -> Judged:
    """The verdict over one job of the report's `done`; None: it is not among them."""
    if job is None:
        return Judged(known, UNFINISHED, "", (), [])
    citations = list(job["citations"])
    return Judged(
        known=known,
        verdict=_verdict(known, job),
        answer=job["answer"],
        files=tuple(dict.fromkeys(citation["file"] for citation in citations)),
        findings=[look_up(folder, citation) for citation in citations],
        loose=[sentence for sentence, quotes in marked(job["answer"], citations) if is_loose(sentence, quotes)],
        unsupported=len(job["unsupported"]),
    )


def _verdict(known: Known, job: dict[str, Any]) -> str:
    if known.kind == "unanswerable":
        return FALSE_ANSWER if job["found"] else REFUSED
    if not job["found"]:
        return FALSE_REFUSAL
    said = _folded(job["answer"])
    there = [any(_folded(spelling) in said for spelling in fact) for fact in known.facts]
    alone = phrase("not_borne_out", known.question) in job["answer"]
    return RIGHT if all(there) else PART if any(there) else BESIDE if alone else WRONG


def marked(answer: str, citations: list[dict[str, Any]]) -> Iterable[tuple[str, str]]:
    """(sentence, all that it cites) of every sentence that carries the number of a citation."""
    for match in _MARKED.finditer(answer):
        numbers = [int(number) for number in re.findall(r"\d+", match[2])]
        quotes = [str(citations[number - 1]["quote"]) for number in numbers if number <= len(citations)]
        sentence = match[1].strip()
        yield sentence if _COMPUTED in sentence else _SENTENCE.split(sentence)[-1], "\n".join(quotes)


def is_loose(sentence: str, quotes: str) -> bool:
    """Whether a number of the sentence stands in none of its quotes and is not called computed, or most of its words do not."""
    said = sentence.partition(_COMPUTED)[0]
    if _COMPUTED not in sentence and set(_numbers(said)) - set(_numbers(quotes)):
        return True
    words = {word.casefold()[:6] for word in _WORD.findall(said)}
    cited = {word.casefold()[:6] for word in _WORD.findall(_joined(quotes))}
    return bool(words) and len(words & cited) < WEAK * len(words)


def _numbers(text: str) -> list[str]:
    return [found.replace(",", "").rstrip(".") for found in _NUMBER.findall(text)]


def _joined(text: str) -> str:
    return re.sub(r"[-\u2010]\s*\n\s*", "", text)


def _folded(text: str) -> str:
    return " ".join(_joined(text).casefold().split())


def table(all_judged: list[Judged]) -> Iterable[str]:
    """The night in lines: a row per question, then the sums."""
    yield f"{'kind':<13} {'question':<22} {'verdict':<14} {'citations':<10} files"
    for one in all_judged:
        good = sum(finding.verdict == STANDS for finding in one.findings)
        yield (
            f"{one.known.kind:<13} {one.known.id:<22} {one.verdict:<14} {f'{good}/{len(one.findings)}':<10} "
            f"{', '.join(one.files)}"
        ).rstrip()
        yield from (f"    {finding.verdict}: {finding.file}, {finding.place}: {finding.quote[:120]!r}"
                    for finding in one.findings if finding.verdict != STANDS)  # fmt: skip
        yield from (f"    not in what it cites: {sentence[:160]!r}" for sentence in one.loose)
    yield ""
    yield from sums(all_judged)


def sums(all_judged: list[Judged]) -> Iterable[str]:
    """What is counted over all questions."""
    for kind in dict.fromkeys(one.known.kind for one in all_judged):
        verdicts = Counter(one.verdict for one in all_judged if one.known.kind == kind)
        told = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
        yield f"{kind:<13} {sum(verdicts.values()):3} questions: {told}"
    findings = Counter(finding.verdict for one in all_judged for finding in one.findings)
    yield f"{'citations':<13} {sum(findings.values()):3} checked: " + ", ".join(
        f"{count} {name}" for name, count in findings.most_common()
    )
    loose = sum(len(one.loose) for one in all_judged)
    apart = sum(one.unsupported for one in all_judged)
    yield f"{'sentences':<13} {loose:3} printed as read and not in what they cite; {apart} kept apart by the report itself"
