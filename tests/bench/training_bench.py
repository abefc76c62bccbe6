"""A training against a bare loop of torch and PEFT over the same batches, in turns: tokens a second, and the planned memory.

python -m tests.bench.training_bench [--rounds 3] [--examples 48] [--steps 24]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from monk.engine import embedded, gguf_file
from monk.engine.machine import measured_available_bytes, measured_gflops, physical_cores
from monk.lora.training import session
from monk.lora.training.recipe import GIB, Shape, Wishes, propose
from monk.lora.training.trainer import Spec

TARGET = 0.9
NOBODY = {"part": "held", "ids": [1, 2, 3, 4], "prompt": 2}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=48)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--bare", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        print(json.dumps(_bare(Spec.from_json(json.loads(Path(options.bare).read_text())))))
        return 0
    with tempfile.TemporaryDirectory() as aside:
        return _compare(options, Path(aside))


def _compare(options: argparse.Namespace, aside: Path) -> int:
    model = embedded.model_path()
    lengths = [80 + (61 * number) % 160 for number in range(options.examples)]
    rows = [
        {"part": "taught", "ids": [(7 * i * i + number) % 40000 + 100 for i in range(length)], "prompt": length // 2}
        for number, length in enumerate(lengths)
    ]
    rows += [NOBODY] * (options.examples // 10)
    data = aside / "lessons.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    shape = Shape.of(gguf_file.read(model))
    proposal = propose(
        shape, lengths, max(lengths), Wishes(steps=options.steps), measured_available_bytes(), measured_gflops(), 0.0
    )
    spec = Spec(str(model), "bench", str(data), "bench", "", proposal.recipe, physical_cores(), 0, 20.0)
    rates: dict[str, list[float]] = {"bare": [], "ours": []}
    peaks: list[int] = []
    for number in range(options.rounds):
        (aside / "spec.json").write_text(json.dumps(spec.to_json()))
        command = [sys.executable, "-m", "tests.bench.training_bench", "--bare", str(aside / "spec.json")]
        bare = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        rates["bare"].append(bare["tokens"] / bare["seconds"])
        folder = aside / f"round-{number}"
        folder.mkdir()
        outcome = session.train(replace(spec, folder=str(folder)), lambda _: None, lambda: None)
        assert outcome is not None
        rates["ours"].append(outcome["tokens"] / outcome["seconds"])
        peaks.append(outcome["peak_bytes"])
        print(f"round {number + 1}: bare {rates['bare'][-1]:.0f}, ours {rates['ours'][-1]:.0f} tokens/s", flush=True)
    bare_rate, our_rate = (statistics.median(rates[who]) for who in ("bare", "ours"))
    print(
        f"median: bare {bare_rate:.0f}, ours {our_rate:.0f} tokens/s: {our_rate / bare_rate:.2f} of it ({TARGET} wanted)"
    )
    print(f"padding {100 * outcome['padding']:.1f} % (under 10 wanted)")
    planned, measured = proposal.memory_bytes / GIB, max(peaks) / GIB
    print(f"memory: planned {planned:.2f} GiB, peak {measured:.2f} GiB, {100 * (planned / measured - 1):+.0f} %")
    seconds = statistics.median([outcome["tokens"] / rate for rate in rates["ours"]])
    print(f"time: planned {proposal.seconds:.0f} s, took {seconds:.0f} s")
    return 0 if our_rate >= TARGET * bare_rate and outcome["padding"] < 0.1 else 1


def _bare(spec: Spec) -> dict[str, Any]:
    """What anybody would write: the same model, batches and optimiser, and nothing else."""
    import peft
    import torch
    import transformers

    from monk.lora.training.batches import schedule
    from monk.lora.training.trainer import MODULES, read_lessons

    torch.set_num_threads(spec.threads)
    path = Path(spec.model)
    base = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    config = peft.LoraConfig(r=spec.recipe.rank, lora_alpha=spec.recipe.alpha, target_modules=list(MODULES[:7]))
    model = peft.get_peft_model(base, config)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=spec.recipe.learning_rate)
    lessons = read_lessons(Path(spec.data))["taught"]
    steps = schedule([len(lesson.ids) for lesson in lessons], spec.recipe)
    tokens, began = 0, time.perf_counter()
    for batch in steps:
        chosen = [lessons[place] for place in batch]
        width = max(len(lesson.ids) for lesson in chosen)
        ids = torch.zeros((len(chosen), width), dtype=torch.long)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
        for row, lesson in enumerate(chosen):
            ids[row, : len(lesson.ids)] = torch.tensor(lesson.ids)
            mask[row, : len(lesson.ids)] = 1
            labels[row, lesson.prompt : len(lesson.ids)] = ids[row, lesson.prompt : len(lesson.ids)]
            tokens += len(lesson.ids)
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    return {"tokens": tokens, "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    sys.exit(main())
