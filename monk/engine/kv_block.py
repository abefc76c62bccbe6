"""The container of one KV block: what a file holds and how it is known to be whole. Pure; touches no file.

    bytes 0 .. 4095    the head, one page
        magic 8 · version u32 · chunk_bytes u32 · payload_bytes u64 · key 32 · parent 32 (zeros: none)
        start u32 · num_tokens u32 · num_proof u32 · num_chunks u32 · seconds f64 · created f64
        proof ids i32[num_proof] · proof logits f32[num_proof] · digest of every chunk, 16 bytes each
        zeros up to byte 4064 · blake2b-256 of bytes 0 .. 4063
    bytes 4096 ..      the payload, cut into chunks of chunk_bytes (the last one shorter); nothing behind it

All numbers are little-endian. The page's own digest covers every bit of the head, the head's digests cover every bit of
the payload, and payload_bytes must be the file's size less a page: a flipped bit, a cut or an added byte has no place to
hide. The key must be the one asked for, so a file under another's name is refused. A head has one size and its digest
one place in all versions, so reading one never allocates by a number not proved yet.

blake2b, because a restored block is not looked at again before it shapes an answer, and a 32-bit checksum lets one in
four thousand million wrong chunks through. Measured on one core of an AMD EPYC (2026-11): blake2b 0.88 GiB/s, SHA-256
1.7 (some 0.4 without SHA instructions, which older big-memory servers lack), zlib's CRC-32 3.9 (1 to 2 with a plain
zlib). Chunks can be checked by several threads. Even one thread needs a hundredth of the time the prefill took.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monk.errors import EngineFailed

HEAD_BYTES = 4096
DIGEST_BYTES = 32
CHUNK_DIGEST_BYTES = 16
MAX_PAYLOAD_BYTES = 8 << 30  # 2k tokens of a dense 70B model with f32 KV are below it; a larger claim is nonsense
MAX_PROOF = 64
MAX_CHUNKS = 128
LEAST_CHUNK_BYTES = 1 << 20
VERSION = 1

KEY = re.compile(r"[0-9a-f]{64}")
_MAGIC = b"MonkKV\r\n"  # a transfer as text would change it
_FIXED = struct.Struct("<8sIIQ32s32sIIIIdd")
_SEALED = HEAD_BYTES - DIGEST_BYTES
_NO_PARENT = bytes(32)
assert _FIXED.size + MAX_PROOF * 8 + MAX_CHUNKS * CHUNK_DIGEST_BYTES <= _SEALED


class BlockDamaged(EngineFailed):
    """A block's bytes are not what was written, or not what was asked for. Never leaves the store."""


class BlockOutdated(BlockDamaged):
    """A whole block of another version of this container."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What the model says after the block's last token: a fingerprint to compare after a restore."""

    ids: npt.NDArray[np.int32]  # [n] the likeliest tokens, n from 0 to MAX_PROOF
    logits: npt.NDArray[np.float32]  # [n] their raw logits


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The KV of `num_tokens` tokens from position `start` on, as the engine handed it out."""

    key: str  # 64 hex digits, see kv_key.py
    parent: str  # the key of the block before; empty for a text's first
    start: int
    num_tokens: int
    payload: npt.NDArray[np.uint8]  # [payload bytes], at least one
    proof: Proof
    seconds: float  # the prefill of this block alone took


@dataclass(frozen=True, slots=True)
class Head:
    """A block without its payload."""

    key: str
    parent: str
    start: int
    num_tokens: int
    proof: Proof
    seconds: float
    created_at: float  # Unix seconds
    payload_bytes: int
    chunk_bytes: int
    digests: tuple[bytes, ...]  # of the chunks, in order

    @property
    def file_bytes(self) -> int:
        return HEAD_BYTES + self.payload_bytes


def chunk_bytes_for(payload_bytes: int) -> int:
    """The least power of two of at least 1 MiB that cuts the payload into no more than MAX_CHUNKS."""
    size = LEAST_CHUNK_BYTES
    while size * MAX_CHUNKS < payload_bytes:
        size *= 2
    return size


def chunk_digest(chunk: memoryview | bytes) -> bytes:
    """16 bytes. Lets other threads run meanwhile."""
    return hashlib.blake2b(chunk, digest_size=CHUNK_DIGEST_BYTES).digest()


def file_bytes_of(block: Block) -> int:
    """What the block takes on disk."""
    return HEAD_BYTES + block.payload.nbytes


def check(block: Block) -> None:
    """Raises ValueError for a block that cannot be written: the engine's own fault, told before anything is queued."""
    if not 1 <= block.payload.nbytes <= MAX_PAYLOAD_BYTES:
        raise ValueError(f"a payload has {block.payload.nbytes} bytes; 1 to {MAX_PAYLOAD_BYTES} can be kept")
    if block.payload.dtype != np.uint8 or block.payload.ndim != 1 or not block.payload.flags.c_contiguous:
        raise ValueError("a block's payload is one row of bytes without gaps")
    if block.proof.ids.shape != block.proof.logits.shape or block.proof.ids.ndim != 1:
        raise ValueError("a proof has one logit per token")
    if len(block.proof.ids) > MAX_PROOF:
        raise ValueError(f"a proof has {len(block.proof.ids)} tokens; at most {MAX_PROOF} can be kept")
    if not all(KEY.fullmatch(key) for key in (block.key, block.parent or block.key)):
        raise ValueError(f"{block.key!r} on {block.parent!r}: keys have 64 hexadecimal digits, in lower case")
    if not (0 <= block.start < 1 << 32 and 0 < block.num_tokens < 1 << 32):
        raise ValueError(f"{block.num_tokens} tokens at {block.start} cannot be a block")
    if not (math.isfinite(block.seconds) and block.seconds >= 0):
        raise ValueError(f"a block took {block.seconds} seconds")


