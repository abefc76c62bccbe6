"""The engine: many thoughts at once on one model, in a process of its own.

    worker threads ──▶ EngineProcess ──socket──▶ child: Runner ──▶ Scheduler   what enters the next batch (arithmetic)
                       (process.py)              (runner.py)  ├──▶ Sampler     logits to token, from (seed, index)
                                                              └──▶ LlamaModel  the only import of llama_cpp

*Why a child.* Most misuse of llama.cpp ends in abort(), and a model may be larger than what the OOM killer tolerates.
The child dies alone; the parent starts it again and every thought goes on from its saved tokens.

*Contexts.* One context in streams mode: every slot owns a stretch of KV memory of `context` tokens, so a long neighbour
costs nothing (in a unified cache each row also scans the cells of all others). A step is either one prefill chunk of
one thought or one row of every decoding thought; mixing both in one call gains nothing on CPU. Slots are kept compact
(0..k-1), because llama.cpp needs an extra pass over the weights for each gap between slots. Measured on SmolLM2-135M
Q4_1, 2 AVX2 cores on a busy host, 16 thoughts at depth 1024, one decode step: streams 166 ms with flash attention off,
180 ms on; unified 472 ms off (2026-11-22).

*Sharing.* Thoughts that begin with the same tokens pay for them once: a thought whose beginning another slot holds, or
is computing right now, waits for it and takes a copy. A slot left by a finished thought keeps its KV until it is
needed.

*Fairness.* While a long prompt is prefilled, the running thoughts get a decode step at least every
`prefill_slice_seconds` and `decode_share` of the time. A finished thought's slot is refilled before the next step.

*Resume.* Tokens are the truth. A thought that was cut is asked again with the tokens it had (`saved`); they are
prefilled behind the prompt and the next token is drawn from (seed, index) as it would have been. Grammars, stop strings
and half characters are replayed from the same tokens.

This package imports nothing here, so that `monk --help` stays instant.
"""
