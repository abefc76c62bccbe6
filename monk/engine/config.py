"""How an engine is to be run: plain values, checked once. Knows neither settings files nor the environment."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from monk.engine.binding import THREADS, Binding, Numa, check_settings
from monk.engine.client import AS_ITS_FILE_SAYS, ModelUse
from monk.engine.gguf_file import GgufFile
from monk.engine.model_use import CHOICES, QUANTISED_KV, FlashAttention, KvType, OwnSettings, attention, check_ranges
from monk.engine.pages import HugePages
from monk.errors import InvalidInput, SettingsInvalid

Speculation = Literal["auto", "off"]

MAX_SLOTS = 256  # llama.cpp refuses more sequences than this


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """One model and how to run it. A zero means: choose (see `memory.py`)."""

    model_path: Path
    model_sha256: str | None = None  # pinned hash in hex; checked before every load
    hash_cache: Path | None = None  # JSON file that remembers hashes of unchanged files
    name: str = ""  # shown to people; empty: the file's own name
    context: int = 0  # tokens per thought, prompt and answer together
    slots: int = 0  # thoughts decoded at once
    threads: int = 0  # for decoding; 0: physical cores
    threads_batch: int = 0  # for prompts; 0: as `threads`
    threads_single: int = 0  # for decoding one thought alone; 0: as `threads`
    ubatch: int = 0  # tokens per prefill chunk
    most_slots: int = 32  # when `slots` is chosen
    most_ubatch: int = 512  # when `ubatch` is
    flash_attention: FlashAttention = "auto"
    kv_type_k: KvType = "f16"
    kv_type_v: KvType = "f16"
    kv_types_free: bool = False  # what was measured may replace both
    tune_folder: Path | None = None  # what was measured is kept there (`tuning/`); None: nothing is asked or kept
    tune_seconds: float = 0.0  # that a first start with an unknown model measures; 0: never
    tune_busy_percent: float = (
        30.0  # not while others wait for the processor more than this share of the time; 0: anyway
    )
    kv_folder: Path | None = None  # KV of long prompts is kept there; None: nowhere
    kv_limit_bytes: int = 32 << 30  # of all files in it; 0: nothing is kept
    kv_block_tokens: int = 1024  # tokens per file
    memory_reserve_bytes: int = 1 << 30  # left free for everyone else
    mlock: bool = False
    mmap: bool = True
    repack: bool = True  # copy some weight formats into a faster layout; costs their size again in RAM
    huge_pages: HugePages = "auto"  # for KV and buffers, and weights where mmap is off
    numa: Numa = "off"
    cpus: str = ""  # that all threads keep to, as "0-31,64-95"; empty: as numa says
    binding: Binding | None = None  # what was chosen by the last two; None: not yet, and nothing is bound
    share_prefixes: bool = True
    model_use: ModelUse = AS_ITS_FILE_SAYS  # experts and rope, where they are not to be as in the file
    speculation: Speculation = "auto"  # tokens are guessed from the text so far, where that pays
    prefill_slice_seconds: float = 1.0  # longest stretch of prefill while others wait to decode
    decode_share: float = 0.25  # of the time, for decoding, while prompts are prefilled
    flush_seconds: float = 0.1  # tokens are reported at least this often, or after each step
    beat_seconds: float = 1.0
    silence_seconds: float = 60.0  # a child without a beat for this long is killed and started again
    step_seconds: float = 1800.0  # so is one whose single step lasts longer

    def __post_init__(self) -> None:
        object.__setattr__(self, "model_path", Path(self.model_path))
        for name in ("hash_cache", "kv_folder", "tune_folder"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)))
        if isinstance(self.model_use, dict):  # from JSON
            object.__setattr__(self, "model_use", ModelUse(**self.model_use))
        if isinstance(self.binding, dict):
            values = {key: tuple(value) if isinstance(value, list) else value for key, value in self.binding.items()}
            object.__setattr__(self, "binding", Binding(**values))
        self._check_choices()
        self._check_ranges()
        self._check_combinations()

    def _check_choices(self) -> None:
        choices = {
            "flash_attention": FlashAttention,
            "kv_type_k": KvType,
            "kv_type_v": KvType,
            "numa": Numa,
            "huge_pages": HugePages,
            "speculation": Speculation,
        }
        for name, literal in choices.items():
            value = getattr(self, name)
            if value not in get_args(literal):
                known = ", ".join(get_args(literal))
                raise SettingsInvalid(f"{name} is {value!r}; use one of {known}", param=name)

    def _check_ranges(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            "context": (0, 1 << 24),
            "slots": (0, MAX_SLOTS),
            "threads": (0, 1024),
            "threads_batch": (0, 1024),
            "threads_single": (0, 1024),
            "most_slots": (1, MAX_SLOTS),
            "most_ubatch": (16, 8192),
            "tune_seconds": (0.0, 3600),
            "tune_busy_percent": (0.0, 100.0),
            "ubatch": (0, 8192),
            "kv_limit_bytes": (0, 1 << 60),
            "kv_block_tokens": (16, 1 << 16),
            "memory_reserve_bytes": (0, 1 << 50),
            "prefill_slice_seconds": (0.01, 600),
            "decode_share": (0.0, 0.9),
            "flush_seconds": (0.0, 1.0),
            "beat_seconds": (0.05, 2.0),
            "silence_seconds": (3.0, 3600),
            "step_seconds": (1.0, 86400),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise SettingsInvalid(f"{name} is {value}; it must be from {low} to {high}", param=name)
        if 0 < self.context < 64:
            raise SettingsInvalid(f"context is {self.context} tokens; use 0 (choose) or at least 64", param="context")
        if 0 < self.ubatch < 16:
            raise SettingsInvalid(f"ubatch is {self.ubatch} tokens; use 0 (choose) or at least 16", param="ubatch")

    def _check_combinations(self) -> None:
        if self.kv_type_v in QUANTISED_KV and self.flash_attention == "off":
            raise SettingsInvalid(
                f"kv_type_v {self.kv_type_v} needs flash attention, which is off; "
                "set flash_attention to on or auto, or kv_type_v to f16",
                param="kv_type_v",
            )
        if self.mlock and not self.mmap:
            raise SettingsInvalid("mlock pins the mapped file, and mmap is off; switch mmap on", param="mlock")
        try:
            check_ranges(self.model_use)
            check_settings(self.numa, self.cpus, {name: getattr(self, name) for name in THREADS})
        except InvalidInput as exc:
            raise SettingsInvalid(exc.message, param=exc.param) from exc
        if self.model_sha256 is not None and not _is_sha256(self.model_sha256):
            raise SettingsInvalid("model_sha256 must be 64 hexadecimal digits", param="model_sha256")

    def under(self, use: ModelUse) -> EngineConfig:
        """As the house would have to be set for a thought that wants `use` to run so. Values that are quantised bring flash
        attention with them. Raises SettingsInvalid."""
        whole = replace(use, flash_attention=attention(use))
        wanted: dict[str, Any] = {name: value for name in CHOICES if (value := getattr(whole, name)) is not None}
        return replace(self, model_use=replace(use, **dict.fromkeys(CHOICES)), **wanted)

    def own_settings(self, file: GgufFile) -> OwnSettings:
        """What the model runs with by these settings where a thought says nothing."""
        house = {name: getattr(self, name) for name in CHOICES}
        return replace(OwnSettings.of(file), **house)

    def to_json(self) -> dict[str, Any]:
        """JSON values, read back by `from_json` in the child."""
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> EngineConfig:
        """The inverse of `to_json`. Unknown keys are an error: parent and child must be of one version."""
        unknown = values.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise SettingsInvalid(f"unknown engine settings: {', '.join(sorted(unknown))}")
        return cls(**values)


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and all(digit in "0123456789abcdefABCDEF" for digit in text)
