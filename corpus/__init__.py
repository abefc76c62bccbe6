"""What the monk has read, how it finds it again, and how a quotation is proved. Imports `db` and `monk.errors` only.

From a file to a checked citation, one file per step:

    folder.py      which files there are, and which are refused before a byte is read
    readers/       bytes of one format → Reading (text, blocks, places); runs in a child process only
    process.py     that child: a time and memory limit, restarted when a document kills it
    tags.py        what a document says of itself
    parts.py       a long document in parts, so that nobody holds all of it
    recognition.py scans: what is asked of the OCR program, and whether it is there
    chunking.py    Reading → chunks along its structure, sized by the embedding model's tokens
    embedding.py   texts → vectors; the only import of sentence-transformers, beside rerank.py
    store.py       vectors on disk; the only import of chromadb
    sync.py        folder → database and vectors, by content hash; the database is the truth
    sections.py    a passage → the section around it
    fusion.py      cosines and BM25 scores → one order
    rerank.py      a cross-encoder for the best passages, if one is set
    retrieval.py   a question → passages, dense and lexical, fused
    citations.py   a quote → its exact letters, page or line; or nothing
    support.py     a statement → the sentences that bear it out; or nothing. Looks at its numbers (numerals.py, arithmetic.py,
                   binding.py), names (names.py) and negations (polarity.py), in the language it is in (language.py)
    library.py     all of it behind one object that threads may share

Two rules carry the proof. The text of a document is what its reader returned, and every passage is an exact slice of it.
A place (page or line) is looked up for a character, never guessed from the passage it happens to stand in.

Importing this package is instant: torch, chromadb and the readers' libraries are loaded where they are first needed.
"""
