"""What a model will take before a byte of it is loaded: memory, and time on this machine or on one that is only described.

    source.py      a GGUF file, its header behind a URL, a config.json, or a well-known name ─▶ GgufFile
    known.py       configurations of well-known models
    shape.py       the numbers of a configuration, under the names that a GGUF file gives them
    described.py   the tensors of a model that is only described, in a weight format
    speed.py       the roofline: seconds of a step and of a prompt (pure)
    calibrated.py  the same, from what `monk tune` or `monk bench` measured here
    machines.py    a machine that is only described, and this one, measured
    presets.py, fitting.py, stretch.py    what is chosen for whoever does not say: weights, context, thoughts, YaRN
    beside.py      what stands in memory beside the engine
    amounts.py     "1.5TB", "460GB/s", "9h"
    outlook.py     all of it together: figures, each with its formula; picture.py draws them

Memory is counted by the very code that decides what the engine opens (`monk/engine/memory.py`). Imports nothing here.
"""
