"""What it can be asked: one file per kind, its words as Markdown in `prompts/`.

A kind is a module with a one-line docstring (its summary), `Input` (a pydantic model) and `run(ctx)`, ordinary code over
`jobs.context.Context`. The owner's kinds are Markdown files with front matter in `$MONK_HOME/jobs` (`own.py`); a file
`$MONK_HOME/jobs/prompts/NAME.md` replaces one of our prompts.
"""
