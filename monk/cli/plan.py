"""`monk plan`: what a model will take and how fast it will be, before a byte of it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from monk.engine.config import EngineConfig
    from monk.engine.gguf_file import GgufFile
    from monk.plan.beside import Part
    from monk.plan.calibrated import Measured
    from monk.plan.fitting import Night, PaceOf, Search
    from monk.plan.outlook import Outlook
    from monk.plan.source import Source
    from monk.plan.speed import Machine, Pace
    from monk.settings import Settings

SHOWN_DEPTHS = {0: "none", 32768: "32k", 131072: "128k"}
PRESETS = (  # as monk/plan/presets.py says at length; repeated here so that --help needs none of it
    "max: the best weights with which 8,192 tokens fit, then the longest context (YaRN up to 4 times), then the most thoughts "
    "(up to 64). balanced: q8_0, 32,768 tokens, thoughts as the engine chooses. fast: q4_k_m, 8,192 tokens, up to 32 thoughts. "
    "What you say yourself stays, and a file keeps its weights."
)


def plan(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="GGUF file or its URL, config.json, or a name such as Qwen3-32B.")
    ],
    preset: Annotated[str | None, typer.Option(metavar="max|balanced|fast", help=PRESETS)] = None,
    fit: Annotated[
        bool,
        typer.Option(
            "--fit",
            help="Find the largest context that fits and is read and answered in a night; with --context, the best weights.",
        ),
    ] = False,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT", help="bf16 (of a described model the default), q8_0, q6_k, q5_k_m, q4_k_m, q4_0."
        ),
    ] = None,
    context: Annotated[int, typer.Option(min=0, metavar="N", help="Tokens of one thought; 0: what fits.")] = 0,
    slots: Annotated[int, typer.Option(min=0, max=256, metavar="N", help="Thoughts at once; 0: what fits.")] = 0,
    kv_type: Annotated[str | None, typer.Option(metavar="TYPE", help="Of the KV: f16, q8_0, bf16, f32.")] = None,
    kv_type_k: Annotated[str | None, typer.Option(metavar="TYPE", help="Of the keys alone.")] = None,
    kv_type_v: Annotated[str | None, typer.Option(metavar="TYPE", help="Of the values alone.")] = None,
    flash: Annotated[str | None, typer.Option(metavar="on|off|auto", help="Flash attention.")] = None,
    experts: Annotated[int, typer.Option(min=0, metavar="N", help="Experts that each token uses; 0: the model's.")] = 0,
    yarn: Annotated[float, typer.Option(min=0.0, metavar="X", help="Stretch the positions so many times.")] = 0.0,
    yarn_original: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Positions that --yarn stretches; 0: those the model was trained on."),
    ] = 0,
    rope_base: Annotated[
        float, typer.Option(min=0.0, metavar="X", help="Base of the positions; 0: the model's.")
    ] = 0.0,
    threads: Annotated[int, typer.Option(min=0, metavar="N", help="Threads at work; 0: all cores.")] = 0,
    adapter: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A LoRA that is worn: GGUF or PEFT folder. May be repeated."),
    ] = None,
    no_mmap: Annotated[bool, typer.Option("--no-mmap", help="Read the weights instead of mapping the file.")] = False,
    ram: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Memory of another machine, such as 1.5TB; else this one's.")
    ] = None,
    sockets: Annotated[int, typer.Option(min=1, max=16, metavar="N", help="Its processors.")] = 1,
    bandwidth: Annotated[
        str | None, typer.Option(metavar="BYTES/S", help="Of the memory of one socket, such as 460GB/s.")
    ] = None,
    cores: Annotated[
        int, typer.Option(min=0, metavar="N", help="Physical cores of one socket; 0: as many as go with its bandwidth.")
    ] = 0,
    numa: Annotated[
        str,
        typer.Option(metavar="off|distribute|isolate|numactl", help="How memory and threads lie on several sockets."),
    ] = "off",
    night: Annotated[str, typer.Option(metavar="TIME", help="How long a night lasts.")] = "9h",
    answer: Annotated[int, typer.Option(min=1, metavar="N", help="Tokens that --fit leaves time to write.")] = 1000,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw memory against RAM, and speed over depth by width.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Each figure with its formula.")] = False,
    home: Annotated[
        Path | None,
        typer.Option(help="Folder of all state: its settings and what `monk tune` and `monk bench` measured."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Say what a model takes and brings, here or elsewhere.

    monk plan Qwen3-30B-A3B --ram 1TB --bandwidth 460GB/s --cores 64

    monk plan Llama-3.1-70B --fit --ram 192GB --bandwidth 400GB/s --cores 24

    monk plan model.gguf --preset max --explain --picture plan.svg
    """
    from monk.cli.terminal import say_json
    from monk.engine.client import ModelUse
    from monk.plan import beside, source
    from monk.plan.amounts import seconds
    from monk.plan.fitting import Night
    from monk.settings import load

    settings = load(home=home)
    found = source.locate(model)
    use = ModelUse(
        experts=experts or None,
        rope_freq_base=rope_base or None,
        yarn_factor=yarn or None,
        yarn_original_context=yarn_original or None,
    )
    wanted = {
        "context": context,
        "slots": slots,
        "threads": threads,
        "kv_type_k": kv_type_k or kv_type,
        "kv_type_v": kv_type_v or kv_type,
        "flash_attention": flash,
        "mmap": False if no_mmap else None,
    }
    is_here = ram is None and bandwidth is None and not cores
    known = _Known(settings, found, weights, is_here=is_here and not (experts or threads))
    config = known.config(found.typed(weights), use, wanted)
    available, machine = _machine(ram, bandwidth, cores, sockets, numa, threads)
    parts = beside.parts(adapter or [], settings.embedding_model, settings.reranker)
    asked = _Asked(found, weights, available, machine, Night(seconds(night, "--night"), answer), known.measured, parts)
    result = asked.answer(config, preset=preset, fit=fit)
    if picture is not None:
        from monk.plan.picture import write

        write(result.outlook, picture)
    if json:
        say_json(result.to_json())
    else:
        _show(result, explain)
    return 0 if result.fits else 2


