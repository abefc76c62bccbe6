"""What the peers are asked: shapes of a night's work, and prompts of exact length cut from one text.

Works on token ids and knows neither peers nor files, so every peer gets the very same tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

Tokens = tuple[int, ...]

PAD = 256  # llama.cpp rounds a sequence's context up to this
ROOM = 16  # the naive peer shortens an answer that ends exactly at the context's end
SAMPLED_TEMPERATURE = 0.8
TOP_K = 40


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a workload. Token counts are of one prompt; targets are ratios of tokens/s, ours by the peer's; 0: none."""

    name: str
    title: str
    num_prompts: int
    shared_tokens: int  # the document before all questions; 0: the prompts are unrelated
    own_tokens: int
    new_tokens: int
    server_target: float
    naive_target: float
    samples: int = 1  # answers to each prompt; more than one are sampled, since greedy ones would all be the same
    copies: bool = False  # the answer repeats the prompt's text
    read_before: bool = False  # ours reads the document, and is started again before the measuring

    @property
    def num_answers(self) -> int:
        return self.num_prompts * self.samples

    @property
    def num_new_tokens(self) -> int:
        return self.num_answers * self.new_tokens

    @property
    def temperature(self) -> float:
        return SAMPLED_TEMPERATURE if self.samples > 1 else 0.0


SHAPES = (
    Shape("unrelated", "32 unrelated prompts, 96 new tokens", 32, 0, 110, 96, 1.2, 3.0),
    Shape("document", "32 questions behind one document of 1,700 tokens", 32, 1700, 24, 64, 4.0, 3.0),
    Shape("best-of", "best of 16 on one prompt of 1,000 tokens", 1, 0, 990, 128, 1.5, 2.5, samples=16),
    Shape("second-night", "8 questions behind 6,000 tokens read before", 8, 6000, 24, 32, 6.0, 6.0, read_before=True),
    Shape("extraction", "8 answers that copy their prompt, 256 new tokens", 8, 0, 280, 256, 1.6, 3.5, copies=True),
)
NAMES = tuple(shape.name for shape in SHAPES)


def shape_of(name: str, *, quick: bool = False) -> Shape:
    shape = next(shape for shape in SHAPES if shape.name == name)
    return quickened(shape) if quick else shape


def quickened(shape: Shape) -> Shape:
    """The same kind of work, small enough to see that it runs; its times say nothing, so nothing is asked of them."""
    return replace(
        shape,
        title=f"{shape.title} (quick)",
        num_prompts=min(shape.num_prompts, 4),
        shared_tokens=shape.shared_tokens // 10,
        own_tokens=max(16, shape.own_tokens // 8),
        new_tokens=max(8, shape.new_tokens // 8),
        samples=min(shape.samples, 4),
        server_target=0.0,
        naive_target=0.0,
    )


@dataclass(frozen=True, slots=True)
class Book:
    """The text prompts are cut from, and the words around them; all in one model's tokens."""

    body: Tokens
    head: Tokens  # opens the user's turn
    question: Tokens  # between a document and a passage
    repeat: Tokens  # asks for the passage word for word
    tail: Tokens  # opens the answer

    def window(self, start: int, length: int) -> Tokens:
        """`length` tokens from `start` on; behind the end the text begins again."""
        size = len(self.body)
        return tuple(self.body[(start + at) % size] for at in range(length))


@dataclass(frozen=True, slots=True)
class Work:
    """A shape with its prompts."""

    shape: Shape
    prompts: tuple[Tokens, ...]
    document: Tokens  # the beginning that all prompts have in common; empty if there is none to speak of

    @property
    def context(self) -> int:
        """Tokens one sequence must hold, the same for every peer."""
        longest = max(len(prompt) for prompt in self.prompts)
        return -(-(longest + self.shape.new_tokens + ROOM) // PAD) * PAD


def build(shape: Shape, book: Book) -> Work:
    """The same work for the same shape and book."""
    shared = book.head + book.window(0, shape.shared_tokens) + book.question if shape.shared_tokens else book.head
    opening = book.repeat if shape.copies else ()
    step = max(1, (len(book.body) - shape.shared_tokens) // shape.num_prompts)
    prompts = []
    for number in range(shape.num_prompts):
        passage = book.window(shape.shared_tokens + number * step, shape.own_tokens)
        prompts.append(shared + opening + passage + book.tail + (passage[:ROOM] if shape.copies else ()))
    return Work(shape, tuple(prompts), shared if shape.shared_tokens else ())


def copied_share(prompt: Tokens, answer: Tokens, gram: int = 8) -> float:
    """Part of the answer's tokens that end a stretch of `gram` tokens seen before, in the prompt or in the answer.

    The higher, the more can be guessed; a workload that should not repeat itself is judged by this number.
    """
    row = prompt + answer
    seen: set[Tokens] = set()
    repeats = 0
    for end in range(gram, len(row) + 1):
        stretch = row[end - gram : end]
        if end > len(prompt) and stretch in seen:
            repeats += 1
        seen.add(stretch)
    return repeats / max(1, len(answer))
