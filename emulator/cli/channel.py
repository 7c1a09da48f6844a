"""`emulator channel`: what a scenario's channel comes to, before anything is run."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from emulator.cli.options import (
    MoreOverrides,
    Overrides,
    ScenarioOrPreset,
    open_console,
    print_notes,
)
from emulator.cli.usage_errors import clear_messages

channel = typer.Typer(
    help="What a scenario's air comes to, before anything is run.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


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
    with clear_messages() as ending:
        ending.scenario = Path(scenario).name
        from emulator.analysis.channel.link_budget import (
            MESSAGE_BYTES,
            Extent,
            Occasion,
            build_link_report,
        )
        from emulator.scenario.load import read_named

        reading = read_named(scenario, [*(override or []), *(more or [])])
        print_notes(reading.notes)
        occasion = Occasion(at, MESSAGE_BYTES if message is None else message, neighbours)
        extent: Extent = "all" if whole else "readable"
        open_console().print(build_link_report(reading.scenario, occasion, extent))


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
    with clear_messages() as ending:
        ending.scenario = Path(scenario).name
        from emulator.scenario.load import read_named

        reading = read_named(scenario, [*(override or []), *(more or [])])
        print_notes(reading.notes)
        from emulator.analysis.channel.plots import draw_channel_figures
        from emulator.runtime.folder_claim import check_figures_folder, claim_folder
        from emulator.runtime.signals import ignore_interrupts
        from emulator.scenario.load import dump_scenario

        folder = out or Path("runs") / "channel" / reading.scenario.name
        check_figures_folder(folder, force=force)
        with claim_folder(
            folder, force=force, print_line=lambda line: print(line, file=sys.stderr)
        ) as claim:
            figures = draw_channel_figures(reading.scenario)
            files = {"scenario.yaml": dump_scenario(reading.scenario).encode()}
            for picture in figures.pictures:
                files |= picture.render()
            with ignore_interrupts():
                claim.put(files)
                ending.all_is_in(folder)
        sys.stdout.writelines(f"{folder / name}\n" for name in files)
        sys.stdout.writelines(f"left out: {line}\n" for line in figures.left_out)
