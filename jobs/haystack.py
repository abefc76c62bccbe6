"""Plain prose of any length that says nothing of importance, with facts put into it at chosen depths.

The prose is made from lists of words: the same for the same seed, without a digit, and without a word of the names under which
facts are hidden. The handbook would not do: it is a few pages long, so that a long prompt would be its own repetition, and
it is full of numbers that a model could take for the ones it is asked for. Knows words and counts, no model and no job.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

PARAGRAPH = 7  # sentences
TOKENS_PER_SENTENCE = 18  # a first guess
CAREFUL = 8  # guesses, before the search halves what is left of its range

# Names of things that facts are about. No word of them is in the prose.
MATERIALS = (
    *("copper", "velvet", "marble", "crimson", "amber", "ivory", "cobalt", "granite", "scarlet", "bronze", "emerald"),
    *(
        "crystal",
        "violet",
        "pewter",
        "indigo",
        "turquoise",
        "silken",
        "obsidian",
        "golden",
        "ebony",
        "sapphire",
        "leather",
    ),
    *("porcelain", "silver"),
)
THINGS = (
    *("lantern", "compass", "anchor", "falcon", "trumpet", "saddle", "goblet", "dagger", "mirror", "kettle", "banner"),
    *("necklace", "hammer", "statue", "whistle", "telescope", "chariot", "medal", "crown", "barrel", "helmet", "mask"),
    *("pendulum", "drum"),
)

WHEN = (
    *(
        "In the early morning",
        "Late in the afternoon",
        "On a quiet evening",
        "After the long winter",
        "Before the harvest",
    ),
    *("Towards the end of summer", "On market day", "When the fog had lifted", "During the first snow", "At low tide"),
    *("While the bread was baking", "Soon after breakfast", "On the way home", "In the shade of the trees", "At noon"),
    *("Long before sunrise", "When the bells had stopped", "In a season of rain", "On a windy day", "Near midnight"),
)
WHO = (
    *("the old gardener", "a young teacher", "the baker from the corner", "her neighbour", "the quiet librarian"),
    *("a tired postman", "the owner of the mill", "his younger sister", "the village doctor", "a visiting painter"),
    *(
        "the ferryman",
        "one of the farmers",
        "the tailor's wife",
        "an honest merchant",
        "the shepherd",
        "a patient nurse",
    ),
    *("the woman at the window", "the boy with the kite", "a retired sailor", "the gatekeeper", "their grandmother"),
    *("the carpenter", "a student of botany", "the last guest", "the fisherman's son", "a stranger in a grey coat"),
    *("the choir leader", "the miller's daughter", "an elderly couple", "the night watchman"),
)
DID = (
    *(
        "walked slowly along the river",
        "mended the wooden fence",
        "read a letter by the fire",
        "carried water to the house",
    ),
    *(
        "watched the boats come in",
        "planted beans behind the shed",
        "told a story about the sea",
        "opened all the windows",
    ),
    *("waited for the coach to the city", "looked for the path through the forest", "counted the sheep on the hill"),
    *("bought apples and a loaf of bread", "swept the leaves from the stairs", "listened to the rain on the roof"),
    *("cleaned the boots of the whole family", "drew a map of the valley", "sat down on the bench under the oak"),
    *("wrote a few lines into a notebook", "asked the way to the station", "tied the horse to the gate"),
    *("cooked a thick soup with beans", "hung the washing on the line", "searched the attic for old letters"),
    *("spoke with the children about birds", "made tea for everybody", "closed the shop and went home"),
    *("painted the door in a light colour", "picked berries at the edge of the wood", "repaired the net with care"),
    *("fed the chickens in the yard", "brought a basket of plums", "sang a song that nobody knew"),
)
BECAUSE = (
    *(
        "because the road was still wet",
        "since nobody else had the time",
        "although the wind was cold",
        "as it had always been",
    ),
    *(
        "while the cat slept on the chair",
        "until the light was gone",
        "and thought of the coming spring",
        "without any hurry",
    ),
    *(
        "although it was much too early",
        "because the weather would not hold",
        "as the neighbours had hoped",
        "and was content",
    ),
    *("while the others talked about the weather", "since the shop was closed", "and forgot the time over it"),
    *("so that the day ended well", "as if there were nothing else to do", "and nobody was in a hurry"),
    *("because the kitchen was warm", "although the dog wanted to play", "while the clouds moved over the hills"),
    *("and later slept very well", "since the path was long", "as the custom was in those days"),
)


def sentences(seed: str) -> Iterator[str]:
    """Without end, of hundreds of thousands of different ones: a long text does not repeat itself."""
    drawn = random.Random(seed)
    while True:
        when, who, did, because = (drawn.choice(part) for part in (WHEN, WHO, DID, BECAUSE))
        match drawn.randrange(4):
            case 0:
                yield f"{when}, {who} {did}."
            case 1:
                yield f"{when}, {who} {did} {because}."
            case 2:
                yield f"{_capital(who)} {did} {because}."
            case _:
                other, also = _another(drawn, WHO, who), _another(drawn, DID, did)
                yield f"{_capital(who)} {did}, and {other} {also}."


def _another(drawn: random.Random, choices: Sequence[str], but: str) -> str:
    return drawn.choice([choice for choice in choices if choice != but])


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def with_facts(prose: Sequence[str], facts: Sequence[tuple[float, str]]) -> str:
    """The sentences in paragraphs, and each fact as one more of them, at its depth: 0 before the first, 1 behind the last.
    Facts of the same depth stand in their order."""
    lines: list[str] = []
    waiting = sorted(facts, key=lambda fact: fact[0])
    places = [round(depth * len(prose)) for depth, _ in waiting]
    for place in range(len(prose) + 1):
        while places and places[0] == place:
            lines.append(waiting.pop(0)[1])
            places.pop(0)
        lines += prose[place : place + 1]
    parts = [lines[at : at + PARAGRAPH] for at in range(0, len(lines), PARAGRAPH)]
    return "\n\n".join(" ".join(part) for part in parts)


def longest(count: Callable[[str], int], room: int, seed: str, facts: Sequence[tuple[float, str]]) -> tuple[str, int]:
    """(the text with as many sentences as keep `count(text)` at or below `room`, how many they are).

    `count` gives tokens. It is asked a handful of times: the sentences are alike, so the next guess is near. The number is
    negative when not even the facts alone have room.
    """
    made: list[str] = []
    more = sentences(seed)

    def text_of(size: int) -> str:
        made.extend(islice(more, max(0, size - len(made))))
        return with_facts(made[:size], facts)

    least = count(text_of(0))
    if least > room:
        return text_of(0), -1
    low, low_tokens, high, guesses = 0, least, 0, 0  # high: the smallest size known not to fit; 0: none yet
    each = float(TOKENS_PER_SENTENCE)
    while not high or high - low > 1:
        guess = _next(low, high, (room - low_tokens) / max(each, 1.0), careful=guesses >= CAREFUL)
        tokens = count(text_of(guess))
        each, guesses = (tokens - least) / guess, guesses + 1
        if tokens > room:
            high = guess
        else:
            low, low_tokens = guess, tokens
    return text_of(low), low


def _next(low: int, high: int, ahead: float, *, careful: bool) -> int:
    """A size between `low`, which fits, and `high`, which does not: `ahead` of the first, or in their middle."""
    if careful and high:
        return (low + high) // 2
    guess = low + max(1, int(ahead))
    return min(guess, high - 1) if high else guess


def padding(cost: Callable[[str], int], room: int, seed: str) -> str:
    """Words of the prose that go on behind a text and take at most `room` tokens, as near to it as words allow."""
    plain = (sentence.rstrip(".").replace(",", "").lower() for sentence in islice(sentences(f"{seed}/end"), 40))
    words: list[str] = []
    for word in (word for sentence in plain for word in sentence.split()):
        price = cost(f" {word}")
        if price <= room:
            words.append(word)
            room -= price
        if room <= 0:
            break
    return f" {' '.join(words)}" if words else ""


def names(drawn: random.Random, count: int) -> list[str]:
    """So many things, no two of which have a word in common. At most as many as there are words."""
    return [
        f"{material} {thing}"
        for material, thing in zip(drawn.sample(MATERIALS, count), drawn.sample(THINGS, count), strict=True)
    ]


MOST_NAMES = min(len(MATERIALS), len(THINGS))