class _Known:
    """What this home knows of a model: its settings, and with `is_here` what was measured."""

    def __init__(self, settings: Settings, found: Source, weights: str | None, *, is_here: bool) -> None:
        self._settings = settings
        self._file = found.file if weights is None else None
        self._is_here = is_here
        self.measured: Measured | None = None

    def config(self, model: GgufFile, use: Any, wanted: dict[str, Any]) -> EngineConfig:
        """As the daemon would run it, with what is wanted in its place. Raises InvalidInput, SettingsInvalid."""
        from dataclasses import replace

        from monk.daemon import engine_config
        from monk.engine.model_use import check, over

        house = engine_config(self._settings)
        is_its_own = self._file is not None and model.path.resolve() == house.model_path.resolve()
        if not is_its_own:
            house = replace(
                house, model_use=type(use)(), context=0, slots=0, ubatch=0, threads=0, threads_batch=0, name=""
            )
            house = replace(house, threads_single=0, model_sha256=None, model_path=model.path)
        config = replace(house, **{name: value for name, value in wanted.items() if value})
        if wanted["mmap"] is False:
            config = replace(config, mmap=False, mlock=False)
        if wanted["kv_type_k"] or wanted["kv_type_v"]:
            config = replace(config, kv_types_free=False)
        config = replace(config, model_use=over(use, config.model_use))
        check(config.model_use, config.own_settings(model))
        return self._filled(config) if self._is_here else config

    def _filled(self, config: EngineConfig) -> EngineConfig:
        """With what was chosen for this model here, as the engine fills it in."""
        from monk.engine import fingerprint
        from monk.engine.bench import rates
        from monk.engine.lane_plan import uses_flash
        from monk.engine.machine import physical_cores
        from monk.engine.tuning import record
        from monk.plan.calibrated import Measured

        if self._file is None or not all(part.is_file() for part in self._file.parts):
            return config
        sha256 = config.model_sha256 or fingerprint.remembered(self._file.parts, config.hash_cache)
        if sha256 is None:
            return config
        if (found := record.find(config, sha256)) is not None:
            self.measured = Measured.of(found.facts, found.measured_at)
            config = record.fill(config, found.values)
        deeper = Measured.of_bench(
            rates.measured(self._settings.home / "bench", sha256),
            flash=uses_flash(config),
            types=(config.kv_type_k, config.kv_type_v),
            threads=config.threads or physical_cores(),
        )
        self.measured = deeper or self.measured
        return config


@dataclass(frozen=True, slots=True)
class _Result:
    outlook: Outlook
    told: str  # what was chosen by a preset or found by a search
    search: Search | None
    refusal: str

    @property
    def fits(self) -> bool:
        return not self.refusal

    def to_json(self) -> dict[str, Any]:
        found = self.outlook.to_json()
        found |= {"fits": self.fits, "refusal": self.refusal or None, "chosen": self.told or None}
        if self.search is not None:
            found["tried"] = [
                {
                    "weights": one.weights,
                    "context": one.context,
                    "needed_bytes": one.needed_bytes,
                    "seconds": round(one.seconds, 1),
                    "verdict": one.verdict,
                }
                for one in self.search.tried
            ]
        return found


