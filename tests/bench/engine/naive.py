"""Naive: `llama_cpp.Llama.create_completion`, one prompt after the other, as a script around the library would do it.

In a process of its own: `python -m tests.bench.engine.naive` takes the work as JSON on stdin and answers on stdout.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from tests.bench.engine.peers import ENVIRONMENT, REPOSITORY, WARM_TOKENS, Answer, Outcome, PeerFailed, Place
from tests.bench.engine.workloads import TOP_K, Work


class Naive:
    """The library's own class, with the reuse of a common beginning it has by itself."""

    name = "naive"

    def run(self, work: Work, place: Place) -> Outcome:
        command = [sys.executable, "-m", "tests.bench.engine.naive"]
        done = subprocess.run(
            command,
            input=json.dumps(_order(work, place)),
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            env=ENVIRONMENT,
            check=False,
        )
        if done.returncode:
            words = done.stderr.strip().splitlines()
            raise PeerFailed(f"naive ended with {done.returncode}: {words[-1] if words else 'no last words'}")
        result = json.loads(done.stdout.splitlines()[-1])
        return Outcome(result["seconds"], tuple(Answer(count, text) for count, text in result["answers"]))


def _order(work: Work, place: Place) -> dict[str, Any]:
    shape = work.shape
    return {
        "model": str(place.model),
        "threads": place.threads,
        "context": work.context,
        "prompts": [list(prompt) for prompt in work.prompts],
        "samples": shape.samples,
        "new_tokens": shape.new_tokens,
        "temperature": shape.temperature,
        "no_end": {str(token): bias for token, bias in place.no_end.items()},
    }


def serve(order: dict[str, Any]) -> dict[str, Any]:
    """Load, warm up, answer all; the seconds are those of the answers."""
    from llama_cpp import Llama

    model = Llama(
        order["model"],
        n_ctx=order["context"],
        n_threads=order["threads"],
        n_threads_batch=order["threads"],
        verbose=False,
    )
    model.create_completion(order["prompts"][0][:WARM_TOKENS][::-1], max_tokens=WARM_TOKENS)
    answers = []
    began = time.perf_counter()
    for prompt in order["prompts"]:
        for seed in range(order["samples"]):
            done = _complete(model, order, prompt, seed)
            answers.append([done["usage"]["completion_tokens"], done["choices"][0]["text"]])
    return {"seconds": time.perf_counter() - began, "answers": answers}


def _complete(model: Any, order: dict[str, Any], prompt: list[int], seed: int) -> Any:
    """One answer. Behind half a character the library goes on past `max_tokens`; the criterion holds it back."""
    from llama_cpp import StoppingCriteriaList

    most = len(prompt) + order["new_tokens"]
    return model.create_completion(
        prompt,
        max_tokens=order["new_tokens"],
        temperature=order["temperature"],
        top_k=TOP_K,
        top_p=1.0,
        min_p=0.0,
        repeat_penalty=1.0,
        seed=seed,
        logit_bias=order["no_end"],
        stopping_criteria=StoppingCriteriaList([lambda ids, _logits: len(ids) >= most]),
    )


if __name__ == "__main__":
    print(json.dumps(serve(json.load(sys.stdin))))
