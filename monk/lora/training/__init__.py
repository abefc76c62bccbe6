"""Training of adapters, at night, in a process of its own.

    recipe.py     how: rank, batches, steps; what fits the memory and the night (pure)
    batches.py    which examples share a step, in an order that only the seed decides (pure)
    trainer.py    the only import of torch and peft: one step, one evaluation, the adapter on disk
    checkpoint.py where it was, in one file that is there whole or not at all
    child.py      the process;  session.py: the same, as the daemon sees it
    room.py       the folder of each training, and the way of its result to the shelf

What is taught, and whether what came out may be worn, is said in `jobs/` (examples.py, gate.py, train.py).

A killed training goes on from its last checkpoint and ends with the same bytes as one that was not killed: the order of the
data comes from the seed, and the optimiser's state and the random state are in the checkpoint.

Imports nothing here, so that `monk --help` stays instant.
"""
