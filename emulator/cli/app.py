"""The command line: one function per verb, each of which calls one function of another package."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from emulator.cli.channel import channel
from emulator.cli.options import (
    DevicesPerHost,
    Driver,
    MoreOverrides,
    Overrides,
    Quiet,
    Runs,
    ScenarioFile,
    open_console,
    print_notes,
    read_overridden,
)
from emulator.cli.usage_errors import Ending, Verbs, clear_messages
from emulator.core.errors import ScenarioError

if TYPE_CHECKING:
    from emulator.runtime.run import RunRequest

app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.add_typer(channel, name="channel")


def _print_version(asked: bool) -> None:
    if asked:
        from importlib import metadata

        sys.stdout.write(f"{metadata.version('wireless-dfl-emulator')}\n")
        raise typer.Exit


@app.callback()
def emulator(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="print it and stop"),
    ] = False,
) -> None:
    """Emulate wireless devices that fine-tune a frozen LLM together."""


@app.command()
def run(
    scenario: ScenarioFile,
    more: MoreOverrides = None,
    override: Overrides = None,
    driver: Driver = "many_processes",
    out: Annotated[
        Path | None, typer.Option(help="output folder; default runs/<name>-<method>-<seed>")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace an earlier run")] = False,
    devices_per_host: DevicesPerHost = None,
    quiet: Quiet = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="check and load everything, print how many devices, stop"),
    ] = False,
) -> None:
    """Run a scenario and write everything it came to into a folder."""
    with clear_messages() as ending:
        from emulator.runtime.launcher_env import has_restarted, read_launcher_world

        place = read_launcher_world()
        prints = place is None or place[0] == 0
        if place is not None and prints and not quiet:  # in a container's log all else comes late
            sys.stderr.write(f"{scenario.name}: loading\n")
            sys.stderr.flush()
        reading = read_overridden(scenario, override, more, prints=prints)
        ending.scenario = scenario.name
        from emulator.analysis.channel.link_budget import describe_relays
        from emulator.runtime.resuming import resume_or_start
        from emulator.runtime.run import RunRequest, check_run

        chosen = reading.scenario
        air = chosen.bind_channel() if prints else None
        print_notes(describe_relays(chosen, air) if air else [])
        folder = out or Path("runs") / chosen.run_name
        request = RunRequest(chosen, driver, folder, force, devices_per_host, air=air)
        if has_restarted():
            request = resume_or_start(request)
            if request.resumed_after is not None and prints:
                rounds = request.resumed_after + 1
                print_notes([f"restarted by its launcher: goes on after round {rounds}"])
        if dry_run:
            found = check_run(request)
            print_notes(found if prints else [])
            if prints and not quiet:
                done = (
                    f"{chosen.run_name}: checked and loaded, nothing was run; number of devices:\n"
                )
                sys.stderr.write(done)
            sys.stdout.write(f"{chosen.devices}\n")
            return
        _run(request, ending, quiet=quiet, prints=prints)


@app.command()
def resume(
    run: Annotated[Path, typer.Argument(help="output folder of a run", show_default=False)],
    rounds: Annotated[
        int | None,
        typer.Option(min=1, help="rounds in all: a run that has ended then trains on"),
    ] = None,
    from_round: Annotated[
        int | None,
        typer.Option(min=1, help="go on after so many rounds, with --out; default: after the last"),
    ] = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="end the run after these rounds, with --out")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="folder of a branch: RUN stays as it is; default: RUN")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace an earlier run in --out")] = False,
    driver: Driver = "many_processes",
    devices_per_host: DevicesPerHost = None,
    quiet: Quiet = False,
) -> None:
    """Go on with a run that was interrupted, from its last checkpoint; it ends with the same files.

    With --out it branches: --from-round 5 --finish --out DIR is what the run would have come to, had it
    ended after 5 rounds.
    """
    with clear_messages("no more was written") as ending:
        from emulator.runtime.launcher_env import read_launcher_world
        from emulator.runtime.resuming import Resumption, plan_resumption

        place = read_launcher_world()
        asked = Resumption(run, driver, rounds, from_round, finish, out, force, devices_per_host)
        request, notes = plan_resumption(asked)
        ending.scenario = request.scenario.name
        prints = place is None or place[0] == 0
        print_notes(notes if prints else [])
        _run(request, ending, quiet=quiet, prints=prints)


def _run(request: "RunRequest", ending: Ending, *, quiet: bool, prints: bool) -> None:
    """Run, print the table of results, and how to go on where the run does not end."""
    from emulator.core.errors import EmulatorError
    from emulator.runtime.interruption import Interruption
    from emulator.runtime.resuming import describe_resumption
    from emulator.runtime.run import run_scenario

    console = Console(stderr=True, quiet=quiet and not sys.stderr.isatty())
    try:
        written = run_scenario(request, console, ending.all_is_in, Interruption())
    except ScenarioError:
        raise
    except (EmulatorError, KeyboardInterrupt) as error:
        how = describe_resumption(request) if prints and not ending.is_complete else ""
        if how and isinstance(error, KeyboardInterrupt):
            ending.what_is_there = how
        elif how:
            print_notes([how])
        raise
    if written is not None and not quiet:
        from emulator.analysis.run_tables import compare_runs

        open_console().print(compare_runs([written]))


@app.command()
def check(scenario: ScenarioFile, more: MoreOverrides = None, override: Overrides = None) -> None:
    """Check a scenario and its air and print it in full; run --dry-run also loads model and data."""
    with clear_messages() as ending:
        ending.scenario = scenario.name
        from emulator.analysis.channel.link_budget import describe_relays
        from emulator.scenario.adapter_size import check_rank, note_size
        from emulator.scenario.load import dump_scenario

        found = read_overridden(scenario, override, more, prints=True).scenario
        print_notes(describe_relays(found, found.bind_channel()))
        check_rank(found, found.backbone.shapes_dk)
        print_notes(note_size(found, found.backbone.shapes_dk))
        sys.stdout.write(dump_scenario(found))


@app.command()
def report(runs: Runs) -> None:
    """Show what runs came to, one table each."""
    with clear_messages():
        from emulator.analysis.run_tables import build_confusion_table, compare_runs

        for folder in runs:
            open_console().print(compare_runs([folder]))
            if routed := build_confusion_table(folder):
                open_console().print(routed)


@app.command()
def compare(runs: Runs) -> None:
    """Show runs side by side."""
    with clear_messages():
        from emulator.analysis.run_tables import compare_runs

        open_console().print(compare_runs(runs))


@app.command()
def ledger(
    run: Annotated[Path, typer.Argument(help="output folder of a run", show_default=False)],
    by: Annotated[str | None, typer.Option(help="also by link, device, round or traffic")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False,
) -> None:
    """Show where a run's bytes, airtime and energy went, and what another codec would have cost."""
    with clear_messages():
        from emulator.analysis.ledger.report import build_ledger_tables, format_ledger_json

        if as_json:
            sys.stdout.write(format_ledger_json(run, by))
        else:
            open_console().print(build_ledger_tables(run, by))


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
    with clear_messages("the finished runs are kept, the same command goes on from there"):
        from emulator.experiments.reproduce import (
            list_runs,
            plan_experiments,
            reproduce_experiments,
        )

        chosen_rows = tuple(label.strip() for label in rows.split(",")) if rows is not None else ()
        planned = plan_experiments(
            name, suite, seeds, chosen_rows, [*(override or []), *(more or [])]
        )
        if dry_run:
            sys.stdout.writelines(f"{line}\n" for line in list_runs(planned, out))
            return
        reproduce_experiments(
            planned, out, jobs, lambda line: print(line, file=sys.stderr, flush=True)
        )


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
    with clear_messages():
        from emulator.runtime.inference import (
            check_texts,
            format_reply,
            load_respondent,
            read_prompts,
        )

        asked = [*(prompts or []), *(read_prompts(file) if file else [])]
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
        answering = load_respondent(run, device, override or [])
        for prompt in asked:
            sys.stdout.write(format_reply(answering.reply(prompt, options, max_tokens, task)))


@app.command()
def bench(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="which; default: the usual ones")
    ] = None,
) -> None:
    """Measure this machine under the emulator: tables of figures beside their targets.

    start, efficiency, ring, exchange, wire, answers, scale (the usual ones) and paced.
    """
    with clear_messages():
        from emulator.analysis.benchmark import run_benchmark, select_benchmarks
        from emulator.analysis.benchmark_table import build_figures_table

        for name in select_benchmarks(names or []):
            sys.stderr.write(f"{name} ...\n")
            open_console().print(build_figures_table(name, list(run_benchmark(name))))


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
