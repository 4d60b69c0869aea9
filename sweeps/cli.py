"""The command `sweeps`: run, check, show, score, confirm, guide, compact, forget, bench, data."""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import replace
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sweeps import interrupts
from sweeps.commands.streams import Streams
from sweeps.errors import InputError, Unavailable, escaped
from sweeps.io.guards.secrets import redacted
from sweeps.io.import_guard import check_names, put_home_first

FINISHING = ("run", "score")
"""Commands that finish their work when nobody reads their output any more, and go on after an interrupt."""


class Commands(TyperGroup):
    """The commands. An interrupt is one line, and 128 plus the signal's number as the exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            goes_on = ": the same command goes on from here" if ctx.invoked_subcommand in FINISHING else ""
            echo(f"interrupted{goes_on}", err=True)
            raise typer.Exit(interrupts.exit_code()) from None


app = typer.Typer(
    cls=Commands,
    name="sweeps",
    help="Sweeps over digital twins of visual cortex.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ExperimentArgument = Annotated[str, typer.Argument(help="An experiment file, or the name of a shipped experiment.")]
DataOption = Annotated[str | None, typer.Option(help="Folder or URL that recording paths are relative to.")]
StorageOption = Annotated[str | None, typer.Option(help="Where rows go: a folder or s3://... (default results/NAME).")]
CacheOption = Annotated[str | None, typer.Option(help="Feature cache of every node (default ~/.cache/cortex-sweeps).")]
SharedCacheOption = Annotated[
    bool, typer.Option("--shared-cache", help="Take a cache that other users can write; their entries are not read.")
]
AddressOption = Annotated[str | None, typer.Option(help="A Ray cluster (default: RAY_ADDRESS, else an own local one).")]


def echo(text: str, err: bool = False) -> None:
    """Print a line; what data or errors bring into it is shown, never followed by the terminal."""
    typer.echo(escaped(text), err=err)


@app.command()
def run(
    experiment: ExperimentArgument,
    data: DataOption = None,
    storage: StorageOption = None,
    cache: CacheOption = None,
    address: AddressOption = None,
    cpus: Annotated[int | None, typer.Option(help="Cores of an own local Ray (default: all).")] = None,
    retry_failed: Annotated[bool, typer.Option(help="Run failed trials again.")] = False,
    join: Annotated[bool, typer.Option(help="Work beside a run that is at work in the same storage.")] = False,
    shared_cache: SharedCacheOption = False,
    require_all_nodes: Annotated[
        bool, typer.Option("--require-all-nodes", help="Refuse where a node is not ready, instead of leaving it out.")
    ] = False,
) -> None:
    """Run an experiment, or go on with it; ends with the answer."""
    from sweeps.commands.run import run_plan
    from sweeps.planning.plan import make_plan
    from sweeps.report.terminal import show as show_answer

    plan = replace(make_plan(experiment, data, storage, cache), shared_cache=shared_cache)
    for notice in plan.notices:
        echo(f"note: {notice}")
    result = run_plan(plan, address, retry_failed, cpus, False, join, require_all_nodes)
    for notice in result.notices:
        echo(f"note: {notice}")
    if not result.finished:
        raise KeyboardInterrupt
    try:
        show_answer(result.storage)
    except InputError as error:  # every row is durable by now
        echo(f"finished, but the answer cannot be shown ({error}): `sweeps show {result.storage}` does", err=True)
    counts = result.progress
    if counts.trials and not counts.done and counts.known == counts.known_failed:
        raise typer.Exit(1)


@app.command()
def check(
    experiment: ExperimentArgument,
    data: DataOption = None,
    storage: StorageOption = None,
    cache: CacheOption = None,
    address: AddressOption = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read every stimulus of every recording once.")] = False,
) -> None:
    """Check an experiment without running it: trials, cells, what each score needs."""
    from sweeps.commands.deep_check import read_stimuli
    from sweeps.commands.run import check_demand
    from sweeps.planning.plan import make_plan
    from sweeps.report.preview import preview
    from sweeps.report.read_progress import ReadProgress
    from sweeps.report.terminal import console_of

    plan = make_plan(experiment, data, storage, cache)
    check_demand(plan, address)
    preview(plan, console_of(sys.stdout))
    if deep:
        with ReadProgress(console_of(sys.stderr)) as progress:
            problems = read_stimuli(plan, progress.advance)
        for problem in problems:
            echo(f"error: {problem}", err=True)
        if problems:
            raise typer.Exit(2)
        echo("every stimulus can be read")


@app.command()
def show(
    storage: Annotated[str, typer.Argument(help="The storage of a sweep: a folder or s3://...")],
    best: Annotated[int, typer.Option(min=1, help="How many best trials.")] = 5,
) -> None:
    """Show the answer of a sweep: best trials, Pareto front, score by depth, contrasts."""
    from sweeps.report.terminal import show as show_answer

    show_answer(storage, best=best)


@app.command()
def score(
    storage: Annotated[str, typer.Argument(help="The storage of a sweep: a folder or s3://...")],
    scores: Annotated[str, typer.Option(help="Scores to compute, with commas between.")],
    trials: Annotated[str, typer.Option(help="best:N by the first objective, all, or trial ids.")] = "best:20",
    data: DataOption = None,
    cache: CacheOption = None,
    address: AddressOption = None,
    cpus: Annotated[int | None, typer.Option(help="Cores of an own local Ray (default: all).")] = None,
    retry_failed: Annotated[bool, typer.Option(help="Compute scores again that ended in an error.")] = False,
    shared_cache: SharedCacheOption = False,
) -> None:
    """Compute more scores for chosen trials of a sweep; they become columns of its tables."""
    from sweeps.commands.rescore import plan_scores
    from sweeps.commands.run import run_plan
    from sweeps.report.score_table import show_chosen

    named = [name.strip() for name in scores.split(",")]
    plan, choice = plan_scores(storage, named, trials, data, cache, shared_cache)
    result = run_plan(plan, address, retry_failed, cpus, quiet=False)
    if not result.finished:
        raise KeyboardInterrupt
    if show_chosen(result.storage, list(choice.trials["trial_id"]), choice.scores):
        raise typer.Exit(1)


@app.command()
def confirm(
    storage: Annotated[str, typer.Argument(help="The storage of a sweep: a folder or s3://...")],
    trial: Annotated[
        str | None, typer.Option(help="A trial id, or its beginning (default: the best on select).")
    ] = None,
    again: Annotated[bool, typer.Option(help="Open the confirm set once more; the rows say so.")] = False,
    data: DataOption = None,
    cache: CacheOption = None,
    shared_cache: SharedCacheOption = False,
) -> None:
    """Open the confirm set of a sweep, once: score its best trial on stimuli that took part in nothing."""
    from sweeps.commands.confirm import confirm as open_set
    from sweeps.report.confirmed import show_confirmations
    from sweeps.report.terminal import console_of

    open_set(storage, trial, again, data, cache, echo, shared_cache)
    show_confirmations(console_of(sys.stdout), storage)


@app.command()
def guide(
    storage: Annotated[str, typer.Argument(help="The storage of a sweep: a folder or s3://...")],
    areas: Annotated[str | None, typer.Option(help="Areas to drive, with commas between.")] = None,
    data: DataOption = None,
    cache: CacheOption = None,
    shared_cache: SharedCacheOption = False,
) -> None:
    """Synthesise pictures that drive areas, by the best twin of a sweep, and judge them by its other twins."""
    from sweeps.guidance.guide import guide as synthesise
    from sweeps.guidance.tables import show_guided

    named = [name.strip() for name in areas.split(",")] if areas else []
    show_guided(synthesise(storage, areas=named, data=data, cache=cache, say=echo, shared_cache=shared_cache))


@app.command()
def compact(
    storage: Annotated[str, typer.Argument(help="The storage of a sweep: a folder or s3://...")],
) -> None:
    """Remove the parts of which every row lies in a folded table; not while a run is at work."""
    from sweeps.storage.compaction import compact as remove_folded

    for compaction in remove_folded(storage, echo):
        left = f", {compaction.damaged} damaged left" if compaction.damaged else ""
        echo(f"{compaction.table}: {compaction.rows} rows in one object, {compaction.removed} parts removed{left}")


@app.command()
def forget(
    storage: Annotated[str, typer.Argument(help="The storage of a sweep: a folder or s3://...")],
    trials: Annotated[str, typer.Option(help="failed, or trial ids with commas between.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove trials for good, with the cells that no other trial uses; not while a run is at work."""
    from sweeps.commands.forget import ForgottenTrials, choose_forgotten
    from sweeps.commands.forget import forget as forget_trials
    from sweeps.report.forgotten import show_forgotten
    from sweeps.report.terminal import console_of

    def agreed(chosen: ForgottenTrials) -> bool:
        show_forgotten(chosen.trials, chosen.of, chosen.cells, chosen.shared, console_of(sys.stdout))
        return yes or typer.confirm("forget these for good?")

    if dry_run:
        chosen = choose_forgotten(storage, trials)
        show_forgotten(chosen.trials, chosen.of, chosen.cells, chosen.shared, console_of(sys.stdout))
        return
    if not yes and not sys.stdin.isatty():
        raise InputError("needs --yes where nobody can be asked, or --dry-run", key="--trials", value=trials)
    if forget_trials(storage, trials, agreed, echo) is None:
        echo("nothing was forgotten")
        return
    echo("forgotten; what the experiment still has of it runs again with the next `sweeps run`")


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def bench(
    name: Annotated[str | None, typer.Argument(help="A benchmark; without one they are listed.")] = None,
    arguments: Annotated[list[str] | None, typer.Argument(help="Passed on to it; --help says what it takes.")] = None,
) -> None:
    """List the benchmarks of the repository, or run one."""
    from sweeps.commands.benchmarks import list_benchmarks, run_benchmark

    if name is None:
        for benchmark, (_, purpose) in list_benchmarks().items():
            echo(f"{benchmark}: {purpose}")
        return
    raise typer.Exit(run_benchmark(name, arguments or []))