def pack_head(block: Block, digests: list[bytes], created_at: float) -> bytes:
    """The 4096 bytes before the payload."""
    fixed = _FIXED.pack(
        _MAGIC,
        VERSION,
        chunk_bytes_for(block.payload.nbytes),
        block.payload.nbytes,
        bytes.fromhex(block.key),
        bytes.fromhex(block.parent) or _NO_PARENT,
        block.start,
        block.num_tokens,
        len(block.proof.ids),
        len(digests),
        block.seconds,
        created_at,
    )
    proof = block.proof.ids.astype("<i4").tobytes() + block.proof.logits.astype("<f4").tobytes()
    page = (fixed + proof + b"".join(digests)).ljust(_SEALED, b"\0")
    return page + _seal(page)


def parse_head(page: bytes, key: str, file_bytes: int) -> Head:
    """The head of the file named `key` that is `file_bytes` long. Raises BlockDamaged unless everything fits."""
    _require(len(page) == HEAD_BYTES, "it is shorter than a head")
    _require(page[:8] == _MAGIC and page[_SEALED:] == _seal(page[:_SEALED]), "its head is damaged")
    if int.from_bytes(page[8:12], "little") != VERSION:
        raise BlockOutdated(f"KV block {key[:16]} is of another version; it is computed again", key=key)
    (_, _, chunk_bytes, payload_bytes, found, parent, start, num_tokens, num_proof, num_chunks, seconds, created_at) = (
        _FIXED.unpack_from(page)
    )
    _require(found.hex() == key, "it is another block under this name")
    _require(0 < payload_bytes <= MAX_PAYLOAD_BYTES, "its size is nonsense")
    _require(file_bytes == HEAD_BYTES + payload_bytes, "its payload is cut or has something behind it")
    _require(chunk_bytes == chunk_bytes_for(payload_bytes), "its chunks are of a strange size")
    _require(
        num_chunks == -(-payload_bytes // chunk_bytes) and num_proof <= MAX_PROOF, "its tables are of a strange size"
    )
    _require(num_tokens > 0 and 0 <= seconds < math.inf and math.isfinite(created_at), "its figures are nonsense")
    return Head(
        key=key,
        parent="" if parent == _NO_PARENT else parent.hex(),
        start=start,
        num_tokens=num_tokens,
        proof=_proof(page, num_proof),
        seconds=seconds,
        created_at=created_at,
        payload_bytes=payload_bytes,
        chunk_bytes=chunk_bytes,
        digests=_digests(page, num_proof, num_chunks),
    )


def check_chunk(head: Head, index: int, chunk: memoryview) -> None:
    """Raises BlockDamaged if the payload's chunk `index` is not the one that was written."""
    _require(chunk_digest(chunk) == head.digests[index], "its payload is damaged")


def assemble(head: Head, payload: npt.NDArray[np.uint8]) -> Block:
    """The block of a head and its checked payload."""
    return Block(head.key, head.parent, head.start, head.num_tokens, payload, head.proof, head.seconds)


def _proof(page: bytes, num_proof: int) -> Proof:
    ids = np.frombuffer(page, "<i4", num_proof, _FIXED.size).astype(np.int32)
    logits = np.frombuffer(page, "<f4", num_proof, _FIXED.size + 4 * num_proof).astype(np.float32)
    return Proof(ids, logits)


def _digests(page: bytes, num_proof: int, num_chunks: int) -> tuple[bytes, ...]:
    first = _FIXED.size + 8 * num_proof
    offsets = range(first, first + num_chunks * CHUNK_DIGEST_BYTES, CHUNK_DIGEST_BYTES)
    return tuple(page[offset : offset + CHUNK_DIGEST_BYTES] for offset in offsets)


def _seal(page: bytes) -> bytes:
    return hashlib.blake2b(page, digest_size=DIGEST_BYTES).digest()


def _require(right: bool, what_is_wrong: str) -> None:
    if not right:
        raise BlockDamaged(f"a KV block cannot be used: {what_is_wrong}; it is computed again")
