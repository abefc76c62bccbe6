"""Every setting, read once: `monk.toml` in the home, then `MONK_*` variables, then command-line flags; later ones win.

Nothing else in the program reads the environment; below this, values are passed in. The README's table is printed from
these fields (`python -m monk.settings`), and a test compares the two.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import ByteSize, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from monk.engine.binding import THREADS, check_settings
from monk.engine.client import ModelUse
from monk.engine.model_use import CHOICES, check_ranges
from monk.errors import MonkError, SettingsInvalid

PREFIX = "MONK_"
FOR_BENCHES = frozenset({"MONK_EVAL_DATA"})  # read by tests/bench only
KvType = Literal["f16", "bf16", "f32", "q8_0", "auto"]
Checked = TypeVar("Checked")
Percent = Annotated[float, Field(ge=0, le=100)]
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def default_home() -> Path:
    """Where state lives when nobody says: the user's data folder. Under systemd MONK_HOME is /var/lib/night-monk."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "night-monk"


class Settings(BaseSettings):
    """Frozen. Raises SettingsInvalid through `load`, which names the key, the value and where it came from."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=PREFIX, str_strip_whitespace=True)

    home: Path = Field(default_factory=default_home, description="Folder of all state: database, index, KV, reports")

    host: str = Field("127.0.0.1", description="Address to listen on; anything but loopback needs a token")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8420, description="TCP port; 0 picks a free one")
    socket: Path | None = Field(None, description="Unix socket to listen on instead of host and port")
    token: SecretStr | None = Field(
        None, description="Bearer token that every request must carry (16 characters or more)"
    )
    max_body_bytes: Annotated[ByteSize, Field(ge=1024)] = Field(
        ByteSize(8 << 20), description="Largest request body taken"
    )

    model: Path | None = Field(None, description="GGUF file; unset: the embedded SmolLM2-135M-Instruct")
    model_sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="The model file must have this SHA-256; unset: not checked"
    )
    context: Annotated[int, Field(ge=0, le=16_777_216)] = Field(
        0,
        description="Tokens one thought may hold, prompt and answer together; 0: what the model was trained for, stretched by "
        "yarn_factor or rope_freq_scale",
    )
    slots: Annotated[int, Field(ge=0, le=256)] = Field(
        0, description="Thoughts decoded at once; 0: as many as fit in memory, at most what was measured to pay, or 32"
    )
    threads: Annotated[int, Field(ge=0, le=4096)] = Field(
        0, description="Threads while answers are written; 0: what was measured to be fastest, or one per physical core"
    )
    threads_batch: Annotated[int, Field(ge=0, le=4096)] = Field(
        0, description="Threads while prompts are computed; 0: as measured, or as threads where those are set"
    )
    threads_single: Annotated[int, Field(ge=0, le=4096)] = Field(
        0, description="Threads while one answer is written alone; 0: as measured, or as threads where those are set"
    )
    ubatch: Annotated[int, Field(ge=0, le=8192)] = Field(
        0, description="Prompt tokens computed in one go; 0: what suits the memory, at most as measured, or 512"
    )
    flash_attention: Literal["auto", "on", "off"] = Field(
        "auto", description="Attention kernel; auto: the one measured to be faster, or off"
    )
    experts: Annotated[int, Field(ge=0, le=4096)] = Field(
        0, description="Experts of a mixture that each token uses; 0: as the model's file says"
    )
    rope_freq_base: Annotated[float, Field(ge=0, le=1e12)] = Field(
        0.0, description="Base of the rotary positions; 0: as the model's file says"
    )
    rope_freq_scale: Annotated[float, Field(ge=0, le=16)] = Field(
        0.0, description="Scale of the positions: 0.5 makes twice as many fit; 0: as the model's file says"
    )
    yarn_factor: Annotated[float, Field(ge=0, le=1024)] = Field(
        0.0, description="The same by YaRN: 2 makes twice as many fit; 0: as the model's file says"
    )
    yarn_original_context: Annotated[int, Field(ge=0, le=16_777_216)] = Field(
        0, description="Tokens the model was trained for before YaRN; 0: as its file says"
    )
    speculation: Literal["auto", "off"] = Field(
        "auto", description="Tokens are guessed from the text so far, where that pays; the answers are the same"
    )
    thinking_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.7,
        description="Of a thought's tokens, those in which a reasoning model may think before it is made to answer; 1: all",
    )
    kv_type_k: KvType = Field("f16", description="Type of the stored keys; auto, for both: the fastest, or f16")
    kv_type_v: KvType = Field("f16", description="Type of the stored values; a quantised one needs flash_attention on")
    tune_seconds: Annotated[float, Field(ge=0, le=3600)] = Field(
        40.0, description="Time that the first start with an unknown model measures how it runs best; 0: it does not"
    )
    kv_cache_bytes: Annotated[ByteSize, Field(ge=0)] = Field(
        ByteSize(32 << 30),
        description="Disk space for KV of long prompts, kept for later nights and after a crash; 0: none is kept",
    )
    kv_block_tokens: Annotated[int, Field(ge=16, le=65536)] = Field(
        1024, description="Prompt tokens per KV file: what a crash in the middle of a prompt loses at most"
    )
    memory_reserve_bytes: Annotated[ByteSize, Field(ge=0)] = Field(
        ByteSize(1 << 30), description="Memory left free for everything else when the engine plans its own"
    )
    memory_pressure_percent: Percent = Field(
        20.0, description="Jobs pause while others wait for memory more than this share of the time; 0: never"
    )
    io_pressure_percent: Percent = Field(0.0, description="The same for the disk")
    cpu_pressure_percent: Percent = Field(
        0.0, description="The same for the processor; the engine is the last in line for it anyway"
    )
    train_save_seconds: Annotated[float, Field(ge=0, le=3600)] = Field(
        20.0, description="What a crash in the middle of a training loses at most; 0: every step is saved"
    )
    mlock: bool = Field(
        False,
        description="Lock the weights in memory, so that they are never swapped out; needs mmap and RLIMIT_MEMLOCK",
    )
    mmap: bool = Field(True, description="Map the weights from the file instead of reading a copy")
    huge_pages: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Pages of 2 MiB for KV and buffers, and for weights where mmap is off: asked for, or none; "
        "auto: as the kernel does by itself",
    )
    numa: Literal["auto", "off", "distribute", "isolate", "numactl"] = Field(
        "auto",
        description="Several memory nodes: threads and pages on all of them, on one, or as the process was started; "
        "auto: on one socket if the plan fits there, or on all",
    )
    cpus: str | None = Field(
        None,
        pattern=r"^[0-9,\- ]*$",
        description='CPUs that the engine keeps to, such as "0-31,64-95"; unset: as numa says',
    )

    corpus: Path | None = Field(None, description="Folder of documents; unset: corpus/ in the home")
    embedding_model: str | None = Field(
        None, description="sentence-transformers model by path or name; unset: the embedded all-MiniLM-L6-v2"
    )
    reranker: str | None = Field(
        None, description="sentence-transformers CrossEncoder by path or name, to sort the best passages; unset: none"
    )
    chunk_tokens: Annotated[int, Field(ge=32, le=8192)] = Field(
        192, description="Size of a passage in the embedding model's tokens, at most"
    )
    max_document_bytes: Annotated[ByteSize, Field(ge=1024)] = Field(
        ByteSize(256 << 20), description="Larger files are not read"
    )
    document_seconds: Annotated[float, Field(gt=0, le=86400)] = Field(
        300.0, description="Time one file, or each part of a long one, may take to read"
    )

    corpus_settle_seconds: Annotated[float, Field(ge=0, le=86400)] = Field(
        5.0, description="The corpus is read when it was left alone this long after a change; 0: only when asked"
    )
    ocr_languages: str = Field(
        "eng",
        pattern=r"^[A-Za-z0-9_]+(\+[A-Za-z0-9_]+)*$",
        description="Languages of scans as tesseract names them: eng+deu",
    )
    ocr_page_seconds: Annotated[float, Field(gt=0, le=3600)] = Field(
        60.0, description="Time one page of a scan may take to read"
    )

    night: str = Field(
        "22:00-07:00", description='When jobs run: "22:00-07:00", several by comma, "always", or "never"'
    )
    night_days: str = Field("mon-sun", description='Days on which a night begins, such as "mon-fri" or "sat,sun"')
    timezone: str | None = Field(None, description="Time zone of the night, such as Europe/Moscow; unset: the system's")
    jobs_at_once: Annotated[int, Field(ge=1, le=256)] = Field(
        32, description="Jobs that run side by side; fewer than slots leave slots empty"
    )
    lease_seconds: Annotated[float, Field(ge=5, le=3600)] = Field(
        60.0, description="A job whose worker is silent this long goes back to the queue"
    )
    save_seconds: Annotated[float, Field(ge=0.05, le=1.0)] = Field(
        0.5, description="Tokens reach the disk at least this often"
    )
    stop_seconds: Annotated[float, Field(ge=1, le=300)] = Field(
        15.0, description="Time to save everything when asked to stop"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What the journal gets")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load` hands over: it has merged file, variables and flags itself, so that it can say whence."""
        return (init_settings,)

    @field_validator("home", "model", "corpus", "socket")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else Path(os.path.abspath(value.expanduser()))

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ZoneInfo(value)
            except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
                raise ValueError(
                    "no such time zone; use a name like Europe/Moscow (timedatectl list-timezones)"
                ) from exc
        return value

    @field_validator("night")
    @classmethod
    def _known_night(cls, value: str) -> str:
        from monk.night import parse_windows

        return _checked(parse_windows, value)

    @field_validator("night_days")
    @classmethod
    def _known_days(cls, value: str) -> str:
        from monk.night import parse_days

        return _checked(parse_days, value)

    @field_validator("token")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 16:
            raise ValueError("a token needs at least 16 characters; `openssl rand -hex 24` makes one")
        return value

    @model_validator(mode="after")
    def _guarded(self) -> Settings:
        if self.socket is None and self.host not in LOOPBACK and self.token is None:
            raise ValueError(f"host {self.host} can be reached by others, so a token is needed: set MONK_TOKEN")
        _checked(check_ranges, self.model_use)
        threads = {name: getattr(self, name) for name in THREADS}
        _checked(lambda cpus: check_settings(self.numa, cpus or "", threads), self.cpus)
        if self.kv_type_v.startswith("q") and self.flash_attention == "off":
            raise ValueError(
                f"kv_type_v {self.kv_type_v} needs flash attention; set flash_attention to on, or kv_type_v to f16"
            )
        if (self.kv_type_k == "auto") != (self.kv_type_v == "auto"):
            raise ValueError("kv_type_k and kv_type_v are chosen together: set both to auto, or neither")
        return self

    @property
    def model_use(self) -> ModelUse:
        """What the model runs with where a job says nothing."""
        named = [field.name for field in fields(ModelUse) if field.name not in CHOICES]
        return ModelUse(**{name: getattr(self, name) or None for name in named})

    @property
    def corpus_folder(self) -> Path:
        """The folder that is read."""
        return self.corpus or self.home / "corpus"

    @property
    def url(self) -> str:
        """Where the daemon is reached from this machine, when it listens on TCP."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "localhost") else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def load(environ: Mapping[str, str] | None = None, **flags: Any) -> Settings:
    """Settings from the home's monk.toml, the environment and flags (None: not given).

    Raises SettingsInvalid for an unknown key, a value out of range, or a file that is no TOML; the text names all three:
    key, value, and where it stands.
    """
    environ = os.environ if environ is None else environ
    given = {key: value for key, value in flags.items() if value is not None}
    variables = _from_environment(environ)
    home = Path(given.get("home") or variables.get("home") or default_home()).expanduser()
    file = home / "monk.toml"
    from_file = _from_file(file)
    try:
        return Settings(**{**from_file, **variables, **given, "home": home})
    except ValidationError as exc:
        raise _told(exc, {**dict.fromkeys(from_file, str(file)), **{k: PREFIX + k.upper() for k in variables}}) from exc


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name, value in environ.items():
        if not name.startswith(PREFIX) or name in FOR_BENCHES:
            continue
        key = name.removeprefix(PREFIX).lower()
        if key not in Settings.model_fields:
            raise _unknown(key, name, "the environment")
        if value != "":  # an empty variable is how a unit file or a shell says "unset"
            found[key] = value
    return found


def _from_file(file: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):  # a home that is a file is told where it is needed
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingsInvalid(f"{file} is no valid TOML: {exc}; mend it or move it away", param="monk.toml") from exc
    except OSError as exc:
        raise SettingsInvalid(
            f"{file} cannot be read: {exc.strerror}; check its owner and mode", param="monk.toml"
        ) from exc
    for key in values:
        if key == "home":
            raise SettingsInvalid(f"{file}: home cannot stand in the file that lies in it; set MONK_HOME", param="home")
        if key not in Settings.model_fields:
            raise _unknown(key, key, str(file))
    return values


def _unknown(key: str, shown: str, where: str) -> SettingsInvalid:
    near = difflib.get_close_matches(key, Settings.model_fields, n=1)
    hint = f"did you mean {near[0]}?" if near else "`monk doctor --settings` lists them all"
    return SettingsInvalid(f"unknown setting {shown!r} in {where}; {hint}", param=key)


def _told(exc: ValidationError, sources: dict[str, str]) -> SettingsInvalid:
    first = exc.errors()[0]
    key = str(first["loc"][0]) if first["loc"] else ""
    message = first["msg"].removeprefix("Value error, ")
    if not key:
        return SettingsInvalid(message)
    where = f" (from {sources[key]})" if key in sources else ""
    shown = "…" if key == "token" else repr(first["input"])
    return SettingsInvalid(f"{key} = {shown}{where}: {message}", param=key)


def _checked(parse: Callable[[Checked], object], value: Checked) -> Checked:
    try:
        parse(value)
    except MonkError as exc:
        raise ValueError(exc.message) from exc
    return value


def table() -> str:
    """The settings as the README's Markdown table."""
    rows = ["| setting | variable | default | range | meaning |", "|---|---|---|---|---|"]
    for key, info in Settings.model_fields.items():
        rows.append(f"| `{key}` | `{PREFIX}{key.upper()}` | {_default(key)} | {_range(info)} | {info.description} |")
    return "\n".join(rows)


def _default(key: str) -> str:
    info = Settings.model_fields[key]
    if key == "home":
        return "`~/.local/share/night-monk`"
    value = info.default
    if value is None:
        return "unset"
    if isinstance(value, ByteSize):
        return f"`{value.human_readable()}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _range(info: Any) -> str:
    bounds = {type(item).__name__: item for item in info.metadata}
    low = getattr(bounds.get("Ge"), "ge", getattr(bounds.get("Gt"), "gt", None))
    high = getattr(bounds.get("Le"), "le", None)
    if low is not None or high is not None:
        return f"{'' if low is None else low}..{'' if high is None else high}"
    choices = getattr(info.annotation, "__args__", ()) if "Literal" in str(info.annotation) else ()
    return " ".join(f"`{choice}`" for choice in choices)


if __name__ == "__main__":
    import sys

    sys.stdout.write(table() + "\n")
