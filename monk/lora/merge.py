"""Writes a model with adapters worked into its weights, for programs that wear none: W + scale * alpha / rank * B @ A.

The model's file is read through a memory map. Its metadata and the weights that no adapter changes are copied byte for
byte; a changed weight is computed in f32, some rows at a time, so that memory holds a few million values and never a
model. It is written in its own type, rounded anew, or as F16 where that type can only be read (K-quants, IQ). Another type
for the whole model is the engine's requantiser's work, on a copy whose changed weights are F16 at least.
"""

from __future__ import annotations

import math
import mmap
import operator
import shutil
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, BinaryIO, Literal

import gguf
import numpy as np
import numpy.typing as npt

from monk.engine.gguf_file import BLOCKS, GgufFile, Table, Tensor, read_table
from monk.engine.tuning import session
from monk.engine.tuning.formats import BITS, OVERHEAD
from monk.errors import AdapterUnusable, Conflict, HomeUnusable, ModelUnusable
from monk.lora.adapter import Lora, Matrix, Pair, check
from monk.lora.whole import check_file, file_at

Weights = Literal["as-is", "F16", "Q8_0", "Q4_0"]
Told = Callable[[str], None]

PIECE_VALUES = 1 << 22  # of a changed weight at a time
PIECE_BYTES = 16 << 20  # of all others
SPARE_BYTES = 1 << 30  # left on the disk
F32, F16, BF16 = 0, 1, 30
LARGEST = 65504.0  # in F16, the type also of the scales of blocks
NAME, FILE_TYPE, ALIGNMENT = "general.name", "general.file_type", "general.alignment"
_UINT32, _TEXT = 4, 8  # types of metadata

# {type that can be written: `llama_ftype` of a model that is mostly of it}
FILE_TYPES = {F32: 0, F16: 1, 2: 2, 3: 3, 6: 8, 7: 9, 8: 7, BF16: 32}


@dataclass(frozen=True, slots=True)
class Merged:
    """What was written. `widened`: {type: how many weights of it are F16 now}. `rounding`: root mean square of what rounding
    the changed weights to their types added, in parts of that of the change; None where the requantiser rounded."""

    file: Path
    num_bytes: int
    num_tensors: int
    num_changed: int
    widened: dict[str, int]
    rounding: float | None


@dataclass(slots=True)
class _Rounding:
    """Sums of squares over all changed weights: of what is added, and of what rounding makes of it."""

    change: float = 0.0
    error: float = 0.0

    @property
    def share(self) -> float:
        return math.sqrt(self.error / self.change) if self.change else 0.0


@dataclass(frozen=True, slots=True)
class _Change:
    pair: Pair
    scale: float  # of B @ A, alpha and rank worked in

    def rows(self, expert: int, rows: slice) -> Matrix:
        """What it adds to rows of the weight, or of one expert's, [rows, in]."""
        a, b = self.pair.a, self.pair.b
        if a.ndim == 3:
            a, b = a[expert], b[expert]
        return np.float32(self.scale) * (b[rows] @ a)


@dataclass(frozen=True, slots=True)
class _Place:
    """One tensor of the result."""

    source: Tensor
    type_id: int
    offset: int
    changes: tuple[_Change, ...]

    @property
    def num_bytes(self) -> int:
        per_block, block_bytes = BLOCKS[self.type_id]
        return self.source.num_elements // per_block * block_bytes


def merge(
    base: GgufFile,
    worn: Sequence[tuple[Lora, float]],
    target: Path,
    name: str,
    weights: Weights = "as-is",
    *,
    force: bool = False,
    told: Told = lambda _text: None,
) -> Merged:
    """Write the base model with all of `worn` (adapter, scale) in it to `target`, whole or not at all.

    `name` is put behind the model's own. `told` hears what is being done. Raises AdapterUnusable, ModelUnusable for a split
    model or an unreadable weight, Conflict and InvalidInput for the target, HomeUnusable with the figures of the disk.
    """
    _refuse(base, worn, target, force)
    table = read_table(base.path)
    places = _places(table, worn, whole=weights != "as-is")
    header = _header(base.path, table, places, name)
    _check_room(target, base, len(header) + sum(_padded(place.num_bytes, table) for place in places), weights)
    rounding = _Rounding()
    with file_at(target, force=force) as fresh:
        plain = fresh if weights == "as-is" else fresh.with_suffix(".plain")
        try:
            _write(base.path, table, places, header, plain, told, rounding)
            if weights != "as-is":
                told(f"writing all weights as {weights}")
                session.requantise(plain, fresh, weights)
        finally:
            if plain != fresh:
                plain.unlink(missing_ok=True)
    changed = [place for place in places if place.changes]
    wider = [_type_name(place.source.type_id) for place in changed if place.type_id != place.source.type_id]
    as_is = weights == "as-is"
    return Merged(
        file=target,
        num_bytes=target.stat().st_size,
        num_tensors=len(places),
        num_changed=len(changed),
        widened=dict(Counter(wider)) if as_is else {},
        rounding=rounding.share if as_is else None,
    )


