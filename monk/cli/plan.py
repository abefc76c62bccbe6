"""`monk plan`: what a model will take and how fast it will be, before a byte of it is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from monk.engine.config import EngineConfig
    from monk.plan.outlook import Outlook
    from monk.plan.speed import Machine

SHOWN_DEPTHS = {0: "none", 32768: "32k", 131072: "128k"}


def plan(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="GGUF file or its URL, config.json, or a name such as Qwen3-32B.")
    ],
    weights: Annotated[
        str, typer.Option(metavar="FORMAT", help="Of a model that is only described: bf16, q8_0, q4_k_m ...")
    ] = "bf16",
    context: Annotated[int, typer.Option(min=0, metavar="N", help="Tokens of one thought; 0: what fits.")] = 0,
    slots: Annotated[int, typer.Option(min=0, max=256, metavar="N", help="Thoughts at once; 0: what fits.")] = 0,
    kv_type: Annotated[str, typer.Option(metavar="TYPE", help="Of the KV: f16, q8_0, bf16, f32.")] = "f16",
    flash: Annotated[str, typer.Option(metavar="on|off|auto", help="Flash attention.")] = "auto",
    experts: Annotated[int, typer.Option(min=0, metavar="N", help="Experts that each token uses; 0: the model's.")] = 0,
    yarn: Annotated[float, typer.Option(min=0.0, metavar="X", help="Stretch the positions so many times.")] = 0.0,
    ram: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Memory of another machine, such as 1.5TB; else this one's.")
    ] = None,
    bandwidth: Annotated[
        str | None, typer.Option(metavar="BYTES/S", help="Of its memory, all sockets together, such as 460GB/s.")
    ] = None,
    cores: Annotated[int, typer.Option(min=0, metavar="N", help="Its physical cores.")] = 0,
    night: Annotated[str, typer.Option(metavar="TIME", help="How long a night lasts.")] = "9h",
    explain: Annotated[bool, typer.Option("--explain", help="Each figure with its formula.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Say what a model takes and brings, here or elsewhere.

    monk plan Qwen3-30B-A3B --ram 1TB --bandwidth 460GB/s --cores 64

    monk plan model.gguf --context 131072 --explain
    """
    from monk.cli.terminal import say_json
    from monk.plan import source
    from monk.plan.amounts import seconds
    from monk.plan.outlook import look

    found = source.find(model, weights.lower())
    config = _config(found.path, context, slots, kv_type, flash, experts, yarn)
    available, machine = _machine(ram, bandwidth, cores)
    outlook = look(found, config, available, machine, seconds(night, "--night"))
    if json:
        say_json(outlook.to_json())
    else:
        _show(outlook, explain)
    return 0 if outlook.plan is not None else 2


def _config(path: Any, context: int, slots: int, kv_type: str, flash: str, experts: int, yarn: float) -> EngineConfig:
    from monk.engine.client import ModelUse
    from monk.engine.config import EngineConfig

    return EngineConfig(
        path,
        context=context,
        slots=slots,
        kv_type_k=kv_type,  # type: ignore[arg-type]  # checked there
        kv_type_v=kv_type,  # type: ignore[arg-type]
        flash_attention=flash,  # type: ignore[arg-type]
        model_use=ModelUse(experts=experts or None, yarn_factor=yarn or None),
    )


def _machine(ram: str | None, bandwidth: str | None, cores: int) -> tuple[int, Machine]:
    """(bytes to be had, the machine): this one where nothing is said. Raises InvalidInput."""
    from monk.engine.machine import measured_available_bytes, physical_cores
    from monk.errors import InvalidInput
    from monk.plan.amounts import num_bytes
    from monk.plan.outlook import measured
    from monk.plan.speed import GFLOPS_PER_CORE, Machine

    available = measured_available_bytes() if ram is None else num_bytes(ram, "--ram")
    if bandwidth is None and not cores:
        if ram is not None:
            raise InvalidInput(
                "--ram describes another machine; say its --bandwidth and --cores too", param="bandwidth"
            )
        return available, measured(physical_cores())
    if bandwidth is None or not cores:
        raise InvalidInput("--bandwidth and --cores describe a machine together; give both", param="bandwidth")
    return available, Machine(float(num_bytes(bandwidth, "--bandwidth")), GFLOPS_PER_CORE * cores)


def _show(outlook: Outlook, explain: bool) -> None:
    from monk.cli.terminal import say, say_table, tell
    from monk.plan.amounts import told_seconds
    from monk.plan.outlook import FIXED, SHARES, table

    model = outlook.model
    fixed = ", ".join(f"{of(model)} {name}" for name, of in FIXED.items() if of(model))
    say(
        f"{model.path.name}: {model.architecture}, {model.num_parameters / 1e9:.2f} billion weights; fixed by them: {fixed}"
    )
    if outlook.plan is not None:
        say(f"{outlook.plan.slots} thoughts at once, {outlook.plan.context} tokens each")
    say()
    say_table(("memory", "", "from") if explain else ("memory", ""), table(outlook.memory, explain=explain))
    say()
    widths = list(next(iter(outlook.steps.values())))
    rows = [
        (SHOWN_DEPTHS.get(depth, str(depth)), *(f"{rate:.1f}" for rate in row.values()))
        for depth, row in outlook.steps.items()
    ]
    say_table(("tokens/s behind", *(f"{width} at once" for width in widths)), rows)
    say()
    say_table(("prompt", "takes"), [(str(tokens), told_seconds(took)) for tokens, took in outlook.prompts.items()])
    say()
    say(f"{outlook.night.name}: {outlook.night.shown}" + (f", {outlook.night.formula}" if explain else ""))
    if explain:
        gigabytes, gflops = outlook.machine.bandwidth / 1e9, outlook.machine.gflops
        say(f"reckoned with {gigabytes:.0f} GB/s and {gflops:.0f} GFLOP/s; {SHARES}")
    for note in outlook.notes:
        tell(note)
    if outlook.refusal:
        tell(f"it does not fit: {outlook.refusal}")
