"""Grammars that could take the engine down are refused before llama.cpp sees them."""

from __future__ import annotations

import pytest

from monk.engine.grammar import check_grammar
from monk.errors import InvalidInput


@pytest.mark.parametrize(
    "grammar",
    [
        'root ::= "yes" | "no"',
        "root ::= item{1,9} ([a-z]{3}){4}",
        'root ::= "((((" [({]{5} # ((((((' + "\n",
        "root ::= " + "(" * 60 + '"a"' + ")" * 60,
        'root ::= "a"{2000}',
        'root ::= "a"{1500}\nb ::= "b"{1500}',
    ],
)
def test_ordinary_grammars_pass(grammar: str) -> None:
    check_grammar(grammar)


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("root ::= \0", "NUL"),
        ("#" * 70000, "70000 characters"),
        ("root ::= " + "(" * 20000, "nested more than 64"),
        ('root ::= "a"{2001}', "more than 2000 times"),
        ('root ::= ("a"{100}){100}', "more than 2000 times"),
        ('root ::= ((("a"?){1000}){100}){10}', "more than 2000 times"),
        ('root ::= ("a"{0,99999999999999999999})', "more than 2000 times"),
    ],
)
def test_dangerous_grammars_are_refused(grammar: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as caught:
        check_grammar(grammar)
    assert caught.value.param == "grammar"
