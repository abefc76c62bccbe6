"""Whether the documents bear a statement out, and by which of their sentences. No model is asked.

A sentence of a passage bears a statement out when it holds most of its words, all but one of seven of those that are not the
question's, and

    numbers      every number of the statement, with the same unit; one that is missing may follow by one step of
                 arithmetic from two that are written down, and is then told as computed
    names        every name of the statement, or none of the same kind and the passage is about that name
    negation     what one of them denies the other does not affirm, and neither says the opposite
    quotations   what the statement puts in quotation marks, letter by letter

What is cited is cut out of the document, so it is exact by construction. Headings and questions bear nothing out. A
sentence that begins with "it" or "this" is taken together with the one before. A statement of several clauses may stand on
several sentences, each clause on its own; one too short to stand alone ("12 GiB.") is read together with the question.
Words are compared by their stems: a paraphrase in other words, or in another language, is not recognised and counts as not
borne out; and words alone cannot tell who did what to whom.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from corpus.arithmetic import Computed, computed
from corpus.binding import crossed
from corpus.citations import MIN_QUOTE_CHARACTERS, Citation, citation_at, find_quote
from corpus.names import missing_names, spelled_names
from corpus.numerals import Number, is_number, missing, numbers_in
from corpus.polarity import agree
from corpus.retrieval import Hit
from corpus.sentences import Span, units
from corpus.terms import query_terms, terms

MIN_SHARE = 0.7  # of a statement's words, its numbers apart, that the sentence must hold
MAX_NEW = 0.15  # of a statement's words, those that neither the sentence nor the question holds: one of seven
_MIN_WORDS = 3  # below, a statement says too little without its question
_MAX_CHARACTERS = 600  # a "sentence" beyond this is a listing; a reader would not find the point in it
_MAX_COMPUTED = 3  # more in one sentence is no computation but a list
_CUT_WORD = re.compile(r"(?<=\w)(?:\u00ad\s*|[-\u2010]\s*\n\s*)(?=\w)")
_QUOTED = re.compile(r"“([^”]{1,600})”|„([^“”]{1,600})[“”]|«([^»]{1,600})»|\"([^\"]{1,600})\"|「([^」]{1,600})」")
_CLAUSES = re.compile(
    r";\s+|；|,?\s+(?:while|whereas|but|während|sondern|tandis que|mais|тогда как|но)\s+|,\s+(?:and|und|et|и|а)\s+"
)
_POINTS_BACK = re.compile(
    r"(?:it|its|this|these|that|those|they|their|he|his|she|her|such|он|она|оно|они|это|эта|этот|эти|его|её|их|"
    r"es|er|sie|dies|diese|dieser|dieses|ihr|sein|il|elle|ils|elles|ce|cela|cette|ces|son|sa|leur)\b|[它他她这其]",
    re.I,
)
_CONTRACTED = re.compile(r"['’]")  # isn't, doesn't: negations are looked at by themselves
_LITTLE = frozenset(terms("together along both each alone вместе zusammen sowohl ensemble"))
_TABLE_HEAD = re.compile(r"\n[ \t]*\|?[ \t]*:?-{3,}[-:| \t]*\Z")  # the rule below the names of a table's columns
_YES_OR_NO = frozenset(["yes", "no", "да", "нет", "ja", "nein", "oui", "non", "是", "不", "是的", "不是"])


@dataclass(frozen=True, slots=True)
class Support:
    """The sentence of the corpus that bears a statement out. `share`: of the statement's words, 0..1."""

    citation: Citation
    share: float
    computed: tuple[Computed, ...] = ()


@dataclass(frozen=True, slots=True)
class _Stated:
    """A statement, looked at once for all sentences it is held against."""

    text: str
    words: frozenset[str]
    needed: frozenset[str]  # of these none may be missing
    names: frozenset[str]  # words of its coded names: these may stand in the heading instead
    numbers: tuple[Number, ...]
    quotations: tuple[str, ...]
    asked: tuple[Number, ...]  # numbers of the question
    own: frozenset[str]  # words that the question does not hold and that say something of their own

    @classmethod
    def of(cls, statement: str, question: str) -> _Stated | None:
        """None for what states nothing that could be looked up, such as "Yes."."""
        own = frozenset(_words(statement))
        says_a_number = bool(numbers_in(statement))
        alone = len(own) >= _MIN_WORDS
        text = statement if alone else f"{question}\n{statement}"
        words = frozenset(_words(text))
        if not (own - _YES_OR_NO or says_a_number) or len(words) < _MIN_WORDS - 1:
            return None
        quoted = ("".join(match.groups("")) for match in _QUOTED.finditer(text))
        return cls(
            text=text,
            words=words,
            needed=frozenset() if alone or says_a_number else own,
            names=frozenset(terms(" ".join(spelled_names(text)))),
            numbers=tuple(numbers_in(text)),
            quotations=tuple(one for one in quoted if len(one.strip()) >= MIN_QUOTE_CHARACTERS),
            asked=tuple(numbers_in(question)),
            own=frozenset(word for word in words - _LITTLE - set(terms(question)) if not _CONTRACTED.search(word)),
        )


def supports(statement: str, hits: Sequence[Hit], question: str = "") -> list[Support]:
    """The sentences on which a statement stands: one, or one for each of its clauses. Empty: it is not borne out."""
    if (one := support(statement, hits, question)) is not None:
        return [one]
    clauses = _CLAUSES.split(statement)
    if len(clauses) < 2 or any(len(_words(clause)) < _MIN_WORDS for clause in clauses):
        return []
    found = [support(clause, hits, question) for clause in clauses]
    return [] if None in found else [one for one in found if one is not None]


