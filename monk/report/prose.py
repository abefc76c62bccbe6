"""What a model wrote, as Markdown, made safe: parsed once, tamed, and written as HTML or as Markdown again.

Taming: raw HTML is text, links are their words and their address, images are named and never fetched, headings go below
the report's own. Every character is scrubbed after parsing too, for an entity such as &#x202e; becomes one only then.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from monk.report.escape import fenced
from monk.report.scrub import cut, one_line, plain

HEADING_SHIFT = 3  # report h1, section h2, job h3: an answer's first heading is h4
MOST_CHARACTERS = 200_000
ADDRESS_CHARACTERS = 300
_CITATION = re.compile(r" ?\[(\d{1,4})\]")


class _Parser(MarkdownIt):
    def normalizeLink(self, url: str) -> str:
        """Addresses are only shown, so they stay as they were written."""
        return url


def _parser() -> MarkdownIt:
    parser = _Parser("commonmark", {"html": False, "maxNesting": 20})
    parser.enable(["table", "strikethrough"])
    parser.add_render_rule("text", _render_text)
    return parser


def parse(text: str) -> list[Token]:
    """Tamed block tokens of untrusted Markdown. Only the types that `writer.py` knows occur."""
    tokens = _PARSER.parse(cut(plain(text), MOST_CHARACTERS))
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + HEADING_SHIFT, 6)}"
        token.info = re.sub(r"[^\w+#.-]", "", token.info.split(" ")[0])[:40] if token.info else ""
        token.content = plain(token.content)
        token.attrs = {key: value for key, value in token.attrs.items() if key in ("start", "style")}
        if token.children is not None:
            token.children = _tamed(token.children)
    return tokens


def to_html(text: str, anchor: str = "", num_citations: int = 0) -> str:
    """Safe HTML. "[2]" becomes a link to `#anchor-2` when there are that many citations."""
    env = {"anchor": anchor, "num_citations": num_citations}
    return str(_PARSER.renderer.render(parse(text), _PARSER.options, env))


def to_markdown(text: str) -> list[str]:
    """Lines of Markdown that show the same, proved to be closed in themselves; else the text as a code block."""
    from monk.report.writer import write

    lines = write(parse(text))
    return lines if _contained("\n".join(lines)) else fenced(cut(plain(text), MOST_CHARACTERS))


def _contained(markdown: str) -> bool:
    """Read by a parser that allows everything, it holds no HTML, link, image or high heading, and what follows is free."""
    env: dict[str, Any] = {}
    tokens = _WITNESS.parse(f"{markdown}\n\n## end\n", env)
    ending = [token.type for token in tokens[-3:]] == ["heading_open", "inline", "heading_close"]
    heading = tokens[-3]
    if not ending or heading.level != 0 or heading.tag != "h2" or env.get("references"):
        return False
    if any(token.type == "heading_open" and int(token.tag[1]) <= HEADING_SHIFT for token in tokens[:-3]):
        return False
    return not any(_live(token) for token in tokens)


def _live(token: Token) -> bool:
    if token.type in ("html_block", "html_inline", "link_open", "image"):
        return True
    return any(_live(child) for child in token.children or ())


def _tamed(children: list[Token]) -> list[Token]:
    """Inline tokens without links and images, scrubbed."""
    tamed: list[Token] = []
    open_links: list[tuple[str, int]] = []  # address, place of its first word in `tamed`
    for token in children:
        if token.type == "link_open":
            open_links.append((one_line(token.attrs.get("href"), ADDRESS_CHARACTERS), len(tamed)))
        elif token.type == "link_close":
            address, first = open_links.pop()
            if "".join(child.content for child in tamed[first:]) not in (address, address.removeprefix("mailto:")):
                tamed.append(_text(f" ({address})"))
        elif token.type == "image":
            address = one_line(token.attrs.get("src"), ADDRESS_CHARACTERS)
            tamed.append(_text(f"(image: {one_line(token.content) or 'untitled'}, {address})"))
        else:
            token.content = one_line_keeping_ends(token.content)
            token.attrs = {}
            tamed.append(token)
    return _merged(tamed)


def _merged(tokens: list[Token]) -> list[Token]:
    """Neighbouring texts as one, so that what they spell together is seen when it is escaped."""
    merged: list[Token] = []
    for token in tokens:
        if token.type == "text" and merged and merged[-1].type == "text":
            merged[-1].content += token.content
        else:
            merged.append(token)
    return merged


def one_line_keeping_ends(text: str) -> str:
    """Scrubbed; an entity's newline becomes a space, so one text token stays on one line."""
    return re.sub(r"[\n\t]", " ", plain(text))


def _text(content: str) -> Token:
    return Token("text", "", 0, content=content)


def _render_text(renderer: RendererHTML, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
    def link(match: re.Match[str]) -> str:
        number = int(match.group(1))
        if not 1 <= number <= env.get("num_citations", 0):
            return match.group()
        return f'<sup class="cite"><a href="#{env["anchor"]}-{number}">{number}</a></sup>'

    return _CITATION.sub(link, escapeHtml(tokens[idx].content))


_PARSER = _parser()
_WITNESS = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
