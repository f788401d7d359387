"""``xfw analyze`` and ``xfw compare``: tables and figures from sealed runs."""

from __future__ import annotations

import functools
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xfw import terminal
from xfw.cli.options import as_is, as_is_option, json_option, results_dir_option
from xfw.cli.tracking import chosen_trackers, track_option
from xfw.errors import Problem, UserError, WrongInput

if TYPE_CHECKING:
    from rich.console import Console

    from xfw.analysis.output import Output
    from xfw.experiment import Analyzer, Experiment
    from xfw.store.results import Results
    from xfw.tracking.session import Chosen

__all__ = ["analyze", "compare"]

SCHEMA = 1

OPTIONS = (
    click.option("-s", "assignments", multiple=True, metavar="KEY=VALUE", help="Option of an analyzer."),
    click.option("-o", "directory", metavar="DIR", help="Where files go; default: the run's report folder."),
    click.option("--format", "formats", metavar="LIST", default="", help="Formats, such as csv,png."),
    as_is_option,
    json_option,
    results_dir_option,
)
"""What ``analyze`` and ``compare`` share."""


def shared_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that all commands with analyzers have."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@click.command()
@click.argument("run")
@click.argument("names", nargs=-1, metavar="[ANALYZER]...")
@track_option
@shared_options
def analyze(
    run: str,
    names: tuple[str, ...],
    assignments: tuple[str, ...],
    directory: str | None,
    formats: str,
    trackers: tuple[str, ...],
    as_json: bool,
    results_dir: Path,
) -> int:
    """Make tables and figures of RUN (a run id, @last, or an experiment: its newest run).

    Without names, every analyzer that the run has data for. An analyzer that needs no run works with the
    experiment's name before any run exists. Exit code 1 where something failed; the rest is made all the same.
    """
    from xfw.analysis.shared import all_analyzers, find

    assigned = _assigned(assignments)

    def runless(experiment: Experiment) -> bool:
        known = all_analyzers(*_declared(experiment))
        return bool(names) and not any(_reads_run(each, assigned) for each in find(known, names, experiment.name))

    with ExitStack() as stack:
        experiment, results, report = _open(run, results_dir, stack, runless)
        output = _output(directory, report, formats, as_json)
        known = all_analyzers(*_declared(experiment, output))
        selected, left_out = list(known.values()), list[tuple[str, str]]()
        if names:
            selected = find(known, names, experiment.name)
            _refuse_unavailable(selected, results, experiment.name, assigned)
        else:
            selected, left_out = _with_data(selected, results, experiment.name, assigned, output)
        options = _options(selected, assignments)
        send = _sending(chosen_trackers(experiment, trackers), results)
        for analyzer in selected:
            with output.attempt(analyzer.name):
                analyzer.run(results, options[analyzer.name], output)
        if not names and not assignments:
            left_out += _leaving_out(output)
        _raise_if_alone(output)
        send(output.paths)
        return _finish(output, as_json, left_out)


def _declared(experiment: Experiment, output: Output | None = None) -> tuple[Any, Any]:
    """Return the metrics and analyzers of an experiment; where a hook fails, general ones stand in for all."""
    found: list[Any] = []
    for name in ("define_metrics", "analyze"):
        with output.attempt(f"hook {name} of {experiment.name}") if output else nullcontext():
            found.append(getattr(experiment.hooks, name)())
    return (found[0], found[1]) if len(found) == 2 else (None, None)


def _leaving_out(output: Output) -> list[tuple[str, str]]:
    """Move analyzers that nobody asked for, and that say why they cannot work on this run, out of the failures."""
    refused = [(name, error) for name, error in output.failures if isinstance(error, UserError)]
    output.failures = [failure for failure in output.failures if failure not in refused]
    from xfw.analysis.output import reason_of

    return [(name, reason_of(error)) for name, error in refused]


