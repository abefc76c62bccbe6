"""The training itself, over torch, transformers and PEFT; with nothing here that knows jobs, shelves or processes.

LoRA (Hu et al. 2021, arXiv:2106.09685) on all linear layers of a frozen model in f32; cross entropy over the answer's tokens
only; AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101). Of the evaluations on what is held back the best one is kept.
"""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from monk.errors import MemoryTooSmall, ModelUnusable
from monk.lora.training import checkpoint
from monk.lora.training.batches import Batch, group, padding_share, schedule
from monk.lora.training.recipe import GIB, MODULES, Recipe

LOOKED_AT = 64  # held-back lessons of an evaluation on the way: all of a large part would cost a tenth of the training
TELL_SECONDS = 10.0  # an event in the database each
IGNORED = -100  # label of a token that is not taught, as torch has it
Part = Literal["taught", "held", "general"]
Why = Literal["steps", "early", "minutes", "paused"]
Told = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Lesson:
    """One example in tokens; the first `prompt` of them are not taught."""

    ids: tuple[int, ...]
    prompt: int


@dataclass(frozen=True, slots=True)
class Spec:
    """All that a training is given. `model`: a GGUF file, or a folder with safetensors. `model_key`: its content."""

    model: str
    model_key: str
    data: str  # lessons, as JSONL: {"part", "ids", "prompt"}
    data_sha256: str
    folder: str  # for checkpoints and what comes out
    recipe: Recipe
    threads: int
    memory_bytes: int  # the process may take no more; 0: no limit
    save_seconds: float  # between two checkpoints

    @property
    def key(self) -> str:
        """Names the training: what makes its bytes."""
        told = [self.recipe.to_json(), self.data_sha256, self.model_key, self.threads]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Spec:
        return cls(**{**values, "recipe": Recipe(**values["recipe"])})


def too_small(spec: Spec) -> MemoryTooSmall:
    """The process was given no more than was planned."""
    return MemoryTooSmall(
        f"training took more than the {spec.memory_bytes / GIB:.2f} GiB that were planned for it; give fewer or shorter "
        "examples, or a smaller rank",
        needed_bytes=spec.memory_bytes,
    )


def read_lessons(path: Path) -> dict[Part, list[Lesson]]:
    """By part, in the order of the file."""
    found: dict[Part, list[Lesson]] = {"taught": [], "held": [], "general": []}
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            found[row["part"]].append(Lesson(tuple(row["ids"]), row["prompt"]))
    return found


