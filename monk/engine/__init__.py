"""The engine: many thoughts at once on one model, in a process of its own.

    worker threads ──▶ EngineProcess ──socket──▶ child: Runner ──▶ Lanes ──┬▶ Streams  (streams.py)  thoughts on their own
                       (process.py)              (runner.py)  (lanes.py)   ├▶ Study    (study.py)    long prompts
                                                   │                       └▶ Forks    (forks.py)    one beginning, many
                                                   ├▶ Line        who waits, and who is next (line.py, order.py)
                                                   ├▶ Scheduler   what enters the next batch (arithmetic)
                                                   └▶ Voice       logits to tokens, from (seed, index), and to listeners
    llama.py, lane.py: the only imports of llama_cpp        kv_store.py: blocks of KV on disk

*Why a child.* Most misuse of llama.cpp ends in abort(), and a model may be larger than what the OOM killer tolerates.
The child dies alone; the parent starts it again and every thought goes on from its saved tokens.

*Lanes.* One loaded model, up to three contexts. A context has either one memory for all its sequences, where every row
also scans the cells of all others, or a stretch for each, where a long neighbour costs nothing. Neither suits all:

    streams   a stretch for each thought. The usual place; always there. 16 thoughts at depth 1024, one decode step on
              SmolLM2-135M Q4_1, 2 AVX2 cores: 166 ms without flash attention, 180 ms with; one memory: 472 ms (2026-11-22).
              In F16, 16 thoughts, a step with it takes 0.72, 0.89, 0.98, 1.27, 1.49, 1.72 of the time at depth 8, 200, 450,
              1000, 2000, 4000, a prompt 0.85 to 1.1 (2026-11-26): "auto" is off, for those who read long texts
    prefill   one memory, one prompt. Here KV can be cut and pasted at any token without copying, so this is where long
              prompts are computed when blocks are kept, and every shared beginning; the result moves to its slot as bytes
    fork      one memory, one beginning, many thoughts that go on from it: what they share is read once per step instead
              of once per thought, their own beginnings of any length are computed in one pass. Never with flash attention:
              8, 16, 32 thoughts behind 1,700 tokens took 72, 134, 249 ms without it, 124, 260, 478 ms with (2026-11-25)

The two others are opened when first needed, if `memory.py` found room for them; without them the streams do it all. A
single slot is a prefill lane itself: its context has the scratch sequence, so even the largest model that just fits keeps
what it has read. A step is one prefill chunk or one row of every decoding thought of one lane; mixing both in one call
gains nothing on CPU. Streams are kept compact (0..k-1), because llama.cpp needs an extra pass over the weights for each
gap between slots.

*Sharing.* Thoughts that begin with the same tokens pay for them once: in the fork lane when several share a long
beginning and the arithmetic of `grouping.py` says that it pays (who finds the best number of seats taken waits for one);
else by a copy from the slot that has it, or is computing it right now. A slot left by a finished thought keeps its KV
until it is needed. Identical thoughts that run at the same time are one thought with several listeners.

*Guesses.* Answers that quote, count or correct repeat what the prompt, the answer itself or a sibling said before. What
followed the same last tokens then (`lookup.py`) is computed as further rows of the decode step; the voice draws row by
row as it would in single steps and stops at the first token that is not the guessed one. How many rows pay is decided by
measured seconds and learnt chances (`speculation.py`): a large dense model reads its weights once for all rows, while for
SmolLM2 on one AVX2 core 5 rows cost 3.7 times one (2026-11-24), so that only real copying pays there. Siblings
are the thoughts of one job (`ThoughtRequest.group`), without a name those with the very same prompt.

*Durable KV.* Every whole block of a prompt computed in the prefill lane goes to disk with a proof: what the model
says behind it. What is left at a prompt's end is kept in halves, quarters and so on of a block, because another
question on the same document ends in other tokens: without them 898 of 6,018 tokens were computed again every night,
9 s of 17 (2026-11-26). A killed engine has lost the block it was in. Restored KV is checked three times: the name is
a hash of the model, of every setting that shapes KV and of all tokens so far; every byte has its checksum; and the
block's last token, computed again behind it, must give the logits it gave before. On SmolLM2 these differ by at most
0.02 of their height between batch shapes, and by 0.25 to 0.6 when one block of 256 tokens is another text's
(2026-11-24). The replay leaves the restored cells alone, so a restored prompt goes on from the same bits. No disk, a
full one or a wrong file cost only time.

*Tuning.* Flash attention, threads, width and chunk are measured on each host with each model (`tuning/`); the figures
above are of one machine, and only what runs where nothing was measured.

*Fairness.* While long prompts are prefilled, the running thoughts get a decode step at least every
`prefill_slice_seconds` and `decode_share` of the time; fetching a block counts as prefill. Prompts that take less than ten
slices in all come first, unless somebody with a raised priority is speaking: a step of the whole batch costs little more
than one of its half. Where two lanes decode they take turns. A finished thought's slot is refilled before the next step.
Short prompts of neighbours are computed in one call, equally many rows of each, which makes a row 10 % cheaper (4 x 110 rows
against 110, 2026-11-25); few whole prompts, because rows of many cost more (4 x 119 against 32 x 16: 1.6 times, 2026-11-26).

*Models that cannot be cut.* Recurrent and hybrid models, and sliding windows, remember only their end: streams alone, no
blocks, no forks, no guesses, and beginnings shared only whole.

*Thinking.* A model that marks its thinking part may be given a budget for it (`part.py`). When it is used up, the tokens that
end the part are said for the model, one a step like any others, and it answers with what is left of `max_tokens`. Grammar and
stop strings belong to the answer behind it.

*Waves.* Thoughts with the same adapters, expert count, rope settings, KV types and attention run together; the next wave
begins when all slots are empty. Adapters are worn by the contexts that are open; rope settings, KV types and attention are
those of a context, so all are opened anew, by a plan of their own: contexts as long, and what does not fit beside them left
out; the expert count is that of a loaded model, so the first handle is freed before the second one is loaded, from pages
that are still in memory. KV, in slots and on disk, stays with its wave.

*Place.* Which CPUs and memory nodes the engine uses is chosen from the machine's topology (`topology.py`, `binding.py`) and done
before llama.cpp loads anything (`bound.py`): affinity for all threads, a memory policy for all pages, for llama.cpp puts threads
in place and leaves pages to the kernel. Huge pages, locks and the page cache are in `pages.py`. None of it shapes KV.

*Resume.* Tokens are the truth. A thought that was cut is asked again with the tokens it had (`saved`); they are
prefilled behind the prompt and the next token is drawn from (seed, index) as it would have been. Grammars, stop strings
and half characters are replayed from the same tokens.

This package imports nothing here, so that `monk --help` stays instant.
"""
