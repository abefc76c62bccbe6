"""Whether two texts that share their words also say the same way round: "X is not Y" is not borne out by "X is Y".

Looks for negations, clause by clause, and for pairs of opposites, in English, Russian, German, French and Chinese. A word
list and no grammar: it refuses rather too much (what it refuses is shown apart, not lost), and irony passes it by.
"""

from __future__ import annotations

import re

from corpus.terms import query_terms, terms

_NOT_NEGATIONS = re.compile(  # "not only" affirms; 不同 (different), 不断 (always) and their like deny nothing
    r"\bnot (?:only|just|merely)\b|\bnicht nur\b|\bне только\b|\bpas seulement\b|\bno later than\b|"
    r"不同|不断|不仅|不但|不过|不论|不管|不少|不久|不得不|非常|除非|无论|未来|没关系",
    re.I,
)
_NEGATION = re.compile(
    r"\b(?:not|cannot|no|never|none|neither|nor|without|nothing|nobody|nowhere|hardly|unable|impossible)\b|n['’]t\b|"
    r"\b(?:nicht|kein(?:e|en|em|er|es)?|nie|niemals|nichts|niemand|ohne|weder|nirgends|keineswegs|unmöglich)\b|"
    r"\b(?:pas|jamais|aucune?|rien|sans|ni|guère|nulle|impossible)\b|"
    r"\b(?:не|нет|ни|нельзя|никогда|ничего|ничто|никто|никак|нигде|без|невозможно|отсутствует)\b|"
    r"不|没|沒|無|无|未|否|勿",
    re.I,
)
_NE_PLUS = re.compile(r"\bn(?:e\b|['’])[^.;:!?]{0,40}\bplus\b", re.I)
_DENIAL = re.compile(  # of a whole statement: "The claim that X is Y is wrong"
    r"\b(?:wrong|false|incorrect|untrue|myth|"
    r"falsch|unwahr|unrichtig|inexacte?|faux|fausse|erroné|mythe|"
    r"неверно|неверна|неправда|ложь|ложно|ошибочн\w+|миф)\b|错误|不正确|谬误|谣言",
    re.I,
)
_WIDE = (
    re.compile(r"\b(?:always|immer|stets|toujours|всегда)\b|总是|始终|永远", re.I),
    re.compile(r"\b(?:only|nur|seulement|uniquement|только)\b|\bne\b.{1,40}\bque\b|只|仅", re.I),
    re.compile(
        r"\b(?:all|every|each|everything|everyone|alle[nrs]?|jede[nrsm]?|tous|toutes?|chaque|все|всех|всем|каждый|каждая|"
        r"каждое|каждого|любой)\b|所有|全部|每",
        re.I,
    ),
)
_CLAUSE = re.compile(
    r"[,;:()—–，；：（）]|\s-\s|\b(?:and|but|while|whereas|although|though|because|since|unless|than|"
    r"und|sondern|aber|während|obwohl|weil|denn|als|et|mais|car|tandis|parce|и|но|а|хотя|потому|чем)\b|而|但|因为",
    re.I,
)
_HALF = 0.5
_OPPOSITES_TEXT = """
faster quicker rises grows / slower
more larger bigger greater higher / less fewer smaller lower
increases raises grows rises / decreases reduces lowers falls shrinks drops
before / after
always / never
maximum most / minimum least
first / last
open opens opened / closed closes close
allowed permitted / forbidden prohibited
enable enabled / disable disabled
true right correct / false wrong incorrect
begins starts / ends stops
schneller / langsamer
mehr größer höher / weniger kleiner niedriger geringer
steigt erhöht wächst vergrößert / sinkt senkt fällt verringert verkleinert
vor / nach
immer / nie niemals
erlaubt / verboten
öffnet offen / schließt geschlossen
plus grand supérieur / moins petit inférieur
rapide / lent lente
augmente monte / diminue baisse réduit
avant / après
toujours / jamais
autorisé permis / interdit
ouvre ouvert / ferme fermé
быстрее / медленнее
больше выше / меньше ниже
растёт увеличивает повышает ускоряет / падает уменьшает снижает замедляет
до / после
всегда / никогда
разрешено можно / запрещено нельзя
открывается открыт / закрывается закрыт
增加 提高 / 减少 降低
大于 / 小于
之前 / 之后
允许 / 禁止
打开 / 关闭
"""
_OPPOSITES = [
    (frozenset(terms(left)), frozenset(terms(right)))
    for left, _, right in (line.partition(" / ") for line in _OPPOSITES_TEXT.strip().splitlines())
]


def agree(statement: str, evidence: str) -> bool:
    """Whether neither denies what the other affirms, as far as words tell."""
    denied = _denied(statement, evidence) or _denied(evidence, statement)
    return not denied and not _opposed(statement, evidence) and not _widened(statement, evidence)


def _widened(statement: str, evidence: str) -> bool:
    """Whether the statement says "always", "all" or "only" where the evidence does not."""
    return any(kind.search(statement) and not kind.search(evidence) for kind in _WIDE)


def _denied(denying: str, other: str) -> bool:
    """Whether a clause that one text denies is in the other, and not denied there."""
    said = set(query_terms(other))
    theirs = _denied_terms(other)
    return any(
        _concerns(clause, said) and not any(_meets(clause, one) for one in theirs) for clause in _denied_terms(denying)
    )


def _concerns(clause: frozenset[str], said: set[str]) -> bool:
    shared = len(clause & said)
    return shared > _HALF * len(clause) or (bool(said) and shared >= _HALF * len(said))


def _meets(clause: frozenset[str], other: frozenset[str]) -> bool:
    return len(clause & other) >= _HALF * min(len(clause), len(other))


def _denied_terms(text: str) -> list[frozenset[str]]:
    """The words of each denied clause; of the whole text, where it denies as a whole."""
    plain = _NOT_NEGATIONS.sub(" ", text)
    whole = frozenset(_content(plain))
    if _DENIAL.search(plain):
        return [whole]
    if _NE_PLUS.search(plain):
        return [whole]
    found, before = [], frozenset[str]()
    for clause in _CLAUSE.split(plain):
        words = frozenset(_content(clause))
        if _NEGATION.search(clause):
            found.append(words or before or whole)  # "…, or not": what it denies stands before it
        before = words or before
    return found


def _content(clause: str) -> list[str]:
    return query_terms(_DENIAL.sub(" ", _NEGATION.sub(" ", clause)))


def _opposed(statement: str, evidence: str) -> bool:
    """Whether one holds a word, and the other its opposite and not the word itself."""
    said, there = set(terms(statement)), set(terms(evidence))
    return any(
        (said & one and not said & other and there & other and not there & one)
        for left, right in _OPPOSITES
        for one, other in ((left, right), (right, left))
    )
