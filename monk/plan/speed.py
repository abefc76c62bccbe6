"""How long a step and a prompt take, from what a machine can do: the roofline (Williams et al. 2009). Pure arithmetic.

    decode   a step reads all weights it needs once, and computes 2 operations for each weight and row: the longer of the
             two; then each row reads its KV, or computes attention to each position behind it
    prompt   2 operations for each weight a token meets, and attention to each position behind it, in layers with a
             sliding window to those of the window; layers that think in a state cost the same at every depth
    attention   4 operations for each head and value, and for each head as long as some hundred more would take: softmax,
             mask, and what short products waste

Of a mixture of E experts with k used, a step of B rows meets E (1 - (1 - k/E)^B) experts of each layer.

All threads wait for each other between the operations of a step, some 24 in a layer and 40 with experts; on a machine whose
cores are known a step is no faster than these waits. A wait is taken to be 1.8 us x the root of the cores: 2.5 us were measured
with two cores, and 17 with 96 explain why a mixture that should read 3 billion weights 130 times a second was published at 27 to
32 tokens a second there (llama.cpp pull request 18029).

What a machine really reaches, against its figures, was measured on one AVX2 machine with two cores (2026-11): weights are
read at 0.55 of the memory's bandwidth, matrix products run at 0.6 of f32 products in numpy. Attention of a single row reaches
0.15 of them with heads of 64 and 0.23 with heads of 128, that of chunks 0.28 and 0.4 to 0.5 (depths up to 16k, chunks of 256
to 2,048): hence the fixed part of each head. Where `monk tune` has measured a model, that is taken instead (`calibrated.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from monk.engine.config import EngineConfig
from monk.engine.gguf_file import GgufFile
from monk.engine.lane_plan import kv_bytes_per_token, uses_flash
from monk.engine.layers import layers_of

BANDWIDTH_SHARE, PRODUCT_SHARE = 0.55, 0.6
STEP_ATTENTION_SHARE, STEP_HEAD_OPERATIONS = 0.5, 1200  # of products; fixed for each head and position, at full rate
PROMPT_ATTENTION_SHARE, PROMPT_HEAD_OPERATIONS = 0.6, 490
# How fast attention is in a prompt and in a step, beside f16 without flash attention, by flash attention and the type of K; of
# SmolLM2 behind 4,608 tokens on that machine (2026-11-26). Without flash attention K in f16 reached 58 GFLOP/s in a prompt; with
# it and q8_0 it was 9.5: llama.cpp takes such values apart for each row anew.
ATTENTION_SPEED = {
    (False, "f16"): (1.0, 1.0),
    (False, "q8_0"): (1.0, 1.2),
    (False, "bf16"): (0.82, 0.8),
    (False, "f32"): (0.48, 0.7),
    (True, "f16"): (0.77, 0.5),
    (True, "q8_0"): (0.16, 0.6),
}
GFLOPS_PER_CORE = 70.0  # f32 products of an AVX2 core at some 2.5 GHz, where nothing is measured
STEP_SECONDS = 0.002  # of a step beside all that: its graph, its threads
WAIT_SECONDS = 1.8e-6  # of all threads for each other, x the root of their number
WAITS, EXPERT_WAITS = 24, 40  # in a layer of a dense model, and of a mixture


class Pace(Protocol):
    """Seconds of a model on a machine."""

    def step_seconds(self, rows: int, depth: int) -> float:
        """Of one step of so many thoughts, each behind `depth` tokens."""

    def prompt_seconds(self, tokens: int, depth: int = 0) -> float:
        """Of a prompt of so many tokens behind `depth` others."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Bytes a second from memory, and f32 products in 10^9 operations a second, as they are measured or written down.
    `notes`: what was assumed of it."""

    bandwidth: float
    gflops: float
    notes: tuple[str, ...] = ()
    cores: int = 0  # at work; 0: not known, and waits are not counted

    @property
    def read_rate(self) -> float:
        return BANDWIDTH_SHARE * self.bandwidth

    @property
    def product_rate(self) -> float:
        return PRODUCT_SHARE * self.gflops * 1e9

    @property
    def wait_seconds(self) -> float:
        return WAIT_SECONDS * math.sqrt(self.cores)


@dataclass(frozen=True, slots=True)
class Sight:
    """How far back the layers look: a share `near` of those that look back at all sees no more than `window` tokens."""

    near: float = 0.0
    window: int = 0

    def behind(self, depth: float) -> float:
        """Positions that a row behind so many meets, in the mean of the layers."""
        return depth - self.near * max(0.0, depth - self.window)

    def of_prompt(self, tokens: int, depth: int = 0) -> float:
        """Of all rows of a prompt together."""
        beyond = max(0, depth + tokens - self.window)  # the last row's; they grow by one a row
        first = max(0, depth - self.window)
        return tokens * (depth + tokens / 2.0) - self.near * (beyond * beyond - first * first) / 2.0


@dataclass(frozen=True, slots=True)
class Work:
    """What of a model costs time."""

    shared_bytes: int  # of weights that every token meets
    expert_bytes: int  # of one expert in all layers; 0: it is no mixture
    shared_parameters: int
    expert_parameters: int
    experts: int
    experts_used: int
    attention_operations: int  # for each row and position
    attention_heads: int  # of all layers
    kv_bytes: int  # of each token
    layers: int = 0
    sight: Sight = Sight()
    prompt_attention_speed: float = 1.0  # beside f16 without flash attention
    step_attention_speed: float = 1.0

    @classmethod
    def of(cls, model: GgufFile, config: EngineConfig) -> Work:
        """Under the config's KV types, attention and experts."""
        experts = model.num_experts
        has_head = any(tensor.name == "output.weight" for tensor in model.tensors)
        shared, each = [0, 0], [0, 0]
        for tensor in model.tensors:
            if has_head and tensor.name.startswith("token_embd"):
                continue  # only rows of it are looked up
            into = each if experts and "_exps." in tensor.name else shared
            into[0] += tensor.num_bytes or 0
            into[1] += tensor.num_elements
        attending = [layer for layer in layers_of(model) if layer.attends]
        windows = [layer.window for layer in attending if layer.window]
        # cells behind the window stay until others need them: rows meet those of a chunk too
        sight = Sight(len(windows) / len(attending), max(windows) + config.most_ubatch) if windows else Sight()
        flash = uses_flash(config)
        prompt_speed, step_speed = ATTENTION_SPEED.get((flash, config.kv_type_k), ATTENTION_SPEED[flash, "f16"])
        return cls(
            shared_bytes=shared[0],
            expert_bytes=each[0] // experts if experts else 0,
            shared_parameters=shared[1],
            expert_parameters=each[1] // experts if experts else 0,
            experts=experts,
            experts_used=config.model_use.experts or model.number("expert_used_count"),
            attention_operations=4 * model.num_heads * model.key_length * len(attending),
            attention_heads=model.num_heads * len(attending),
            kv_bytes=kv_bytes_per_token(model, config),
            layers=model.num_layers,
            sight=sight,
            prompt_attention_speed=prompt_speed,
            step_attention_speed=step_speed,
        )

    @property
    def active_parameters(self) -> int:
        """Of those that one token meets."""
        return self.shared_parameters + self.experts_used * self.expert_parameters

    def experts_met(self, rows: int) -> float:
        """By a step of so many rows, if each chooses its own."""
        if not self.experts:
            return 0.0
        return float(self.experts * (1.0 - (1.0 - self.experts_used / self.experts) ** rows))

    def read_bytes(self, rows: int) -> float:
        """Of weights, by a step of so many rows."""
        return self.shared_bytes + self.experts_met(rows) * self.expert_bytes

    def step_seconds(self, machine: Machine, rows: int, depth: int) -> float:
        """Of one step of so many thoughts, each behind `depth` tokens."""
        weights = self.read_bytes(rows) / machine.read_rate
        products = 2.0 * self.active_parameters * rows / machine.product_rate
        waits = self.layers * (EXPERT_WAITS if self.experts else WAITS) * machine.wait_seconds
        return (
            max(weights, products, waits) + rows * self.sight.behind(depth) * self.cell_seconds(machine) + STEP_SECONDS
        )

    def cell_seconds(self, machine: Machine) -> float:
        """Of one position behind one row of a step."""
        operations = self.attention_operations / STEP_ATTENTION_SHARE + self.attention_heads * STEP_HEAD_OPERATIONS
        rate = machine.gflops * 1e9 * self.step_attention_speed
        return max(self.kv_bytes / machine.read_rate, operations / rate)

    def prompt_seconds(self, machine: Machine, tokens: int, depth: int = 0) -> float:
        """Of a prompt of so many tokens behind `depth` others."""
        products = 2.0 * self.active_parameters * tokens / machine.product_rate
        positions = self.sight.of_prompt(tokens, depth)
        operations = self.attention_operations / PROMPT_ATTENTION_SHARE + self.attention_heads * PROMPT_HEAD_OPERATIONS
        return products + operations * positions / (machine.gflops * 1e9 * self.prompt_attention_speed)


@dataclass(frozen=True, slots=True)
class Roofline:
    """A `Pace` by the general shares."""

    work: Work
    machine: Machine

    def step_seconds(self, rows: int, depth: int) -> float:
        return self.work.step_seconds(self.machine, rows, depth)

    def prompt_seconds(self, tokens: int, depth: int = 0) -> float:
        return self.work.prompt_seconds(self.machine, tokens, depth)