# --- what is refused


def _refuse(base: GgufFile, worn: Sequence[tuple[Lora, float]], target: Path, force: bool) -> None:
    if len(base.parts) > 1:
        raise ModelUnusable(
            f"{base.path} is a model in {len(base.parts)} files, which cannot be merged into; join them first with "
            "llama-gguf-split --merge",
            file=str(base.path),
        )
    for lora, _ in worn:
        check(lora, base)
    check_file(target, force=force)
    if target.exists() and target.samefile(base.path):
        raise Conflict(f"{target} is the model itself; give another path")


def _check_room(target: Path, base: GgufFile, plain_bytes: int, weights: Weights) -> None:
    needed = plain_bytes
    if weights != "as-is":
        needed += int(base.num_parameters * BITS[weights] / 8 * OVERHEAD)
    free = shutil.disk_usage(target.parent).free
    if needed + SPARE_BYTES > free:
        raise HomeUnusable(
            f"the merged model needs {_gib(needed)} GiB of disk and {_gib(SPARE_BYTES)} must stay free, "
            f"{_gib(free)} are free in {target.parent}; make room or choose another place",
            needed_bytes=needed,
            free_bytes=free,
        )


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / (1 << 30):.1f}"


# --- the plan


def _places(table: Table, worn: Sequence[tuple[Lora, float]], *, whole: bool) -> list[_Place]:
    """All tensors in the order of the file, which llama.cpp wants them to keep. `whole`: another type will be made of it."""
    places, offset = [], 0
    for tensor in table.tensors:
        changes = tuple(
            _Change(pair, scale * lora.scale_of(pair))
            for lora, scale in worn
            if scale and (pair := lora.pairs.get(tensor.name)) is not None
        )
        place = _Place(tensor, _written_type(tensor, bool(changes), whole), offset, changes)
        offset += _padded(place.num_bytes, table)
        places.append(place)
    return places


def _written_type(tensor: Tensor, changed: bool, whole: bool) -> int:
    if tensor.num_bytes is None:
        raise ModelUnusable(f"{tensor.name} is of type {tensor.type_id}, which this program does not know")
    if not changed or tensor.type_id == F32:
        return tensor.type_id
    return F16 if whole or tensor.type_id not in FILE_TYPES else tensor.type_id


def _type_name(type_id: int) -> str:
    return str(gguf.GGMLQuantizationType(type_id).name)


def _alignment(table: Table) -> int:
    return int(table.metadata.get(ALIGNMENT, 32))