def _raise_if_alone(output: Output) -> None:
    """Raise the only error of a command that made nothing: it is what the command has to say."""
    if len({str(error) for _, error in output.failures}) == 1 and not output.paths and not output.tables:
        error = output.failures[0][1]
        if isinstance(error, UserError):
            raise error


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--exact", is_flag=True, help="Say whether the runs stored the same bits; exit code 1 where not.")
@shared_options
def compare(
    runs: tuple[str, ...],
    exact: bool,
    assignments: tuple[str, ...],
    directory: str | None,
    formats: str,
    as_json: bool,
    results_dir: Path,
) -> int:
    """Compare the conditions of one RUN, or each further RUN with the first, by trial where keys are equal."""
    from xfw.analysis.conditions import Values
    from xfw.analysis.shared import all_analyzers, compare_runs

    if exact:
        return _compare_exactly(runs, (assignments, directory, formats), as_json, results_dir)
    with ExitStack() as stack:
        opened = [_open(run, results_dir, stack) for run in runs]
        experiment, first, report = opened[0]
        others = sorted({name.name for name, _, _ in opened} - {experiment.name})
        if others:
            raise WrongInput(
                f"runs of different experiments cannot be compared: {experiment.name}, {', '.join(others)}"
            )
        sealed = [_needed(results, run) for run, (_, results, _) in zip(runs, opened, strict=True)]
        ids = [results.run for results in sealed]
        twice = sorted({run for run in ids if ids.count(run) > 1})
        if twice:
            raise WrongInput(f"run {twice[0]} is given twice: a run cannot be compared with itself")
        if len(ids) > 1:
            report = report / f"with-{'-'.join(ids[1:])}"
        analyzer = all_analyzers(experiment.hooks.define_metrics(), None)["compare"]
        options = _options([analyzer], assignments)[analyzer.name]
        output = _output(directory, report, formats, as_json)
        if len(sealed) == 1:
            _refuse_unavailable([analyzer], first, experiment.name)
            analyzer.run(first, options, output)
        else:
            compare_runs(sealed, options, output, Values(experiment.hooks.define_metrics()))
        return _finish(output, as_json, [])


def _compare_exactly(runs: Sequence[str], used: Sequence[Any], as_json: bool, results_dir: Path) -> int:
    """Say whether two runs stored the same bits."""
    from xfw.analysis.exact import as_table, differences
    from xfw.analysis.tables import as_objects, to_text

    if len(runs) != 2 or any(used):
        raise WrongInput("--exact compares two runs, and takes --json and --results-dir alone")
    with ExitStack() as stack:
        first, second = (_needed(_open(run, results_dir, stack)[1], run) for run in runs)
        compared, unequal = differences(first, second)
        table = as_table(first, second, unequal)
        if as_json:
            ids = [first.run, second.run]
            content = {"schema": SCHEMA, "runs": ids, "equal": not unequal, "compared": compared}
            click.echo(json.dumps({**content, "differences": as_objects(table)}, indent=2, ensure_ascii=False))
        elif unequal:
            click.echo(to_text(table), nl=False)
        else:
            trials = "1 trial" if len(first.trial) == 1 else f"{len(first.trial)} trials"
            click.echo(f"equal: {first.run} and {second.run} hold the same bits ({compared} quantities of {trials})")
    return 1 if unequal else 0


def _sending(chosen: Sequence[Chosen], results: Results | None) -> Callable[[Sequence[Path]], None]:
    """Return what sends the figures that were made; there must be a run that they belong to."""
    if not chosen:
        return lambda _paths: None
    if results is None:
        raise WrongInput("--track: these figures would belong to no run")
    from xfw.store.rundir import RunDir
    from xfw.tracking.session import track_figures

    return functools.partial(track_figures, RunDir(results.path.parent), chosen)


def _open(
    text: str, results_dir: Path, stack: ExitStack, runless: Callable[[Experiment], bool] = lambda _: False
) -> tuple[Experiment, Results | None, Path]:
    """Return the experiment, its sealed results and the folder for outputs.

    The results are None where an experiment is named that has no run yet, or whose runs are not asked for.
    """
    from xfw.plugins.registry import discover, load_experiment
    from xfw.store.results import open_run
    from xfw.store.rundir import find_run, list_runs

    name = text.replace("-", "_")
    experiments = {info.name for info in discover() if info.kind == "experiment"}
    if name in experiments:
        experiment = load_experiment(name)
        if runless(experiment) or not any(run.path.parent.name == name for run in list_runs(results_dir)):
            return experiment, None, results_dir / name / "report"
    found = find_run(results_dir, text)
    results = stack.enter_context(open_run(found, as_is=as_is()))
    return load_experiment(results.experiment), results, found.report_dir


def _needed(results: Results | None, text: str) -> Results:
    if results is None:
        raise WrongInput(f"there is no run of '{text}' yet", hint=f"xfw run {text}")
    return results


def _with_data(
    analyzers: Sequence[Analyzer],
    results: Results | None,
    experiment: str,
    assigned: frozenset[str],
    output: Output,
) -> tuple[list[Analyzer], list[tuple[str, str]]]:
    """Return the analyzers that can work, and the others with the reason; of a run, those about runs only."""
    able, left_out = [], []
    for analyzer in analyzers:
        reason = f"needs no run: xfw analyze {experiment} {analyzer.name}" if results is not None else ""
        with output.attempt(analyzer.name):
            reason = _unavailable(analyzer, results, assigned) if analyzer.needs_run else reason
            if reason:
                left_out.append((analyzer.name, reason))
            else:
                able.append(analyzer)
    return able, left_out