class Trainer:
    """One training, from where its checkpoint left it. Raises ModelUnusable when the weights cannot be read."""

    def __init__(self, spec: Spec, told: Told) -> None:
        import torch

        self._torch = torch
        self._spec, self._told = spec, told
        self._recipe = spec.recipe
        torch.set_num_threads(spec.threads)
        torch.use_deterministic_algorithms(True)
        torch.manual_seed(spec.recipe.seed)
        self._lessons = read_lessons(Path(spec.data))
        self._schedule = schedule([len(lesson.ids) for lesson in self._lessons["taught"]], self._recipe)
        self._model = _adapted(_base(Path(spec.model)), self._recipe)
        self._values = {name: value for name, value in self._model.named_parameters() if value.requires_grad}
        self._optimiser = torch.optim.AdamW(
            list(self._values.values()), lr=self._recipe.learning_rate, weight_decay=self._recipe.weight_decay
        )
        self._step = 0
        self._best: dict[str, Any] = {}
        self._facts: dict[str, Any] = {"curve": [], "evaluations": [], "seconds": 0.0, "ended": None}
        self._checkpoint = Path(spec.folder) / "checkpoint.safetensors"
        self.resumed_at = self._resume()

    # --- the way

    def run(self, asked: Callable[[], Why | None]) -> Why:
        """Train until it ends or is asked to; "paused" leaves a checkpoint to go on from."""
        began = saved = told = time.monotonic()
        before = self._facts["seconds"]
        if not self._facts["evaluations"]:
            self._evaluate()
        while self._facts["ended"] is None:
            loss = self._learn(self._schedule[self._step])
            self._step += 1
            now = time.monotonic()
            self._facts["seconds"] = before + now - began
            self._facts["curve"].append(round(loss, 5))
            is_last = self._step == len(self._schedule)
            if is_last or self._step % self._recipe.evaluate_every == 0:
                self._evaluate()
                self._facts["ended"] = "steps" if is_last else "early" if self._has_stalled() else None
            if now - told >= TELL_SECONDS or self._facts["ended"]:
                self._tell(loss)
                told = now
            why = asked()
            if why == "paused" and self._facts["ended"] is None:
                self._save()
                return "paused"
            if why == "minutes" and self._facts["ended"] is None:
                self._evaluate()
                self._facts["ended"] = "minutes"
            if now - saved >= self._spec.save_seconds or self._facts["ended"]:
                self._save()
                saved = time.monotonic()
        ended: Why = self._facts["ended"]
        return ended

    def finish(self) -> dict[str, Any]:
        """The best adapter as a PEFT folder, and what it and the bare model lose on what was held back and in general."""
        self._wear_best()
        folder = Path(self._spec.folder) / "adapter"
        fresh = folder.with_name(".adapter.new")
        shutil.rmtree(fresh, ignore_errors=True)
        self._model.save_pretrained(str(fresh), safe_serialization=True)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
        parts: tuple[Part, ...] = ("held", "general")
        adapted = {part: self.loss(part) for part in parts}
        with self._model.disable_adapter():
            bare = {part: self.loss(part) for part in parts}
        lengths = [len(lesson.ids) for lesson in self._lessons["taught"]]
        done = self._schedule[: self._step]
        return {
            "folder": str(folder),
            "ended": self._facts["ended"],
            "steps": self._step,
            "planned_steps": len(self._schedule),
            "seconds": round(self._facts["seconds"], 3),
            "tokens": sum(lengths[place] for batch in done for place in batch),
            "padding": round(padding_share(lengths, done), 4),
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "curve": self._facts["curve"],
            "evaluations": self._facts["evaluations"],
            "held": {"base": bare["held"], "adapter": adapted["held"]},
            "general": {"base": bare["general"], "adapter": adapted["general"]},
        }

    def loss(self, part: Part, most: int | None = None) -> float:
        """Mean cross entropy of an answer's token over a part, or its first lessons, in nats; 0 for an empty one."""
        total, count = 0.0, 0
        self._model.eval()
        with self._torch.no_grad():
            for batch in self._batches(part, most):
                value, tokens = self._entropy(self._lessons[part], batch)
                total, count = total + float(value) * tokens, count + tokens
        return total / count if count else 0.0

    # --- one step

    def _learn(self, batch: Batch) -> float:
        self._model.train()
        for group_ in self._optimiser.param_groups:
            group_["lr"] = self._recipe.rate(self._step)
        value, _ = self._entropy(self._lessons["taught"], batch)
        value.backward()
        self._torch.nn.utils.clip_grad_norm_(self._values.values(), self._recipe.clip)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        return float(value)

    def _entropy(self, lessons: list[Lesson], batch: Batch) -> tuple[Any, int]:
        """(mean cross entropy, number of taught tokens) of a batch; logits only where some answer is."""
        torch = self._torch
        chosen = [lessons[place] for place in batch]
        width = max(len(lesson.ids) for lesson in chosen)
        ids = torch.zeros((len(chosen), width), dtype=torch.long)
        mask = torch.zeros_like(ids)
        labels = torch.full_like(ids, IGNORED)
        for row, lesson in enumerate(chosen):
            length = len(lesson.ids)
            ids[row, :length] = torch.tensor(lesson.ids)
            mask[row, :length] = 1
            labels[row, lesson.prompt : length] = ids[row, lesson.prompt : length]
        wanted = labels[:, 1:]
        places = (wanted != IGNORED).any(dim=0).nonzero().flatten()
        logits = self._model(input_ids=ids, attention_mask=mask, logits_to_keep=places, use_cache=False).logits
        targets = wanted[:, places]
        value = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction="mean"
        )
        return value, int((targets != IGNORED).sum())

    def _batches(self, part: Part, most: int | None) -> Iterator[Batch]:
        lengths = [len(lesson.ids) for lesson in self._lessons[part][:most]]
        yield from group(lengths, self._recipe.batch_tokens, self._recipe.batch_examples)

    # --- how it goes

    def _evaluate(self) -> None:
        value = self.loss("held", LOOKED_AT)
        known = self._facts["evaluations"]
        if not known or value < min(one["loss"] for one in known):
            self._best = {name: tensor.detach().clone() for name, tensor in self._values.items()}
        known.append({"step": self._step, "loss": round(value, 6)})
        self._told({"event": "evaluated", "step": self._step, "of": len(self._schedule), "loss": round(value, 4)})

    def _has_stalled(self) -> bool:
        losses = [one["loss"] for one in self._facts["evaluations"]]
        best = losses.index(min(losses))
        return len(losses) - 1 - best >= self._recipe.patience

    def _tell(self, loss: float) -> None:
        done = self._schedule[: self._step]
        tokens = sum(len(self._lessons["taught"][place].ids) for batch in done for place in batch)
        seconds = self._facts["seconds"]
        self._told(
            {
                "event": "progress",
                "step": self._step,
                "of": len(self._schedule),
                "loss": round(loss, 4),
                "tokens_per_second": round(tokens / seconds, 1) if seconds else 0.0,
                "seconds_left": round(seconds / self._step * (len(self._schedule) - self._step), 1),
            }
        )

    def _wear_best(self) -> None:
        with self._torch.no_grad():
            for name, value in self._best.items():
                self._values[name].copy_(value)

    # --- the checkpoint

    def _save(self) -> None:
        arrays = {"random": self._torch.get_rng_state().numpy()}
        for name, value in self._values.items():
            arrays[f"value.{name}"] = value.detach().numpy()
            arrays[f"best.{name}"] = self._best[name].numpy()
            for moment in ("exp_avg", "exp_avg_sq"):
                if (state := self._optimiser.state.get(value)) is not None:
                    arrays[f"{moment}.{name}"] = state[moment].numpy()
        checkpoint.save(self._checkpoint, self._spec.key, arrays, {**self._facts, "step": self._step})

    def _resume(self) -> int:
        """The step it goes on from; 0 when there is no checkpoint of this very training."""
        found = checkpoint.load(self._checkpoint, self._spec.key)
        if found is None:
            return 0
        arrays, facts = found
        torch = self._torch
        with torch.no_grad():
            for name, value in self._values.items():
                value.copy_(torch.from_numpy(arrays[f"value.{name}"]))
                self._best[name] = torch.from_numpy(arrays[f"best.{name}"])
                if f"exp_avg.{name}" in arrays:
                    self._optimiser.state[value] = {
                        "step": torch.tensor(float(facts["step"])),
                        "exp_avg": torch.from_numpy(arrays[f"exp_avg.{name}"]),
                        "exp_avg_sq": torch.from_numpy(arrays[f"exp_avg_sq.{name}"]),
                    }
        torch.set_rng_state(torch.from_numpy(arrays["random"].astype(np.uint8)))
        self._step = int(facts.pop("step"))
        self._facts = facts
        return self._step


