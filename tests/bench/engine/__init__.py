"""How fast the engine is, against its peers, on the same tokens, in one run: `python -m tests.bench.engine`.

    workloads.py   what is asked: prompts as token ids, cut from the starter corpus; pure
    peers.py       what a peer is, and where llama-server is found
    ours.py        EngineProcess through its public face
    naive.py       llama_cpp.Llama, one completion after the other, in a process of its own
    server.py      llama-server of the same llama.cpp
    measure.py     who runs when: peers take turns, the server at its best width
    probes.py      restore against prefill, Python's share of a step, resident memory against the plan
    roofline.py    what this machine could do at most, and how near the engine comes
    models.py      the embedded model in other weight formats
    host.py        the machine, and whether it was quiet
    report.py      medians, ratios, targets met or missed; pure

tests/bench/README.md tells how to run it and how to read it.
"""
