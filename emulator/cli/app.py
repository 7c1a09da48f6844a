"""The command line: verbs only; each calls one function elsewhere."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from emulator.cli.usage_errors import Verbs
from emulator.cli.usage_errors import clear_messages as _clear_messages
from emulator.core.errors import ScenarioError

if TYPE_CHECKING:
    from emulator.scenario.load import Reading

app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

channel = typer.Typer(
    help="What a scenario's air comes to, before anything is run.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(channel, name="channel")

ScenarioFile = Annotated[Path, typer.Argument(help="scenario in YAML", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="override a value; may be repeated"),
]
MoreOverrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", help="more overrides")
]
ScenarioOrPreset = Annotated[
    str,
    typer.Argument(
        metavar="SCENARIO|PRESET",
        help="scenario in YAML, or a channel preset: a name, or a file of channel and access",
        show_default=False,
    ),
]
Runs = Annotated[list[Path], typer.Argument(help="output folders of runs", show_default=False)]


def _tell_version(asked: bool) -> None:
    if asked:
        from importlib import metadata

        sys.stdout.write(f"{metadata.version('wireless-dfl-emulator')}\n")
        raise typer.Exit


@app.callback()
def emulator(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="print it and stop"),
    ] = False,
) -> None:
    """Emulate wireless devices that fine-tune a frozen LLM together."""


@app.command()
def run(
    scenario: ScenarioFile,
    more: MoreOverrides = None,
    override: Overrides = None,
    driver: Annotated[
        str, typer.Option(help="many_processes (one per device) or one_process")
    ] = "many_processes",
    out: Annotated[
        Path | None, typer.Option(help="output folder; default runs/<name>-<method>-<seed>")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace an earlier run")] = False,
    devices_per_host: Annotated[
        int | None,
        typer.Option(
            min=1, help="under a launcher of one process a host: fork so many devices here"
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no table, and nothing in a log")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="check and load everything, print how many devices, stop"),
    ] = False,
) -> None:
    """Run a scenario and write everything it came to into a folder."""
    with _clear_messages() as ending:
        from emulator.runtime.launcher_env import environment_world

        place = environment_world()
        speaks = place is None or place[0] == 0
        if place is not None and speaks and not quiet:  # in a container's log all else comes late
            sys.stderr.write(f"{scenario.name}: loading\n")
            sys.stderr.flush()
        reading = _read(scenario, override, more, speaks=speaks)
        ending.scenario = scenario.name
        from emulator.analysis.channel.link_budget import air_notes
        from emulator.runtime.run import Order, rehearse
        from emulator.runtime.run import run as run_order

        chosen = reading.scenario
        air = chosen.bind_air() if speaks else None
        _note(air_notes(chosen, air) if air else [])
        folder = out or Path("runs") / chosen.run_name
        order = Order(chosen, driver, folder, force, devices_per_host, air)
        if dry_run:
            found = rehearse(order)
            if speaks:
                _note(found)
                done = (
                    f"{chosen.run_name}: checked and loaded, nothing was run; number of devices:\n"
                )
                sys.stderr.write(done)
            sys.stdout.write(f"{chosen.devices}\n")
            return
        console = Console(stderr=True, quiet=quiet and not sys.stderr.isatty())
        written = run_order(order, console, ending.all_is_in)
        if written is not None and not quiet:
            from emulator.analysis.run_tables import comparison

            _console().print(comparison([written]))


@app.command()
def check(scenario: ScenarioFile, more: MoreOverrides = None, override: Overrides = None) -> None:
    """Check a scenario and its air and print it in full; run --dry-run also loads model and data."""
    with _clear_messages() as ending:
        ending.scenario = scenario.name
        from emulator.analysis.channel.link_budget import air_notes
        from emulator.scenario.adapter_size import check_rank, size_notes
        from emulator.scenario.load import dump_scenario

        found = _read(scenario, override, more, speaks=True).scenario
        _note(air_notes(found, found.bind_air()))
        check_rank(found, found.backbone.shapes_dk)
        _note(size_notes(found, found.backbone.shapes_dk))
        sys.stdout.write(dump_scenario(found))


@app.command()
def report(runs: Runs) -> None:
    """Show what runs came to, one table each."""
    with _clear_messages():
        from emulator.analysis.run_tables import comparison, confusion

        for folder in runs:
            _console().print(comparison([folder]))
            if routed := confusion(folder):
                _console().print(routed)


@app.command()
def compare(runs: Runs) -> None:
    """Show runs side by side."""
    with _clear_messages():
        from emulator.analysis.run_tables import comparison

        _console().print(comparison(runs))


@app.command()
def ledger(
    run: Annotated[Path, typer.Argument(help="output folder of a run", show_default=False)],
    by: Annotated[str | None, typer.Option(help="also by link, device, round or traffic")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False,
) -> None:
    """Show where a run's bytes, airtime and energy went, and what another codec would have cost."""
    with _clear_messages():
        from emulator.analysis.ledger.report import ledger_json, ledger_tables

        if as_json:
            sys.stdout.write(ledger_json(run, by))
        else:
            _console().print(ledger_tables(run, by))