def support(statement: str, hits: Sequence[Hit], question: str = "") -> Support | None:
    """The sentence that bears a statement out best, by the share of the statement's words in it; None when none does.

    Of equals the first hit's first sentence is taken. Numbers of the `question` may enter a computation.
    """
    stated = _Stated.of(statement, question)
    best: Support | None = None
    if stated is None:
        return None
    for hit in hits:
        if any(find_quote(hit.text, quotation) is None for quotation in stated.quotations):
            continue
        in_heading = stated.names & frozenset(terms(f"{hit.title}\n{hit.heading}"))
        for candidate in _candidates(hit.text):
            there = candidate.words | in_heading
            share = len(stated.words & there) / len(stated.words)
            if len(stated.own - there) > MAX_NEW * len(stated.words - _LITTLE):
                continue
            if share < MIN_SHARE or (best is not None and share <= best.share) or _is_heading(candidate.text, hit):
                continue
            steps = _borne_out(stated, candidate, hit)
            if steps is not None:
                best = Support(citation_at(hit, candidate.span), share, steps)
    return best


def nearest(question: str, hits: Sequence[Hit], minimum: float) -> Citation | None:
    """The sentence with the largest share of a question's words; None below `minimum`. Of equals the first hit's first."""
    words = frozenset(query_terms(question))
    ranked = [
        (len(words & candidate.words) / len(words), hit, candidate.span)
        for hit in hits
        for candidate in _candidates(hit.text)
        if words and not _is_heading(candidate.text, hit)
    ]
    share, hit, span = max(ranked, key=lambda one: one[0], default=(0.0, None, (0, 0)))
    return citation_at(hit, span) if hit is not None and share >= minimum else None


def nearness(sentence: str, question: str) -> float:
    """The share of a question's words, numbers among them, that stand in a sentence: 0..1."""
    words = frozenset(query_terms(question))
    return len(words & set(terms(sentence))) / len(words) if words else 0.0


def _words(text: str) -> list[str]:
    """The words that count: not the stop words, and not the numbers, which are compared by value."""
    plain = " ".join(word for word in text.split() if not is_number(word.strip(".,;:()")))
    return [word for word in query_terms(plain) if not word.isdigit()] if plain else []


def _strayed(stated: _Stated, candidate: _Candidate) -> bool:
    """Whether a number was taken from one of two sentences for the matter of the other: where both hold numbers, most of what is
    said of one must stand in its own sentence ("A takes 3 GiB. It writes 9 KiB a second." does not say that A takes 9)."""
    if not candidate.parts or not all(map(numbers_in, candidate.parts)):
        return False
    said = stated.words - stated.names
    beside = [frozenset(terms(part)) for part in candidate.parts]
    for number in stated.numbers:
        own = [
            words
            for words, part in zip(beside, candidate.parts, strict=True)
            if not missing([number], numbers_in(part))
        ]
        if own and all(len(said & words) < len(said) / 2 for words in own):
            return True
    return False


def _is_heading(sentence: str, hit: Hit) -> bool:
    """Whether it is a heading or begins with a line of one, the head of a table, or a question: those name a matter and state
    nothing of it."""
    if _TABLE_HEAD.search(sentence) or sentence.startswith("#") or sentence.rstrip('# \t"“”').endswith(("?", "？")):
        return True
    names = (*hit.heading.split(" > "), hit.title)
    first, _, more = sentence.partition("\n")
    begins = _bare(first) if more and len(first) >= MIN_QUOTE_CHARACTERS else None
    return any(_bare(sentence) in name or (begins is not None and begins in name) for name in names)


def _bare(text: str) -> str:
    """On one line, without the marks of headings and quotations."""
    return " ".join(text.split()).strip('#=- "“”')


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One sentence of a passage, or two that belong together; `text` with words cut at line ends made whole."""

    span: Span
    text: str
    words: frozenset[str]
    parts: tuple[str, ...] = ()  # the two


@lru_cache(maxsize=512)
def _candidates(text: str) -> list[_Candidate]:
    """All sentences; kept, because each statement of an answer is held against all of them."""
    ends = units(text)
    together = [
        (before, after)
        for before, after in pairwise(ends)
        if _POINTS_BACK.match(text[after[0] : after[1]]) and "\n\n" not in text[before[1] : after[0]]
    ]
    parted = {(before[0], after[1]): (text[slice(*before)], text[slice(*after)]) for before, after in together}
    fitting = [span for span in (*ends, *parted) if MIN_QUOTE_CHARACTERS <= span[1] - span[0] <= _MAX_CHARACTERS]
    whole = [(span, _CUT_WORD.sub("", text[slice(*span)])) for span in fitting]
    return [_Candidate(span, sentence, frozenset(terms(sentence)), parted.get(span, ())) for span, sentence in whole]


def _borne_out(stated: _Stated, candidate: _Candidate, hit: Hit) -> tuple[Computed, ...] | None:
    """The computations by which the sentence bears the statement out, mostly none; None: it does not."""
    there = numbers_in(candidate.text)
    absent = missing(stated.numbers, there)
    if len(absent) > _MAX_COMPUTED:
        return None
    steps = [computed(number, stated.numbers, there, stated.asked) for number in absent]
    around = f"{hit.title}\n{hit.heading}\n{hit.text}"
    refused = (
        None in steps
        or _strayed(stated, candidate)
        or not stated.needed <= candidate.words
        or missing_names(stated.text, candidate.text, around)
        or crossed(stated.text, candidate.text)
        or not agree(stated.text, candidate.text)
    )
    return None if refused else tuple(step for step in steps if step is not None)
