"""What it remembers. The only SQL in the house, and the only import of SQLAlchemy and Alembic.

States of a job (`queue.py` holds every arrow, each one a single transaction):

                      ┌────────── retry by a person ──────────────────┐
                      ▼                                               │
    submit ──▶ waiting ──(ready_at)──▶ queued ──claim──▶ running ──▶ done
                  ▲                      ▲ │                │  ├───▶ failed ──┐
                  │                      │ │                │  └───▶ cancelled├─ final: finished_at is set
                  └── backoff after an error ┼── release ◀──┘                 │
                                           └────── cancel, deadline ──────────┘

`waiting` has a `ready_at` in the future (not_before, or backoff). `release` gives a job back unharmed (the night ended, the
daemon stops or was killed): steps and tokens stay, no attempt is counted. Only the holder of the lease token may save,
release or finish; whoever lost it gets LeaseLost and its result is dropped.
"""
