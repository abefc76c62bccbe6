"""Five jobs that show what Night Monk does, each another side of it. Their answers stand in `corpus/starter`, or nowhere."""

from __future__ import annotations

from typing import Any

JOBS: tuple[dict[str, Any], ...] = (
    {  # a figure of the handbook, to be quoted with file and line
        "kind": "answer",
        "input": {"question": "How much memory does the KV cache of Qwen3-30B-A3B take at 128k?"},
        "tags": ["demo"],
        "seed": 1,
    },
    {  # the handbook does not say: an honest program says so
        "kind": "answer",
        "input": {"question": "How much electricity does a nine-hour night cost?"},
        "tags": ["demo"],
        "seed": 2,
    },
    {  # several samples, one vote
        "kind": "think",
        "input": {
            "question": "A night has 32400 seconds and the model writes 3 tokens per second. How many tokens is that? "
            'Multiply, and end with a line "Answer: " and the number.'
        },
        "budget": {"samples": 3, "tokens": 360},
        "tags": ["demo"],
        "seed": 3,
    },
    {  # one whole document, in the reader's own language
        "kind": "read",
        "input": {"document": "12-kratko-po-russki.md", "questions": ["Когда печатается цитата?"]},
        "tags": ["demo", "по-русски"],
        "seed": 4,
    },
    {  # raw messages with sampling of one's own
        "kind": "chat",
        "input": {
            "messages": [
                {"role": "system", "content": "You answer in one short sentence."},
                {"role": "user", "content": "Why do monks rise before dawn?"},
            ],
            "max_tokens": 60,
            "temperature": 0.7,
        },
        "tags": ["demo"],
        "seed": 5,
    },
)
