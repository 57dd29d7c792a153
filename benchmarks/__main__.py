"""The command: see the package."""

import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from benchmarks import (
    ab,
    floods,
    idle,
    isolation,
    isolation_cases,
    loads,
    plots,
    profiles,
    soak,
    soak_told,
    storm,
)
from benchmarks import instructions as counts
from benchmarks.processes import DidNotStartError
from benchmarks.report import put_between, report
from benchmarks.run import Results, Runner
from benchmarks.subjects import ROOT, Stage
from benchmarks.targets import verdicts
from benchmarks.workloads import WORKLOADS, Idle
from gateway.testing.storm import REQUESTS, SEED

DOCUMENT = ROOT / "docs" / "performance.md"
SERVER = ROOT / "docs" / "server.md"
RESILIENCE = ROOT / "docs" / "resilience.md"


def say(words: str) -> None:
    """Progress, which is no part of the result."""
    click.echo(words, err=True)


@click.group(invoke_without_command=True)
@click.option("--quick", is_flag=True, help="One round, without peers.")
@click.option("--rounds", default=4, show_default=True, type=click.IntRange(1))
@click.option("--write", is_flag=True, help="Put the tables and the plot into docs/.")
@click.pass_context
def main(context: click.Context, *, quick: bool, rounds: int, write: bool) -> None:
    """Measure the gateway beside what it stands before and what it is compared with."""
    if context.invoked_subcommand is not None:
        return
    start = time.monotonic()
    results = measure(rounds=1 if quick else rounds, peers=not quick)
    tables = report(results, verdicts(results))
    click.echo(tables)
    if write:
        put(DOCUMENT, tables)
        for path, drawn in plots.drawings(results).items():
            (DOCUMENT.parent / path).write_text(drawn, encoding="utf-8")
            say(f"written: {path}")
    say(f"{time.monotonic() - start:.0f} s in all")


@main.command("storm")
@click.option("--requests", default=REQUESTS, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=SEED, show_default=True)
def storm_command(*, requests: int, seed: int) -> None:
    """Cancel requests at random, and count what is lost by our transport and by httpx's."""
    click.echo(storm.run(requests=requests, seed=seed))


@main.command("floods")
@click.option("--write", is_flag=True, help="Put the table into docs/server.md.")
def floods_command(*, write: bool) -> None:
    """Flood our server, one kind after the other: its CPU time, its memory, and what a good client notices."""
    with ExitStack() as stack:
        measured = floods.run(entered(stack), say)
    click.echo(measured)
    if write:
        put(SERVER, measured)


@main.command("soak")
@click.option("--seconds", default=600.0, show_default=True, envvar="SOAK_SECONDS", type=click.FloatRange(1))
@click.option("--seed", default=soak.SEED, show_default=True, help="Of the order in which faults come.")
@click.option("--write", is_flag=True, help="Put the figures into docs/resilience.md, the curves into docs/soak.svg.")
def soak_command(*, seconds: float, seed: int, write: bool) -> None:
    """Keep the gateway under load and under faults; its memory, its descriptors, and whether every request ended."""
    with ExitStack() as stack:
        try:
            soaked = soak.run(seconds, entered(stack), say, seed)
        except DidNotStartError as error:
            raise click.ClickException(str(error)) from error
    figures = soak_told.told(soaked)
    click.echo(figures)
    if write:
        put(RESILIENCE, figures, "soak")
        (RESILIENCE.parent / "soak.svg").write_text(soak_told.drawing(soaked), encoding="utf-8")
    if any(soaked.failures()):
        raise click.ClickException("not all of it held")


@main.command("isolation")
@click.option("--rounds", default=12, show_default=True, type=click.IntRange(1))
@click.option("--write", is_flag=True, help="Put the tables into docs/resilience.md.")
def isolation_command(*, rounds: int, write: bool) -> None:
    """Hang one service, take away descriptors, stop the log; what users of another service notice of it."""
    with ExitStack() as stack:
        scratch = entered(stack)
        try:
            measured = isolation.run(rounds, folder(scratch, "hanging"), say)
            crowd = isolation_cases.crowded(folder(scratch, "crowd"), say)
            logs = [
                isolation_cases.stalled_reader(folder(scratch, "stalled"), say),
                isolation_cases.full_disk(folder(scratch, "full"), say),
            ]
        except (DidNotStartError, loads.NoLoadError, isolation.TooFewError, OSError) as error:
            raise click.ClickException(str(error)) from error
    tables = {"isolation": isolation.told(measured), "exhaustion": isolation_cases.told(crowd, logs)}
    for name, told in tables.items():
        click.echo(told)
        if write:
            put(RESILIENCE, told, name)
    found = [*isolation.failures(measured), *isolation_cases.failures(crowd, logs)]
    if found:
        raise click.ClickException("not all of it held")