def _padded(num_bytes: int, table: Table) -> int:
    return -(-num_bytes // _alignment(table)) * _alignment(table)


# --- the header


def _header(source: Path, table: Table, places: Sequence[_Place], name: str) -> bytes:
    """All that comes before the weights: the source's, but for the name, the type and the table of tensors."""
    own = str(table.metadata.get(NAME) or source.stem)
    told = {NAME: _entry(NAME, _TEXT, _text(f"{own} + {name}"))}
    if (file_type := _file_type(table, places)) is not None:
        told[FILE_TYPE] = _entry(FILE_TYPE, _UINT32, struct.pack("<I", file_type))
    with source.open("rb") as file:
        mark = file.read(8)  # magic and version
        entries = [told.pop(key, b"") or _bytes_of(file, *span) for key, span in table.entries.items()]
    entries += told.values()
    rows = [_row(place) for place in places]
    header = b"".join([mark, struct.pack("<QQ", len(rows), len(entries)), *entries, *rows])
    return header.ljust(_padded(len(header), table), b"\0")


def _file_type(table: Table, places: Sequence[_Place]) -> int | None:
    """The new one, if most of the weights are of another type now."""
    before, after = Counter[int](), Counter[int]()
    for place in places:
        before[place.source.type_id] += place.source.num_elements
        after[place.type_id] += place.source.num_elements
    ((was, _),), ((now, _),) = before.most_common(1), after.most_common(1)
    return None if was == now else FILE_TYPES.get(now)


def _bytes_of(file: BinaryIO, first: int, behind: int) -> bytes:
    file.seek(first)
    return file.read(behind - first)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _entry(key: str, kind: int, value: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + value


def _row(place: _Place) -> bytes:
    shape = place.source.shape
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return _text(place.source.name) + sizes + struct.pack("<IQ", place.type_id, place.offset)


# --- the weights


def _write(
    source: Path,
    table: Table,
    places: Sequence[_Place],
    header: bytes,
    target: Path,
    told: Told,
    rounding: _Rounding,
) -> None:
    with (
        source.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view,
        target.open("wb") as out,
    ):
        out.write(header)
        for number, place in enumerate(places, 1):
            told(f"{place.source.name}, {number} of {len(places)} tensors")
            first = table.data_start + place.source.offset
            changed, same = _changed(view, first, place, rounding), _copied(view, first, place.num_bytes)
            for piece in changed if place.changes else same:
                out.write(piece)
            out.write(bytes(_padded(place.num_bytes, table) - place.num_bytes))


def _copied(view: mmap.mmap, first: int, num_bytes: int) -> Iterator[bytes]:
    for at in range(first, first + num_bytes, PIECE_BYTES):
        yield view[at : min(at + PIECE_BYTES, first + num_bytes)]


def _changed(view: mmap.mmap, first: int, place: _Place, rounding: _Rounding) -> Iterator[bytes]:
    """The new weight, some rows at a time. Blocks never cross rows, so each piece can be rounded by itself."""
    *stack, out, width = place.source.shape[::-1]  # [experts,] out, in
    row_bytes = (place.source.num_bytes or 0) // (math.prod(stack) * out)
    step = max(1, PIECE_VALUES // width)
    for expert in range(math.prod(stack)):
        for row in range(0, out, step):
            rows = slice(row, min(row + step, out))
            at = first + (expert * out + row) * row_bytes
            weight = _read(view[at : at + (rows.stop - row) * row_bytes], width, place.source)
            yield _rounded(weight, _added(place.changes, expert, rows), place, rounding)


def _added(changes: Sequence[_Change], expert: int, rows: slice) -> Matrix:
    """What the adapters add to these rows, [rows, in]. What is no number is found by `_rounded`."""
    with np.errstate(over="ignore", invalid="ignore"):
        return reduce(operator.add, (change.rows(expert, rows) for change in changes))


def _read(data: bytes, width: int, tensor: Tensor) -> Matrix:
    """Rows of the weight as it was, [rows, in]."""
    rows = np.frombuffer(data, np.uint8).reshape(-1, width // BLOCKS[tensor.type_id][0] * BLOCKS[tensor.type_id][1])
    try:
        return _dequantised(rows, tensor.type_id)
    except (NotImplementedError, ValueError) as exc:
        raise ModelUnusable(
            f"{tensor.name} is of type {tensor.type_id}, which cannot be read here; give the model in another type",
            tensor=tensor.name,
        ) from exc


def _dequantised(rows: npt.NDArray[Any], type_id: int) -> Matrix:
    return np.asarray(gguf.dequantize(rows, gguf.GGMLQuantizationType(type_id)), np.float32)


def _rounded(before: Matrix, added: Matrix, place: _Place, rounding: _Rounding) -> bytes:
    with np.errstate(all="ignore"):  # blocks of nearly nothing divide by it; what is no number is refused here
        weight = before + added
        largest = float(np.abs(weight).max(initial=0.0))
        if not largest <= (np.finfo(np.float32).max if place.type_id in (F32, BF16) else LARGEST):
            raise AdapterUnusable(
                f"{place.source.name} would hold {largest}, which {_type_name(place.type_id)} cannot; use a smaller scale",
                tensor=place.source.name,
            )
        stored: npt.NDArray[Any] = gguf.quantize(weight, gguf.GGMLQuantizationType(place.type_id))
        off = _dequantised(stored, place.type_id) - weight
    rounding.change += float(np.vdot(added, added))
    rounding.error += float(np.vdot(off, off))
    return stored.tobytes()
