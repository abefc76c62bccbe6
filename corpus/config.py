"""What the library is told: folders, models, sizes and limits. Reads no file and no environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from corpus.recognition import Recognition

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class CorpusConfig:
    """One library. Only `folder` and `chroma_dir` must be given; the rest is good as it stands."""

    folder: Path  # what may be read; nothing outside it is
    chroma_dir: Path  # vectors; may be deleted at any time, the next sync makes them again
    embedding_model: str | None = None  # folder or name of a sentence-transformers model; None: the embedded MiniLM
    reranker: str | None = None  # folder or name of a sentence-transformers CrossEncoder; None: none
    embedding_threads: int = 1  # the engine wants the other cores
    embedding_batch: int = 32  # texts per forward pass
    chunk_tokens: int = 192  # at most, by the embedding model's tokenizer
    chunk_overlap_tokens: int = 0  # whole sentences repeated from the passage before
    max_file_bytes: int = 256 * MIB  # larger files are named, not read
    reading_timeout_seconds: float = 120.0  # per document; per part of a long one
    reading_memory_bytes: int = 4096 * MIB  # address space of the reading process
    recognition: Recognition = field(default_factory=Recognition)  # how scans are read
    sync_batch_passages: int = 256  # passages embedded between two commits

    def __post_init__(self) -> None:
        assert self.chunk_tokens >= 16, "chunk_tokens below 16 cuts every sentence"
        assert 0 <= self.chunk_overlap_tokens <= self.chunk_tokens // 2, (
            "overlap above half a passage repeats everything"
        )
        assert self.embedding_threads >= 1 and self.embedding_batch >= 1 and self.sync_batch_passages >= 1
