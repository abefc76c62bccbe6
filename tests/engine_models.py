"""Tiny GGUF models of real architectures with random weights: for code paths, not for wit. Made in a moment."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

CONTROL_TOKENS = ("<|im_start|>", "<|im_end|>")
STATE_HEADS = 2  # of qwen35's layers that think in a state
TURNED = 32  # numbers of a head of deepseek2 that know their position
NORMS = {  # that are not the usual two
    "gemma3": ("attn", "ffn", "post_attention", "post_ffw"),
    "gpt-oss": ("attn", "post_attention"),
    "qwen35": ("attn", "post_attention"),
}
Tensors = dict[str, npt.NDArray[np.float32]]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


def byte_names() -> list[str]:
    """The printable stand-ins that byte-level tokenizers use for the 256 bytes, in order of the bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    names, extra = {}, 256
    for byte in range(256):
        names[byte] = chr(byte) if byte in plain else chr(extra)
        extra += byte not in plain
    return [names[byte] for byte in range(256)]


def write_tiny_model(
    path: Path,
    architecture: str = "qwen3",
    *,
    layers: int = 2,
    width: int = 64,
    heads: int = 4,
    kv_heads: int = 2,
    head_size: int = 32,
    experts: int = 0,
    window: int = 0,
    context: int = 4096,
    template: str | None = TEMPLATE,
    seed: int = 0,
    marks: tuple[str, ...] = (),
) -> Path:
    """A loadable model of architecture qwen3, qwen3moe, gemma3, gpt-oss, qwen35 or deepseek2 with a byte tokenizer; `marks` are
    more control tokens. Every second layer of gpt-oss has the window; of four layers of qwen35 one has KV and three a state;
    deepseek2 keeps one row of 4 x `head_size` + 32 numbers for all heads, and its first layer is dense."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(f"tiny {architecture}")
    writer.add_context_length(context)
    writer.add_block_count(layers)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(heads)
    if architecture == "deepseek2":
        _add_latents(writer, head_size)
    else:
        writer.add_head_count_kv(kv_heads)
        writer.add_key_length(head_size)
        writer.add_value_length(head_size)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(2)
        writer.add_expert_feed_forward_length(width)
    if window:
        writer.add_sliding_window(window)
    if architecture == "qwen35":
        writer.add_ssm_conv_kernel(4)
        writer.add_ssm_group_count(STATE_HEADS)
        writer.add_ssm_time_step_rank(STATE_HEADS)
        writer.add_ssm_state_size(head_size)
        writer.add_ssm_inner_size(STATE_HEADS * head_size)
        writer.add_rope_dimension_sections([head_size // 2, 0, 0, 0])
    vocab = _add_tokenizer(writer, template, marks)
    sizes = {"width": width, "q": heads * head_size, "kv": kv_heads * head_size, "head": head_size, "experts": experts}
    for name, tensor in _tensors(architecture, layers, vocab, sizes, np.random.default_rng(seed)).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_latents(writer: gguf.GGUFWriter, head_size: int) -> None:
    writer.add_head_count_kv(1)
    writer.add_key_length(4 * head_size + TURNED)
    writer.add_value_length(4 * head_size)
    writer.add_key_length_mla(head_size + TURNED)
    writer.add_value_length_mla(head_size)
    writer.add_q_lora_rank(2 * head_size)
    writer.add_kv_lora_rank(4 * head_size)
    writer.add_rope_dimension_count(TURNED)
    writer.add_leading_dense_block_count(1)
    writer.add_expert_shared_count(1)
    writer.add_expert_weights_scale(1.0)
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)


def _add_tokenizer(writer: gguf.GGUFWriter, template: str | None, marks: tuple[str, ...] = ()) -> int:
    tokens = [*byte_names(), "Ġt", *CONTROL_TOKENS, *marks]
    kinds = [gguf.TokenType.NORMAL] * 257 + [gguf.TokenType.CONTROL] * (len(CONTROL_TOKENS) + len(marks))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["Ġ t"])
    writer.add_bos_token_id(257)
    writer.add_eos_token_id(258)
    if template is not None:
        writer.add_chat_template(template)
    return len(tokens)


def _tensors(architecture: str, layers: int, vocab: int, sizes: dict[str, int], random: np.random.Generator) -> Tensors:
    """Weights by name; shapes as in PyTorch, [out, in]."""
    width, head, experts = sizes["width"], sizes["head"], sizes["experts"]

    def noise(*shape: int) -> npt.NDArray[np.float32]:
        return random.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(shape[-1]))

    def ones(size: int) -> npt.NDArray[np.float32]:
        return np.ones(size, np.float32)

    def latent_attention() -> Tensors:
        heads, rank = sizes["q"] // head, 4 * head
        return {
            "attn_q_a": noise(2 * head, width),
            "attn_q_a_norm": ones(2 * head),
            "attn_q_b": noise(heads * (head + TURNED), 2 * head),
            "attn_kv_a_mqa": noise(rank + TURNED, width),
            "attn_kv_a_norm": ones(rank),
            "attn_k_b": noise(heads, rank, head),
            "attn_v_b": noise(heads, head, rank),
            "attn_output": noise(width, sizes["q"]),
        }

    def attention() -> Tensors:
        if architecture == "deepseek2":
            return latent_attention()
        gated = 2 if architecture == "qwen35" else 1
        block = {
            "attn_q": noise(gated * sizes["q"], width),
            "attn_k": noise(sizes["kv"], width),
            "attn_v": noise(sizes["kv"], width),
            "attn_output": noise(width, sizes["q"]),
        }
        if architecture == "gpt-oss":
            return block | {"attn_sinks": np.zeros(sizes["q"] // head, np.float32)}
        return block | {"attn_q_norm": ones(head), "attn_k_norm": ones(head)}

    def state() -> Tensors:
        inner = STATE_HEADS * head
        return {
            "attn_qkv": noise(3 * inner, width),
            "attn_gate": noise(inner, width),
            "ssm_conv1d": noise(3 * inner, 4),
            "ssm_beta": noise(STATE_HEADS, width),
            "ssm_alpha": noise(STATE_HEADS, width),
            "ssm_norm": ones(head),
            "ssm_out": noise(width, inner),
        }

    def feed_forward(layer: int) -> Tensors:
        if not experts or (architecture == "deepseek2" and layer == 0):
            return {
                "ffn_gate": noise(2 * width, width),
                "ffn_up": noise(2 * width, width),
                "ffn_down": noise(width, 2 * width),
            }
        router = {"ffn_gate_inp": noise(experts, width)}
        if architecture == "deepseek2":
            router |= {f"ffn_{name}_shexp": noise(width, width) for name in ("gate", "up", "down")}
        return router | {f"ffn_{name}_exps": noise(experts, width, width) for name in ("gate", "up", "down")}

    out = {"token_embd.weight": noise(vocab, width) * np.float32(4), "output_norm.weight": ones(width)}
    if architecture != "gemma3":
        out["output.weight"] = noise(vocab, width) * np.float32(3)
    for layer in range(layers):
        thinks_in_a_state = architecture == "qwen35" and (layer + 1) % 4 != 0
        block = {f"{name}_norm": ones(width) for name in NORMS.get(architecture, ("attn", "ffn"))}
        block |= state() if thinks_in_a_state else attention()
        block |= feed_forward(layer)
        out |= {f"blk.{layer}.{name}.weight": tensor for name, tensor in block.items()}
        if thinks_in_a_state:
            out |= {f"blk.{layer}.ssm_a": -ones(STATE_HEADS), f"blk.{layer}.ssm_dt.bias": 0 * ones(STATE_HEADS)}
        if architecture == "deepseek2" and layer > 0:
            out[f"blk.{layer}.exp_probs_b.bias"] = np.zeros(experts, np.float32)
        if architecture == "gpt-oss":
            biased = {"attn_q": (sizes["q"],), "attn_k": (sizes["kv"],), "attn_v": (sizes["kv"],)}
            biased |= {"attn_output": (width,), "ffn_gate_inp": (experts,)}
            biased |= {f"ffn_{name}_exps": (experts, width) for name in ("gate", "up", "down")}
            out |= {f"blk.{layer}.{name}.bias": np.zeros(shape, np.float32) for name, shape in biased.items()}
    return out


def write_tiny_mamba(path: Path, *, layers: int = 2, width: int = 64, state: int = 16, context: int = 4096) -> Path:
    """A loadable model whose memory is recurrent: a state that cannot be cut, and no attention."""
    random, inner, rank, conv = np.random.default_rng(0), 2 * width, 4, 4
    writer = gguf.GGUFWriter(path, "mamba")
    writer.add_name("tiny mamba")
    writer.add_context_length(context)
    writer.add_block_count(layers)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_ssm_conv_kernel(conv)
    writer.add_ssm_inner_size(inner)
    writer.add_ssm_state_size(state)
    writer.add_ssm_time_step_rank(rank)
    vocab = _add_tokenizer(writer, None)

    def noise(*shape: int) -> npt.NDArray[np.float32]:
        return random.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(shape[-1]))

    writer.add_tensor("token_embd.weight", noise(vocab, width))
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    for layer in range(layers):
        block = {
            "attn_norm.weight": np.ones(width, np.float32),
            "ssm_in.weight": noise(2 * inner, width),
            "ssm_conv1d.weight": noise(inner, conv),
            "ssm_conv1d.bias": np.zeros(inner, np.float32),
            "ssm_x.weight": noise(rank + 2 * state, inner),
            "ssm_dt.weight": noise(inner, rank),
            "ssm_dt.bias": np.zeros(inner, np.float32),
            "ssm_a": -np.ones((inner, state), np.float32),
            "ssm_d": np.ones(inner, np.float32),
            "ssm_out.weight": noise(width, inner),
        }
        for name, tensor in block.items():
            writer.add_tensor(f"blk.{layer}.{name}", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
