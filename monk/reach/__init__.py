"""How long a prompt this model still finds things in: measured by jobs of the kind `needle`, kept, and told where it matters.

    needle ──measures──▶ record.py: a file for each way the model reads (reading.py) in $MONK_HOME/reach
                            │
          warnings.py ◀─────┴─────▶ `monk status`, `monk doctor` (house.py)
          a job with a longer prompt: when it is submitted, if that can be counted, and when it thinks

A warning stops nothing: what stands at the right place of a long prompt may well be found. Imports nothing here, so that
`monk status` stays quick.
"""

HOW = "monk bench --needle"  # measures it
