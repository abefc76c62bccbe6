"""The report as Markdown that also reads well as plain text. Everything that is not ours is escaped or rewritten."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from monk.report.escape import code, escape, literal, quoted
from monk.report.prose import to_markdown
from monk.report.scrub import one_line, plain
from monk.report.view import Block, JobView, Quote, View

EXCERPT_CHARACTERS = 160  # of a thought behind an answer; the page has more of it
Lines = list[str]


def to_text(report: View) -> str:
    """The whole report; an empty one is a single line."""
    if report.empty:
        return f"# {escape(report.title)}\n"
    blocks: list[Lines] = [
        [f"# Morning report: {escape(report.title)}"],
        [f"**{escape(report.hours)} {escape(report.tally)}**"],
    ]
    blocks += [[escape(report.times)]]
    blocks += _section("Done", report.done, _done)
    blocks += _section("Failed", report.failed, _failed)
    blocks += _section("Cancelled", report.cancelled, _cancelled)
    blocks += _section("Left", report.left, _left)
    blocks += _paragraphs([report.left_note, report.not_told])
    blocks += _documents(report)
    blocks += _list("What broke and went on", report.incidents)
    blocks += _list("Warnings", report.warnings)
    blocks += _list("The night in figures", [f"{label}: {value}" for label, value in report.figures])
    blocks += [["* * *"], [escape(report.span)]]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _section(title: str, jobs: Sequence[JobView], write: Callable[[JobView], list[Lines]]) -> list[Lines]:
    if not jobs:
        return []
    blocks: list[Lines] = [[f"## {title} ({len(jobs)})"]]
    for number, job in enumerate(jobs, 1):
        blocks.append([f"### {number}. {escape(job.title)}"])
        blocks.append([_byline(job)])
        blocks += [quoted(literal(plain(job.question)).split("\n"))] if job.question else []
        blocks += write(job)
    return blocks


def _byline(job: JobView) -> str:
    tags = "".join(f" · {escape('#' + tag)}" for tag in job.tags)
    return f"{code(job.id)} · {escape(job.kind)}{tags} · {escape(job.when)}"


def _done(job: JobView) -> list[Lines]:
    blocks = _paragraphs([" ".join(job.facts)])
    for block in job.blocks:
        blocks += _block(block)
    if job.votes:
        blocks += [[f"{escape(job.vote_title)}:"], [f"- {escape(vote)}" for vote in job.votes]]
    blocks += [[f"- {escape(f'{fold.title}: {_excerpt(fold.text)}')}" for fold in job.folds]]
    blocks += [[f"- Picture: {escape(one.title)}{f' <{one.link}>' if one.link else ''}" for one in job.pictures]]
    return blocks + _paragraphs([job.cost])


def _excerpt(text: str) -> str:
    """The end of a thought, where its answer stands."""
    line = one_line(text, 10**6).replace("**", "")
    return line if len(line) <= EXCERPT_CHARACTERS else "…" + line[1 - EXCERPT_CHARACTERS :]


def _block(block: Block) -> list[Lines]:
    blocks: list[Lines] = [[f"**{line}**" for line in [escape(" ".join(block.question.split()))] if line]]
    blocks += [to_markdown(block.answer), *_paragraphs([block.note])]
    for quote in block.quotes:
        blocks += [[_source(quote)], quoted(literal(quote.text).split("\n"))]
    if block.unsupported:
        blocks += [[escape(block.aside)]]
        blocks += [[f"- {escape(' '.join(text.split()))}" for text in block.unsupported]]
    return blocks


def _source(quote: Quote) -> str:
    place = f", {quote.place}" if quote.place else ""
    link = f" <{quote.link}>" if quote.link else ""
    mark = f"{'✓' if quote.verified else '✗'} {quote.mark}"
    return f"**[{quote.number}]** {code(quote.file) or 'no file'}{place} {mark}{link}"


def _failed(job: JobView) -> list[Lines]:
    blocks = _paragraphs([job.error, job.what_to_do, " ".join(job.facts)])
    return [*blocks, [f"Again: {code(job.command)}"], *_paragraphs([job.cost])]


def _cancelled(job: JobView) -> list[Lines]:
    return [*_paragraphs([" ".join(job.facts)]), [f"Again: {code(job.command)}"], *_paragraphs([job.cost])]


def _left(job: JobView) -> list[Lines]:
    return _paragraphs([" ".join(job.facts)])


def _documents(report: View) -> list[Lines]:
    items = [f"- {code(file)}: {escape(why)}{' (new)' if new else ''}" for file, why, new in report.unreadable]
    blocks: list[Lines] = [["## Documents"], *_paragraphs(report.corpus)]
    blocks += [["These could not be read:"], items] if items else []
    for title, files, more in report.changes:
        named = ", ".join(code(file) for file in files) + (f" and {more} more" if more else "")
        blocks.append([f"{title}: {named}" if files else f"{title}."])
    return blocks


def _list(title: str, items: Sequence[str]) -> list[Lines]:
    return [[f"## {title}"], [f"- {escape(item)}" for item in items]] if items else []


def _paragraphs(texts: Sequence[str]) -> list[Lines]:
    return [[escape(" ".join(text.split()))] for text in texts if text]