def _base(path: Path) -> Any:
    """The frozen model in f32. Raises ModelUnusable when transformers cannot read it, MemoryTooSmall."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    kind: dict[str, Any] = {"use_safetensors": True} if path.is_dir() else {"gguf_file": path.name}
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            path if path.is_dir() else path.parent, dtype=torch.float32, local_files_only=True, **kind
        )
    except MemoryError as exc:
        raise MemoryTooSmall(f"{path.name} does not fit into the memory that was planned for training") from exc
    except Exception as exc:  # what a reader of such files stumbles on has many names
        if isinstance(exc, RuntimeError) and "alloc" in str(exc):
            raise
        raise ModelUnusable(
            f"transformers cannot read {path.name} for training: {str(exc)[:500]}; give `base`, a folder with the same "
            "model's config.json and safetensors"
        ) from exc
    model.config.use_cache = False
    return model


def _adapted(model: Any, recipe: Recipe) -> Any:
    import peft
    import torch

    linear = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    targets = [name for name in MODULES if name in linear]
    if not targets:
        raise ModelUnusable(f"this model has none of the layers that are trained ({', '.join(MODULES)})")
    config = peft.LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=targets,
        bias="none",
        task_type="CAUSAL_LM",
    )
    return peft.get_peft_model(model, config)
