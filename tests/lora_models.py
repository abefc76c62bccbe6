"""The same tiny random model twice, in torch and as GGUF, so that an adapter can be tried on both sides; and random adapters."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gguf
import llama_cpp.llama_cpp as C
import numpy as np
import numpy.typing as npt

from monk.engine import gguf_file
from monk.engine.client import AdapterUse
from monk.lora import gguf_adapter
from monk.lora.adapter import Lora, Pair
from monk.lora.shelf import Shelf
from tests.engine_models import _add_tokenizer

VOCAB, WIDTH, INNER, LAYERS, HEADS, KV_HEADS, HEAD_SIZE, EXPERTS = 259, 64, 128, 2, 4, 2, 32, 4
FAMILIES = ("llama", "qwen2", "qwen3", "gemma3", "qwen3moe")
Logits = npt.NDArray[np.float32]


@C.llama_log_callback
def _silent(_level: int, _text: bytes, _data: object) -> None: ...


def torch_model(family: str, seed: int = 0) -> Any:
    """A causal model of transformers with random weights, as large as a postcard."""
    import torch
    import transformers

    torch.manual_seed(seed)
    shape = {
        "vocab_size": VOCAB,
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_SIZE if family != "qwen2" else WIDTH // HEADS,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "initializer_range": 0.1,
        "tie_word_embeddings": family == "gemma3",
        "bos_token_id": 257,
        "eos_token_id": 258,
        "pad_token_id": 0,
    }
    if family == "gemma3":
        shape |= {
            "query_pre_attn_scalar": HEAD_SIZE,
            "sliding_window": 512,
            "layer_types": ["sliding_attention"] * LAYERS,
        }
    if family == "qwen3moe":
        shape |= {
            "num_experts": EXPERTS,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": WIDTH,
            "norm_topk_prob": True,
        }
    names = {
        "llama": ("LlamaConfig", "LlamaForCausalLM"),
        "qwen2": ("Qwen2Config", "Qwen2ForCausalLM"),
        "qwen3": ("Qwen3Config", "Qwen3ForCausalLM"),
        "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM"),
        "qwen3moe": ("Qwen3MoeConfig", "Qwen3MoeForCausalLM"),
    }[family]
    config = getattr(transformers, names[0])(**shape)
    model = getattr(transformers, names[1])(config)
    return model.to(torch.float32).eval()


def write_gguf(model: Any, family: str, path: Path) -> Path:
    """The same weights as a GGUF file, f32."""
    writer = gguf.GGUFWriter(path, family)
    writer.add_name(f"tiny {family}")
    writer.add_context_length(512)
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    size = model.config.head_dim if family != "qwen2" else WIDTH // HEADS
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_vocab_size(VOCAB)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    if family == "gemma3":
        writer.add_sliding_window(512)
    if family == "qwen3moe":
        writer.add_expert_count(EXPERTS)
        writer.add_expert_used_count(2)
        writer.add_expert_feed_forward_length(WIDTH)
    assert _add_tokenizer(writer, None) == VOCAB
    for name, tensor in gguf_tensors(model, family).items():
        writer.add_tensor(name, np.ascontiguousarray(tensor, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gguf_tensors(model: Any, family: str) -> dict[str, Logits]:
    """Weights by GGUF name, converted as llama.cpp's own conversion does."""
    arch = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}[family]
    table = gguf.get_tensor_name_map(arch, LAYERS)
    out: dict[str, Logits] = {}
    for name, value in model.state_dict().items():
        tensor = value.detach().numpy()
        if name == "lm_head.weight" and family == "gemma3":
            continue
        if name.endswith("experts.gate_up_proj"):
            gate, up = np.split(tensor, 2, axis=1)
            block = name.split(".")[2]
            out |= {f"blk.{block}.ffn_gate_exps.weight": gate, f"blk.{block}.ffn_up_exps.weight": up}
            continue
        if name.endswith("experts.down_proj"):
            out[f"blk.{name.split('.')[2]}.ffn_down_exps.weight"] = tensor
            continue
        found = table.get_name(name, try_suffixes=(".weight", ".bias"))
        assert found is not None, name
        if family == "gemma3" and "norm" in name:
            tensor = tensor + 1
        if family == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = HEADS if "q_proj" in name else KV_HEADS
            tensor = tensor.reshape(heads, 2, HEAD_SIZE // 2, WIDTH).swapaxes(1, 2).reshape(-1, WIDTH)
        out[found] = tensor
    return out


def torch_logits(model: Any, tokens: list[int]) -> Logits:
    """Of the last token, [vocab]."""
    import torch

    with torch.no_grad():
        return np.asarray(model(torch.tensor([tokens])).logits[0, -1].float().numpy())


def llama_logits(path: Path, tokens: list[int], adapters: dict[Path, float] | None = None) -> Logits:
    """The same by llama.cpp, with adapters by file and scale. AssertionError when llama.cpp refuses one."""
    C.llama_log_set(_silent, ctypes.c_void_p(0))
    C.llama_backend_init()
    model = C.llama_model_load_from_file(str(path).encode(), C.llama_model_default_params())
    assert model, path
    params = C.llama_context_default_params()
    params.n_ctx, params.n_threads, params.n_threads_batch = 256, 1, 1
    params.type_k = params.type_v = 0  # f32: the comparison is of adapters, not of half precision
    params.flash_attn_type = C.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = C.llama_init_from_model(model, params)
    handles = [C.llama_adapter_lora_init(model, str(file).encode()) for file in adapters or {}]
    assert all(handles), "llama.cpp refuses the adapter"
    if handles:
        array = (C.llama_adapter_lora_p_ctypes * len(handles))(*handles)
        scales = (ctypes.c_float * len(handles))(*(adapters or {}).values())
        assert C.llama_set_adapters_lora(context, array, len(handles), scales) == 0
    ids = (C.llama_token * len(tokens))(*tokens)
    assert C.llama_decode(context, C.llama_batch_get_one(ids, len(tokens))) == 0
    found = np.ctypeslib.as_array(C.llama_get_logits_ith(context, -1), (VOCAB,)).copy()
    C.llama_free(context)
    C.llama_model_free(model)
    return found


def random_lora(
    model: Path, seed: int, weights: Sequence[str] = ("attn_q", "ffn_up"), size: float = 0.25, rank: int = 4
) -> Lora:
    """A LoRA on these weights of all layers, experts included; `size` is the standard deviation of its B."""
    random, file = np.random.default_rng(seed), gguf_file.read(model)
    pairs = {}
    for tensor in file.tensors:
        if tensor.name.split(".")[-2] in weights:
            *stack, out, width = tensor.shape[::-1]
            a = random.standard_normal((*stack, rank, width), dtype=np.float32)
            b = random.standard_normal((*stack, out, rank), dtype=np.float32) * np.float32(size)
            pairs[tensor.name] = Pair(a, b)
    return Lora(file.architecture, 8.0, pairs)


def shelved(shelf: Shelf, name: str, lora: Lora, model: Path) -> AdapterUse:
    """The adapter put on the shelf, as a thought wears it."""
    with TemporaryDirectory() as aside:
        gguf_adapter.write(lora, Path(aside) / "adapter.gguf")
        kept = shelf.add(name, Path(aside) / "adapter.gguf", model, datetime(2026, 1, 1, tzinfo=UTC))
    return AdapterUse(str(shelf.weights(kept)), kept.sha256)