def _assigned(assignments: Sequence[str]) -> frozenset[str]:
    return frozenset(text.partition("=")[0].strip() for text in assignments)


def _unavailable(analyzer: Analyzer, results: Results | None, assigned: frozenset[str]) -> str:
    if results is None:
        return "there is no run yet" if _reads_run(analyzer, assigned) else ""
    return analyzer.available(results) if _reads_run(analyzer, assigned) or not analyzer.needs_run else ""


def _reads_run(analyzer: Analyzer, assigned: frozenset[str]) -> bool:
    """Say whether an analyzer works on a run, and no option names what to read in its place."""
    from xfw.config.keys import schema_of

    keys = schema_of(analyzer.options).keys if analyzer.options is not None else {}
    replaced = any(key.info.replaces_run and path in assigned for path, key in keys.items())
    return analyzer.needs_run and not replaced


def _refuse_unavailable(
    selected: Sequence[Analyzer], results: Results | None, experiment: str, assigned: frozenset[str] = frozenset()
) -> None:
    for each in selected:
        reason = _unavailable(each, results, assigned)
        if reason:
            hint = f"xfw run {experiment}" if results is None else ""
            raise WrongInput(f"analyzer '{each.name}' cannot work here: {reason}", hint=hint)


def _options(selected: Sequence[Analyzer], assignments: Sequence[str]) -> dict[str, Any]:
    """Return the options of each analyzer; an assignment goes to every selected one that has the key."""
    from xfw.config.keys import is_list, schema_of, unknown_key
    from xfw.config.points import read_options, split_assignment

    schemas = {analyzer.name: schema_of(analyzer.options) for analyzer in selected if analyzer.options is not None}
    texts: dict[str, list[str]] = {name: [] for name in schemas}
    problems: list[Problem] = []
    for assignment in assignments:
        try:
            name, text = split_assignment(assignment)
        except ValueError as error:
            problems.append(Problem("-s", str(error)))
            continue
        takers = {taker: key for taker, schema in schemas.items() if (key := schema.find(name)) is not None}
        if not takers:
            known = [path for schema in schemas.values() for path in schema.names()]
            problems.append(unknown_key(name, known, ""))
        for taker, key in takers.items():
            bracketed = is_list(key.kind) and not text.strip().startswith("[")
            texts[taker].append(f"{name}=[{text}]" if bracketed else assignment)
    if problems:
        raise WrongInput("wrong options", list(dict.fromkeys(problems)))
    return {
        analyzer.name: analyzer.options and read_options(analyzer.options, texts[analyzer.name], "wrong options")
        for analyzer in selected
    }


def _output(directory: str | None, report: Path, formats: str, as_json: bool) -> Output:
    from xfw.analysis.output import Output

    wanted = [each.strip() for each in formats.split(",") if each.strip()]
    return Output(Path(directory) if directory else report, formats=wanted, console=None if as_json else _console())


def _console() -> Console:
    # A pipe has no width: tables must not be folded to 80 columns there.
    return terminal.console(width=None if sys.stdout.isatty() else 1000)


def _finish(output: Output, as_json: bool, left_out: Sequence[tuple[str, str]]) -> int:
    """Say what was made, left out and failed; return the exit code."""
    from xfw.analysis.output import reason_of

    failed = [(name, reason_of(error)) for name, error in output.failures]
    if as_json:
        content = {
            "schema": SCHEMA,
            "tables": output.tables,
            "files": [str(path) for path in output.paths],
            "left_out": [{"analyzer": name, "reason": reason} for name, reason in left_out],
            "failed": [{"what": name, "reason": reason} for name, reason in failed],
        }
        click.echo(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        for name, reason in left_out:
            click.echo(f"left out: {name} ({reason})")
        for line in together(output.paths):
            click.echo(f"wrote {line}")
    debug = click.get_current_context().find_root().params.get("debug", False)
    for (name, reason), (_, error) in zip(failed, output.failures, strict=True):
        if debug:
            traceback.print_exception(error)
        click.echo(f"error: {name} failed: {reason}", err=True)
    return 1 if failed else 0


def together(paths: Sequence[Path]) -> list[str]:
    """Return paths in their order, those that differ in the suffix only as one: ``report/curves.{pdf,svg}``."""
    suffixes: dict[Path, list[str]] = {}
    for path in paths:
        suffixes.setdefault(path.with_suffix(""), []).append(path.suffix)
    return [
        f"{stem}{found[0]}" if len(found) == 1 else f"{stem}.{{{','.join(suffix[1:] for suffix in found)}}}"
        for stem, found in suffixes.items()
    ]
