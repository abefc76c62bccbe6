"""Benchmarks: tokens per second of this model on this host, setting by setting, to be told and kept.

    kind `bench` ─▶ monk/benching.py ─▶ session.py ──socket──▶ child.py ─▶ gauge.py: the real model, one lane at a time
                                            │                                 ├─ deep.py: KV of a long beginning, on disk
                                            └─ rates.py: what was measured    └─ meters.py: memory, energy, other people

*Definitions* are those of llama-bench. `prompt N` behind d: N tokens of one prompt are computed in calls of a whole ubatch
where d others are held already; `answer N` behind d: N steps of one token each. Only the last token of a call has logits.
Tokens are random. Each is repeated from the same state; mean and standard deviation are over the repeats. A first call that
nobody counts opens buffers and brings the weights in. With B thoughts at once a step has B tokens, one of each, every
thought behind d tokens of its own, and the rate is of all together.

*Depth.* What a measurement stands behind is computed once, kept in checksummed blocks in the job's own folder and read back
for the next one, or after a crash: a beginning of 128k tokens may take a night.

*Safety.* As in `tuning`: a process of its own, memory planned for each context before it is opened, a process that dies costs
one measurement.
"""