@app.command()
def reproduce(
    name: Annotated[
        str, typer.Argument(help="an experiment, a YAML file of one's own, or all", metavar="NAME")
    ],
    more: MoreOverrides = None,
    override: Overrides = None,
    suite: Annotated[str, typer.Option(help="backbone and tasks to run on")] = "tiny",
    seeds: Annotated[int | None, typer.Option(min=1, help="runs of each row")] = None,
    rows: Annotated[str | None, typer.Option(help="only these rows, separated by commas")] = None,
    out: Annotated[
        Path | None, typer.Option(help="output folder; default runs/reproduce/<suite>/<name>")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="runs at a time; default: as cores and memory allow")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check everything, list the runs, stop")
    ] = False,
) -> None:
    """Draw the tables and figures of the paper; what is there already is not run again."""
    with _clear_messages("the finished runs are kept, the same command goes on from there"):
        from emulator.experiments.reproduce import asked, outlook, reproduce

        chosen_rows = tuple(label.strip() for label in rows.split(",")) if rows is not None else ()
        todo = asked(name, suite, seeds, chosen_rows, [*(override or []), *(more or [])])
        if dry_run:
            sys.stdout.writelines(f"{line}\n" for line in outlook(todo, out))
            return
        reproduce(todo, out, jobs, lambda line: print(line, file=sys.stderr, flush=True))


@app.command()
def infer(
    run: Annotated[Path, typer.Argument(help="output folder of a run", show_default=False)],
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="[PROMPT]...", help="what to answer")
    ] = None,
    device: Annotated[int, typer.Option(help="whose experts and router answer")] = 0,
    file: Annotated[Path | None, typer.Option(help="more prompts, one a line")] = None,
    choices: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="choose among these; default: generate")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="generate so many tokens at most; default half the input")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="the true task: its experts answer, not the router's choice")
    ] = None,
    override: Overrides = None,
) -> None:
    """Let a device of a finished run answer, and show which of its experts did."""
    with _clear_messages():
        from emulator.runtime.inference import check_texts, prompts_in, respondent, shown

        asked = [*(prompts or []), *(prompts_in(file) if file else [])]
        options = [option.strip() for option in choices.split(",")] if choices is not None else []
        check_texts(asked, "PROMPT")
        check_texts(options, "--choices")
        if not asked:
            raise ScenarioError(["PROMPT: got none, wanted at least one, or --file"])
        if choices is not None and (
            len(options) < 2 or len(set(options)) < len(options) or "" in options
        ):
            raise ScenarioError([f"--choices: got {choices!r}, wanted two or more, each once"])
        if not all(prompt.strip() for prompt in asked):
            raise ScenarioError(["PROMPT: got an empty one, wanted some text"])
        answering = respondent(run, device, override or [])
        for prompt in asked:
            sys.stdout.write(shown(answering.reply(prompt, options, max_tokens, task)))