@main.command("ab")
@click.option("--base", required=True, metavar="REV", help="What git calls the state to compare with.")
@click.option("--head", metavar="REV", help="What to compare; without it, the working tree.")
@click.option("--work", default=["get"], multiple=True, show_default=True, type=click.Choice(list(ab.WORK)))
@click.option("--rounds", default=8, show_default=True, type=click.IntRange(1))
@click.option("--instructions", is_flag=True, help="Count instructions, by valgrind, instead of time.")
def ab_command(*, base: str, head: str | None, work: tuple[str, ...], rounds: int, instructions: bool) -> None:
    """Compare two states of the gateway: CPU time per request, in turn, a second each."""
    workloads = [ab.workload(name) for name in work]
    with ExitStack() as stack:
        scratch = entered(stack)
        stage = Stage(stack, scratch, say)
        try:
            states = [ab.check_out(base, scratch), ab.check_out(head, scratch) if head else ab.WORKING_TREE]
            if instructions:
                subjects = ab.both(states, stage, under=lambda key: counts.under(scratch / key))
                told = counts.comparison(subjects, workloads, scratch, say)
            else:
                told = ab.comparison(Runner(ab.both(states, stage), workloads, scratch, say).run(rounds))
        except (DidNotStartError, ab.NoSuchRevisionError, counts.NotCountedError) as error:
            raise click.ClickException(str(error)) from error
    click.echo(told)


@main.command("profile")
@click.option("--work", default="get", show_default=True, type=click.Choice(list(ab.WORK)))
@click.option("--seconds", default=8, show_default=True, type=click.IntRange(1))
@click.option("--top", default=15, show_default=True, type=click.IntRange(1))
@click.option("--write", is_flag=True, help="Put the tables into docs/.")
def profile_command(*, work: str, seconds: int, top: int, write: bool) -> None:
    """Tell where the gateway's time goes, as microseconds per request."""
    with ExitStack() as stack:
        scratch = entered(stack)
        try:
            profile = profiles.run(Stage(stack, scratch, say), ab.workload(work), scratch, say, seconds=seconds)
        except (DidNotStartError, profiles.NoProfileError) as error:
            raise click.ClickException(str(error)) from error
    told = profiles.told(profile, top)
    click.echo(told)
    if write:
        put(DOCUMENT, told, "profile")


def put(document: Path, text: str, name: str = "measured") -> None:
    """Replace what stands between two marks of a document."""
    document.write_text(put_between(document.read_text(encoding="utf-8"), text, name), encoding="utf-8")
    say(f"written: {document.relative_to(ROOT)}")


def entered(stack: ExitStack) -> Path:
    """Make a folder for the run; it and all that is started are gone when ``stack`` is closed, however it ends."""
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)))
    stack.callback(hold_signals)
    signal.signal(signal.SIGTERM, leave)
    return scratch


def folder(scratch: Path, name: str) -> Path:
    """Make a folder for a part of the run, that nginx may read as nobody."""
    made = scratch / name
    made.mkdir()
    scratch.chmod(0o755)
    return made


def measure(*, rounds: int, peers: bool) -> Results:
    """Start everything, measure, stop everything, however it ends."""
    for workload in WORKLOADS:
        if loads.installed(workload) is None:
            say(f"{workload.title}: skipped, {'h2load is' if workload.http2 else 'wrk and h2load are'} not installed")
    with ExitStack() as stack:
        scratch = entered(stack)
        try:
            stage = Stage(stack, scratch, say)
            subjects = list(stage.start(peers=peers))
        except DidNotStartError as error:
            raise click.ClickException(str(error)) from error
        results = Runner(subjects, WORKLOADS, scratch, say).run(rounds)
        results.idle = held(stage, results, rounds, scratch)
        return results


def held(stage: Stage, results: Results, rounds: int, scratch: Path) -> Idle | None:
    """Measure with idle clients; None, and a line among the failures, where it failed."""
    if loads.installed(idle.ACTIVE) is None:
        return None
    try:
        return idle.measure(stage, results.subjects[0].origin, rounds, scratch, say)
    except (OSError, DidNotStartError) as error:
        results.failures.append(f"idle clients: {error}")
        return None


def leave(number: int, frame: FrameType | None) -> NoReturn:
    """On SIGTERM, end as on Ctrl-C: everything is stopped on the way out."""
    del frame
    sys.exit(128 + number)


def hold_signals() -> None:
    """A second Ctrl-C must not interrupt the stopping of what we have started."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
