"""A single e-mail message in a file of its own."""

from __future__ import annotations

from corpus.readers.mail import Letters
from corpus.reading import Reading, ReadingBuilder
from corpus.tags import tags_of


def read(data: bytes) -> Reading:
    """One section, headed by subject, sender and date; attachments are named as lost."""
    letters = Letters(ReadingBuilder("line"))
    subject = letters.add(data, 1)
    return letters.builder.finish(subject, "email", lost=letters.lost, tags=tags_of(letters.keywords))