@app.command()
def bench(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="which; default: the usual ones")
    ] = None,
) -> None:
    """Measure this machine under the emulator: tables of figures beside their targets.

    start, efficiency, ring, exchange, wire, answers, scale (the usual ones) and paced.
    """
    with _clear_messages():
        from emulator.analysis.benchmark import chosen, figures_of
        from emulator.analysis.benchmark_table import figures_table

        for name in chosen(names or []):
            sys.stderr.write(f"{name} ...\n")
            _console().print(figures_table(name, list(figures_of(name))))


@app.command()
def schema(
    experiment: Annotated[
        bool, typer.Option("--experiment", help="of experiment files, for reproduce")
    ] = False,
) -> None:
    """Print the JSON schema of scenario files."""
    import json

    from emulator.experiments.schema import Experiment
    from emulator.scenario.schema import Scenario

    described = Experiment if experiment else Scenario
    sys.stdout.write(json.dumps(described.model_json_schema(), indent=2) + "\n")


@channel.command()
def show(
    scenario: ScenarioOrPreset,
    more: MoreOverrides = None,
    override: Overrides = None,
    at: Annotated[float, typer.Option(help="when, for devices that move [s]")] = 0.0,
    message: Annotated[
        int | None, typer.Option("--bytes", help="air bytes of the message; default 6400")
    ] = None,
    neighbours: Annotated[int, typer.Option(help="how many a sender serves at once")] = 1,
    whole: Annotated[
        bool,
        typer.Option("--all", help="all links; default: above 12 devices the nearest 3 of each"),
    ] = False,
) -> None:
    """Print the link budget of every pair of devices."""
    with _clear_messages() as ending:
        ending.scenario = Path(scenario).name
        from emulator.analysis.channel.link_budget import (
            MESSAGE_BYTES,
            Extent,
            Occasion,
            link_report,
        )
        from emulator.scenario.load import read_named

        reading = read_named(scenario, [*(override or []), *(more or [])])
        _tell_notes(reading)
        occasion = Occasion(at, MESSAGE_BYTES if message is None else message, neighbours)
        extent: Extent = "all" if whole else "readable"
        _console().print(link_report(reading.scenario, occasion, extent))


@channel.command()
def plot(
    scenario: ScenarioOrPreset,
    more: MoreOverrides = None,
    override: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(help="output folder; default runs/channel/<name>")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace earlier figures")] = False,
) -> None:
    """Draw path loss, spectral efficiency, rates under fading and mask bits: pages, with data as CSV."""
    with _clear_messages() as ending:
        ending.scenario = Path(scenario).name
        from emulator.scenario.load import read_named

        reading = read_named(scenario, [*(override or []), *(more or [])])
        _tell_notes(reading)
        from emulator.analysis.channel.plots import channel_figures
        from emulator.runtime.folder_claim import check_figures_folder, claimed
        from emulator.runtime.signals import uninterrupted
        from emulator.scenario.load import dump_scenario

        folder = out or Path("runs") / "channel" / reading.scenario.name
        check_figures_folder(folder, force=force)
        with claimed(folder, force=force, say=lambda line: print(line, file=sys.stderr)) as claim:
            figures = channel_figures(reading.scenario)
            files = {"scenario.yaml": dump_scenario(reading.scenario).encode()}
            for picture in figures.pictures:
                files |= picture.files()
            with uninterrupted():
                claim.put(files)
                ending.all_is_in(folder)
        sys.stdout.writelines(f"{folder / name}\n" for name in files)
        sys.stdout.writelines(f"left out: {line}\n" for line in figures.left_out)


def _tell_notes(reading: "Reading") -> None:
    """What overrides dropped, on standard error."""
    _note(reading.notes)


def _note(notes: Sequence[str]) -> None:
    """Notes, on standard error."""
    sys.stderr.writelines(f"note: {note}\n" for note in notes)


def _read(
    path: Path, overrides: list[str] | None, more: list[str] | None, *, speaks: bool
) -> "Reading":
    """The scenario; its notes go to standard error."""
    from emulator.experiments.load import read_no_experiment

    reading = read_no_experiment(path, [*(overrides or []), *(more or [])])
    if speaks:
        _tell_notes(reading)
    return reading


def _console() -> Console:
    """Standard output, wide enough for a table even where no terminal tells its width."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=110)
