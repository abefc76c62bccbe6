"""What each layer of a model remembers of a token: keys and values of all, of the last ones, or a state of fixed size.

From the file's metadata alone, as llama.cpp reads it (src/models/*.cpp, llama-hparams.cpp, `create_memory` in
llama-model.cpp). What is not known here is taken for a layer that remembers everything, which asks for more memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from monk.engine.gguf_file import GgufFile

# Of so many layers the last looks at everything, or with `FIRST_LOOKS_FAR` the first; a file may say otherwise.
PERIODS = {
    "afmoe": 4,
    "cohere2": 4,
    "cohere2moe": 4,
    "exaone-moe": 4,
    "exaone4": 4,
    "gemma2": 2,
    "gemma3": 6,
    "gemma3n": 5,
    "gpt-oss": 2,
    "laguna": 4,
    "llama4": 4,
    "mellum": 4,
    "olmo2": 4,
    "plamo3": 8,
    "smallthinker": 4,
}
FIRST_LOOKS_FAR = frozenset({"cohere2moe", "laguna", "smallthinker"})
OWN_WINDOWS = {"exaone-moe": 128, "gemma2": 4096, "llama4": 8192}  # where the file names none
# Of so many layers only the last has keys and values, all others a state.
STATE_PERIODS = {"minimax-01": 8, "qwen35": 4, "qwen35moe": 4, "qwen3next": 4}
STATE_KEYS = ("ssm.conv_kernel", "ssm.state_size", "wkv.head_size", "kda.head_dim", "shortconv.l_cache")
BOTH = frozenset({"falcon-h1"})  # every layer has keys, values and a state
OWNERS = {"gemma3n": 20}  # so many first layers have keys and values of their own, whatever the file says
STATE_BYTES = 4  # f32


@dataclass(frozen=True, slots=True)
class Layer:
    """`keys` and `values`: numbers kept of a token. `window`: tokens it looks back at, 0 for all. `has_state`: it keeps a
    state of each sequence. `attends` without keys: it uses those of an earlier layer."""

    keys: int
    values: int
    window: int
    has_state: bool
    attends: bool


_known: WeakKeyDictionary[GgufFile, tuple[Layer, ...]] = WeakKeyDictionary()  # a search for room asks a thousand times


def layers_of(model: GgufFile) -> tuple[Layer, ...]:
    """Those that take part in thinking: layers that only guess ahead (MTP) have no memory in our contexts."""
    if (known := _known.get(model)) is None:
        known = _known[model] = tuple(_layers(model))
    return known


def _layers(model: GgufFile) -> Iterator[Layer]:
    count = model.num_layers - model.number("nextn_predict_layers")
    windows, states = _windows(model, count), _states(model, count)
    owners = OWNERS.get(model.architecture, count - model.number("attention.shared_kv_layers"))
    has_values = not keys_hold_values(model)
    kv_heads = model.kv_heads
    for at in range(count):
        heads = kv_heads[at] if at < len(kv_heads) else 0
        attends = heads > 0 and (not states[at] or model.architecture in BOTH)
        near = "_swa" if windows[at] else ""
        owned = heads if attends and at < owners else 0
        keys = owned * model.number(f"attention.key_length{near}", model.key_length)
        values = owned * model.number(f"attention.value_length{near}", model.value_length) if has_values else 0
        yield Layer(keys, values, windows[at], states[at], attends)


def keys_hold_values(model: GgufFile) -> bool:
    """As with DeepSeek's latent attention: one row of numbers is both."""
    return model.number("attention.value_length_mla") > 0


def has_uncuttable_memory(model: GgufFile) -> bool:
    """Something of it cannot be cut or moved piece by piece: a window, or a state."""
    return any(layer.window or layer.has_state for layer in layers_of(model))


def state_bytes(model: GgufFile) -> int:
    """Of all states of one sequence."""
    layers = sum(layer.has_state for layer in layers_of(model))
    return STATE_BYTES * layers * (_state_of_convolution(model) + _state_of_recurrence(model))


def _windows(model: GgufFile, count: int) -> list[int]:
    """The window of each layer."""
    pattern = _row(model, "attention.sliding_window_pattern")
    period = PERIODS.get(model.architecture)
    window = model.number("attention.sliding_window", OWN_WINDOWS.get(model.architecture, 0))
    if not window or (pattern is None and period is None):
        return [0] * count
    if pattern is not None and len(pattern) > 1:
        return [window if at < len(pattern) and pattern[at] else 0 for at in range(count)]
    period = pattern[0] if pattern else period
    far = 0 if model.architecture in FIRST_LOOKS_FAR else (period or 0) - 1
    return [window if not period or at % period != far else 0 for at in range(count)]


def _states(model: GgufFile, count: int) -> list[bool]:
    """Whether each layer keeps a state."""
    told = _row(model, "attention.recurrent_layers")
    period = STATE_PERIODS.get(model.architecture)
    if told is not None and len(told) > 1:
        return [at < len(told) and bool(told[at]) for at in range(count)]
    if period is not None:
        period = model.number("full_attention_interval", period)
        return [(at + 1) % period != 0 for at in range(count)]
    if not any(model.number(key) for key in STATE_KEYS):
        return [False] * count
    if model.architecture in BOTH:
        return [True] * count
    feeds = _row(model, "feed_forward_length") if model.architecture.startswith("nemotron_h") else None
    return [
        (at >= len(model.kv_heads) or not model.kv_heads[at]) and not (feeds and at < len(feeds) and feeds[at])
        for at in range(count)
    ]


def _state_of_convolution(model: GgufFile) -> int:
    if model.number("wkv.head_size"):
        return model.number("token_shift_count", 2) * model.embedding_length
    if cache := model.number("shortconv.l_cache"):
        return model.embedding_length * (cache - 1)
    kernel = model.number("ssm.conv_kernel")
    if head := model.number("kda.head_dim"):
        return 3 * (kernel - 1 if kernel else 3) * model.num_heads * head
    channels = model.number("ssm.inner_size") + 2 * model.number("ssm.group_count") * model.number("ssm.state_size")
    return max(0, kernel - 1) * channels


def _state_of_recurrence(model: GgufFile) -> int:
    if head := model.number("wkv.head_size"):
        return model.embedding_length * head
    if head := model.number("kda.head_dim"):
        return head * head * model.num_heads
    if model.architecture == "minimax-01":
        return model.key_length * model.key_length * model.num_heads
    return model.number("ssm.state_size") * model.number("ssm.inner_size")


def _row(model: GgufFile, key: str) -> list[int] | None:
    """A number, or a row of them, under `<architecture>.<key>`."""
    value = model.metadata.get(f"{model.architecture}.{key}")
    if value is None:
        return None
    return [int(item) for item in value] if isinstance(value, list) else [int(value)]
