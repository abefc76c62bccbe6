"""Tuning: what makes this model run best on this host, measured and not assumed.

    monk tune, or the engine's child ─▶ session.py ──socket──▶ child.py ─▶ bench.py: the real model, lanes, llama_decode
     at its first start with a model       │                     │
                                           │                     └─ course.py: which trial comes next
                                           ├─ choice.py: what the measurements say     (both pure, over trial.py)
                                           └─ record.py: one JSON file for each host, model, build and kind of settings

*Order.* Questions are asked in order of importance, and the answers to the first decide how the later ones are put:
flash attention, threads for prompts, for batches and for a single thought, width of the batch, length of a chunk, KV
types. When the time is used up, what has no answer stays as it is. A model of 70 billion parameters may get no further
than the first question; a small one is through in half a minute.

*Noise.* Alternatives take turns, so that a neighbour's minute of work hits all of them; what runs now is measured anew
for each question. What counts for a choice is the fastest of the repeats, since noise only ever makes slower; and an
alternative is taken only if it is faster than what runs now by more than 3 % and more than the repeats of either differ. One
measurement decides nothing. At the end all that was chosen runs beside what runs now, and if it is slower, everything
stays. What a plan reckons with is the middle of the repeats: nights have the noise too, and on two shared cores the fastest
promised a fifth more, and a cell of KV at half of its price (2026-11-26).

*Depth.* Attention is what the settings differ in most, and an empty context has none. All is measured behind 4,096
tokens, or 1,024, or 256, whatever the time allows; behind less than 1,024, flash attention is not decided.

*A busy machine* (others wait for the processor) would choose what suits the others. The version that runs by itself
waits for another start then; `monk tune` warns.

*Safety.* The trials run in a process of their own. One that dies of a trial has told all it measured before; that trial
is struck out and another process goes on. Memory is planned before each context is opened.

*KV.* Flash attention and KV types shape the KV on disk. A choice is kept as long as host, model file and build of
llama.cpp are the same, and the version that runs by itself leaves both alone while there is KV on the disk.

Nothing here is imported by `monk.engine`; `child.py` there asks `record.py`, and `session.py` when there is no record.
"""
