"""Adapters (LoRA): read from PEFT folders or GGUF files, checked against the model, kept by content hash, given away again.

    PEFT folder ──peft_folder.read──┐
                                    ├──▶ Lora ──check──▶ gguf_adapter.write ──▶ shelf: adapters/<sha256>.gguf
    GGUF adapter ─gguf_adapter.read─┘                                                        │
                                                            gguf_adapter.read_kept ◀─────────┘
                                                                      │
                                  PEFT folder or GGUF file ◀──export──┴──merge──▶ a copy of the model

llama.cpp only ever opens files that this package wrote: what comes from outside is read with every length checked, held
against the model's own tensor table, and written anew. A wrong type of alpha, a cut file or a NaN ends here, in one line.

Imports nothing here, so that `monk --help` stays instant.
"""