data_app = typer.Typer(help="Example recordings in the layouts of real data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@data_app.command("write")
def write(
    folder: Annotated[str, typer.Argument(help="A new or empty folder.")],
    format_name: Annotated[str, typer.Option("--format", help="The format; `sweeps data formats` lists them.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same data.")] = 0,
) -> None:
    """Write a small made-up recording in a real layout, to try a reader or to see what it expects."""
    from sweeps.commands.example_data import write_data

    echo(write_data(format_name, folder, seed))


@data_app.command("formats")
def formats() -> None:
    """List the formats of which there is an example."""
    from sweeps.commands.example_data import example_formats

    for name in example_formats():
        echo(name)


def main() -> None:
    """Run the command; bad input is one line and exit code 2, what is away for now one and 75, a warning one line."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {escaped(redacted(str(message)))}\n"
    streams = Streams()
    with interrupts.handled():
        try:
            put_home_first()
            check_names()
            app()
        except Unavailable as error:
            print(f"error: {redacted(str(error))}", file=sys.stderr, flush=True)
            sys.stdout.flush()
            os._exit(75)  # nothing waits for a Ray or a store that does not answer
        except InputError as error:
            print(f"error: {redacted(str(error))}", file=sys.stderr)
            raise SystemExit(2) from None
        except SystemExit as end:
            finishes = sys.argv[1:2] in [[name] for name in FINISHING]
            raise SystemExit(streams.code(end.code, finishes)) from None
