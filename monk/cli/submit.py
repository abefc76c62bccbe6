"""`monk submit`: a question into the queue, and, if wished, its answer out of it."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer


def submit(
    text: Annotated[str | None, typer.Argument(metavar="TEXT|-", help='The question; "-" reads it from stdin.')] = None,
    kind: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="answer, think, read, chat, needle or one of yours (`monk kinds`)."),
    ] = None,
    input_: Annotated[
        str | None, typer.Option("--input", metavar="JSON", help="The whole input, for any kind.")
    ] = None,
    document: Annotated[
        str | None, typer.Option(metavar="PATH", help="Read this document of the corpus, whole.")
    ] = None,
    question: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="What to ask it; may be given again.")
    ] = None,
    folder: Annotated[
        str | None, typer.Option(metavar="PATH", help="Look only into this folder of the corpus (answer).")
    ] = None,
    type_: Annotated[
        list[str] | None, typer.Option("--type", metavar="TYPE", help="Only into pdf, md ...; may be given again.")
    ] = None,
    tagged: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="Only into documents with this tag; may be given again.")
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="DATE", help="Only into files changed since 2026-01-31.")] = None,
    until: Annotated[str | None, typer.Option(metavar="DATE", help="Only into files changed before then.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="WORD", help="A word to find it by; may be given again.")
    ] = None,
    priority: Annotated[int | None, typer.Option(min=-100, max=100, metavar="N", help="Higher runs first.")] = None,
    not_before: Annotated[str | None, typer.Option(metavar="WHEN", help="22:30, 2h or RFC 3339.")] = None,
    deadline: Annotated[str | None, typer.Option(metavar="WHEN", help="Fail it if it is not done by then.")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, metavar="N", help="Budget: tokens to write.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.0, metavar="N", help="Budget: minutes to think.")] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Budget: independent samples (think).")
    ] = None,
    thinking: Annotated[
        float | None,
        typer.Option(
            min=0.0, metavar="N", help="Budget: when a reasoning model must answer; 0.7 of its tokens, or tokens."
        ),
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option(metavar="NAME", help='LoRA adapter to wear: "lawyer", "lawyer:0.8", or several with +.'),
    ] = None,
    experts: Annotated[int | None, typer.Option(metavar="N", help="Experts of a mixture that each token uses.")] = None,
    rope_freq_base: Annotated[float | None, typer.Option(metavar="N", help="Base of the rotary positions.")] = None,
    rope_freq_scale: Annotated[
        float | None, typer.Option(metavar="N", help="Scale of the positions: 0.5 makes twice as many fit.")
    ] = None,
    yarn_factor: Annotated[
        float | None, typer.Option(metavar="N", help="The same by YaRN: 2 makes twice as many fit.")
    ] = None,
    yarn_original_context: Annotated[
        int | None, typer.Option(metavar="N", help="Tokens the model was trained for before YaRN.")
    ] = None,
    kv_type_k: Annotated[str | None, typer.Option(metavar="TYPE", help="Type of the stored keys: q8_0, f16.")] = None,
    kv_type_v: Annotated[str | None, typer.Option(metavar="TYPE", help="Type of the stored values.")] = None,
    flash_attention: Annotated[str | None, typer.Option(metavar="on|off", help="Flash attention.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="The same seed gives the same answer.")] = None,
    key: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Idempotency key: submitting it again gives the same job.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Watch it think and print the answer. Ctrl-C stops watching.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="With --wait: only the answer.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Submit a job; it runs in the next night.

    monk submit "How much memory does a 128k KV cache take?"

    monk submit --document minutes.pdf --question "What was decided?" --wait

    git diff | monk submit - --kind chat --wait
    """
    from monk.cli.handing_in import hand_in
    from monk.cli.session import moment_from

    kind, given = kind_and_input(text, kind, input_, document, question)
    only = _given(folder=folder, types=type_ or None, tags=tagged or None, since=since, until=until)
    given = looking_into(given, only)
    budget = _given(tokens=tokens, minutes=minutes, samples=samples, thinking=thinking)
    model = _given(
        experts=experts,
        rope_freq_base=rope_freq_base,
        rope_freq_scale=rope_freq_scale,
        yarn_factor=yarn_factor,
        yarn_original_context=yarn_original_context,
        kv_type_k=kv_type_k,
        kv_type_v=kv_type_v,
        flash_attention=flash_attention,
    )
    job = _given(
        kind=kind,
        input=given,
        tags=tag or None,
        priority=priority,
        not_before=moment_from(not_before, "--not-before"),
        deadline=moment_from(deadline, "--deadline"),
        budget=budget or None,
        adapter=adapter,
        model=model or None,
        seed=seed,
        idempotency_key=key,
    )
    return hand_in(job, wait=wait, live=not quiet, json=json)


def kind_and_input(
    text: str | None, kind: str | None, input_: str | None, document: str | None, questions: list[str] | None
) -> tuple[str, dict[str, Any]]:
    """What is asked, from one of three ways to say it. Raises InvalidInput when none or several are given."""
    from monk.errors import InvalidInput

    ways = [name for name, way in (("TEXT", text), ("--input", input_), ("--document", document)) if way is not None]
    if len(ways) != 1:
        told = f"{' and '.join(ways)} are too many" if ways else "nothing is asked"
        raise InvalidInput(f"{told}; give one of TEXT, --input JSON, or --document with --question")
    if questions and document is None:
        raise InvalidInput("--question needs --document; a question of its own is just TEXT", param="question")
    if document is not None:
        return _read(document, questions or [], kind)
    if input_ is not None:
        return kind or "answer", _object(input_)
    assert text is not None
    return _plain(sys.stdin.read() if text == "-" else text, kind or "answer")


def looking_into(given: dict[str, Any], only: dict[str, Any]) -> dict[str, Any]:
    """The input with what restricts its documents. Raises InvalidInput where it already says so itself."""
    from monk.errors import InvalidInput

    if only and "only" in given:
        raise InvalidInput('--input holds "only" already; say there which documents, or leave it out', param="only")
    return {**given, "only": only} if only else given


def _plain(text: str, kind: str) -> tuple[str, dict[str, Any]]:
    if kind == "chat":
        return kind, {"messages": [{"role": "user", "content": text}]}
    return kind, {"question": text}


def _read(document: str, questions: list[str], kind: str | None) -> tuple[str, dict[str, Any]]:
    from monk.errors import InvalidInput

    if not questions:
        raise InvalidInput(f"--document {document} needs --question: what to ask it", param="question")
    return kind or "read", {"document": document, "questions": questions}


def _object(text: str) -> dict[str, Any]:
    import json

    from monk.errors import InvalidInput

    try:
        value = json.loads(sys.stdin.read() if text == "-" else text)
    except ValueError as exc:
        raise InvalidInput(f"--input is no JSON: {exc}", param="input") from exc
    if not isinstance(value, dict):
        raise InvalidInput('--input must be a JSON object, such as {"question": "..."}', param="input")
    return value


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
