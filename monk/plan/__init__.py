"""What a model will take before a byte of it is loaded: memory, and time on this machine or on one that is only described.

    source.py      a GGUF file, its header behind a URL, a config.json, or a well-known name ─▶ GgufFile
    described.py   the tensors of a model that is only described, in a weight format
    known.py       configurations of well-known models
    speed.py       the roofline: seconds of a step and of a prompt (pure)
    amounts.py     "1.5TB", "460GB/s", "9h"
    outlook.py     all of it together: figures, each with its formula

Memory is counted by the very code that decides what the engine opens (`monk/engine/memory.py`). Imports nothing here.
"""