@dataclass(frozen=True, slots=True)
class _Asked:
    """A model, a machine and a night."""

    source: Source
    weights: str | None
    available: int
    machine: Machine
    night: Night
    measured: Measured | None
    beside: tuple[Part, ...]

    @property
    def room(self) -> int:
        beside: int = sum(part.num_bytes for part in self.beside)
        return self.available - beside

    def pace_of(self, model: GgufFile, config: EngineConfig) -> Pace:
        from monk.plan.calibrated import pace_of

        return pace_of(model, config, self.machine, self.measured)

    def answer(self, config: EngineConfig, *, preset: str | None, fit: bool) -> _Result:
        """Raises InvalidInput."""
        from monk.plan import fitting, presets

        pace_of: PaceOf = self.pace_of
        weights, told, search, refusal = self.weights, "", None, ""
        if preset is not None and fit:
            from monk.errors import InvalidInput

            raise InvalidInput("--preset and --fit both choose; give one of them", param="fit")
        model = self.source.typed(weights)
        if preset is not None:
            chosen = presets.choose(preset, self.source, weights, config, self.room, pace_of)
            model, config, told = chosen.model, chosen.config, chosen.told
        if fit:
            search = fitting.search(self.source, weights, config, self.room, pace_of, self.night)
            model, told = search.model, f"{self.night.told()}: {search.told}"
            if search.config is None:
                way_out = fitting.way_out(search, self.room, pace_of, self.night, config)
                refusal = f"{search.told}; {way_out}"
            config = search.config or fitting.stretched(model, config, search.tried[-1].context)
        outlook = self._look(model, config)
        return _Result(outlook, told, search, refusal or outlook.refusal)

    def _look(self, model: GgufFile, config: EngineConfig) -> Outlook:
        from monk.plan.outlook import look

        at, by = ("", "") if self.measured is None else (self.measured.at, self.measured.by)
        pace = self.pace_of(model, config)
        return look(
            model,
            config,
            self.available,
            self.machine,
            self.night.seconds,
            pace=pace,
            measured_at=at,
            measured_by=by,
            beside=self.beside,
        )


def _machine(
    ram: str | None, bandwidth: str | None, cores: int, sockets: int, numa: str, threads: int
) -> tuple[int, Machine]:
    """(bytes to be had, the machine): this one where nothing is said. Raises InvalidInput."""
    from monk.engine.machine import measured_available_bytes, physical_cores
    from monk.errors import InvalidInput
    from monk.plan.amounts import num_bytes
    from monk.plan.machines import described, measured

    available = measured_available_bytes() if ram is None else num_bytes(ram, "--ram")
    if bandwidth is not None:
        return available, described(float(num_bytes(bandwidth, "--bandwidth")), cores, sockets, numa, threads)
    parts = (("--ram", ram is not None), ("--cores", cores > 0), ("--sockets", sockets > 1), ("--numa", numa != "off"))
    if given := [name for name, is_given in parts if is_given]:
        describe = "describes" if len(given) == 1 else "describe"
        raise InvalidInput(f"{', '.join(given)} {describe} another machine; say its --bandwidth too", param="bandwidth")
    return available, measured(min(threads or physical_cores(), physical_cores()))


def _show(result: _Result, explain: bool) -> None:
    from monk.cli.terminal import say, say_table, tell
    from monk.plan.amounts import told_bytes
    from monk.plan.outlook import FIXED, SHARES, table

    outlook, model = result.outlook, result.outlook.model
    fixed = ", ".join(f"{of(model)} {name}" for name, of in FIXED.items() if of(model))
    say(
        f"{model.path.name}: {model.architecture}, {model.num_parameters / 1e9:.2f} billion weights; fixed by them: {fixed}"
    )
    if result.told:
        say(result.told)
    if outlook.plan is not None:
        say(f"{outlook.plan.slots} thoughts at once, {outlook.plan.context} tokens each")
    if result.search is not None:
        say()
        say_table(("weights", "context", "needs", "takes", ""), [one.told() for one in result.search.tried])
    say()
    say_table(("memory", "", "from") if explain else ("memory", ""), table(outlook.memory, explain=explain))
    say()
    compute = ", ".join(
        f"flash attention {flash}: {'impossible with these KV types' if value is None else told_bytes(value)}"
        for flash, value in outlook.compute.items()
    )
    say(f"compute buffers of all lanes, {compute}")
    say()
    say_table(
        ("thoughts at once", *map(str, outlook.widths)),
        [("GiB in all", *(f"{v / 2**30:.1f}" for v in outlook.widths.values()))],
    )
    _show_time(outlook)
    say()
    say(f"{outlook.night.name}: {outlook.night.shown}" + (f", {outlook.night.formula}" if explain else ""))
    if outlook.measured_at:
        say(f"speeds as `{outlook.measured_by}` measured them here at {outlook.measured_at}")
    elif explain:
        gigabytes, gflops = outlook.machine.bandwidth / 1e9, outlook.machine.gflops
        say(f"reckoned with {gigabytes:.0f} GB/s and {gflops:.0f} GFLOP/s; {SHARES}")
    for note in outlook.notes:
        tell(note)
    if result.refusal:
        tell(f"it does not fit: {result.refusal}")


def _show_time(outlook: Outlook) -> None:
    from monk.cli.terminal import say, say_table
    from monk.plan.amounts import told_seconds

    widths = list(next(iter(outlook.steps.values())))
    rows = [
        (SHOWN_DEPTHS.get(depth, str(depth)), *(f"{rate:.1f}" for rate in row.values()))
        for depth, row in outlook.steps.items()
    ]
    say()
    say_table(("tokens/s behind", *(f"{width} at once" for width in widths)), rows)
    say()
    say_table(("prompt", "takes"), [(str(tokens), told_seconds(took)) for tokens, took in outlook.prompts.items()])
