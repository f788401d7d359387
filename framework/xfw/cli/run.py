"""``xfw run``: resolve the configuration, plan the trials, and hand them to the executor."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import attrs
import click

from xfw.cli.options import json_option, per_gpu_option, results_dir_option
from xfw.cli.printing import print_json
from xfw.cli.subject import Subject, find_subject
from xfw.cli.tracking import chosen_trackers, track_option, tracked
from xfw.config.keys import schema_of
from xfw.config.resolve import Resolved, SourceConfig, resolve
from xfw.errors import UserError, nearest
from xfw.manifest import Execution, Manifest
from xfw.plan.trials import Only, read_only

if TYPE_CHECKING:
    from xfw.plan.build import Plan, Request
    from xfw.plan.history import History
    from xfw.store.rundir import RunDir
    from xfw.tracking.session import Chosen

__all__ = ["run"]

OTHER_NAMES = {
    "num-runs": "--trials",
    "num-trials": "--trials",
    "model-dir": "--results-dir",
    "out-dir": "--results-dir",
}
"""Options of other projects' trainers that `run` has under its own name."""
STRATEGIES = ("auto", "serial", "pool", "stack", "streams", "tune")
LARGEST_SEED = 2**63 - 1
LONG = 1200.0
"""Seconds above which a run says before it starts how long it is expected to take."""


class RunCommand(click.Command):
    """A command that knows what an unknown option was meant to be: plugins add keys, which ``-s`` sets."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            name = error.option_name.lstrip("-")
            if name in OTHER_NAMES:
                raise UserError(f"no option '--{name}'", hint=f"it is {OTHER_NAMES[name]} here", exit_code=2) from error
            parts = [argument.partition("=") for argument in given]
            place = next((place for place, part in enumerate(parts) if part[0] == error.option_name), len(given))
            value = parts[place][2] if place < len(given) else ""
            following = next(iter(given[place + 1 :]), "-")
            value = value or ("VALUE" if following.startswith("-") else following)
            known = [option.lstrip("-") for parameter in self.get_params(ctx) for option in parameter.opts]
            close = [f"did you mean '--{option}'?   " for option in nearest(name, known, 1) if option[0] == name[0]]
            hint = f"{''.join(close)}a key of the experiment is set with: -s {name.replace('-', '_')}={value}"
            raise UserError(f"no option '--{name}'", hint=hint, exit_code=2) from error


Options = SimpleNamespace
"""The options of ``xfw run`` under the names of their parameters, as given."""


@click.command(cls=RunCommand)
@click.argument("name")
@click.option("--preset", metavar="NAME", help="Named configuration; by default 'quick'.")
@click.option("-s", "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Set a key; a,b and 1..9 sweep.")
@click.option("--trials", type=click.IntRange(min=1), help="Trials of each condition.  [default: the preset's, or 1]")
@click.option("--only", metavar="KEY=VALUE[,…]", multiple=True, help="Keep these conditions, or with trial= trials.")
@click.option("--seed", type=click.IntRange(0, LARGEST_SEED), help="Seed of the run; drawn and printed if not given.")
@click.option("--stage", metavar="NAME", help="Go no further than this stage; with --from RUN, leave out RUN's.")
@click.option("--from", "source", metavar="RUN", help="Start from what another run stored.")
@click.option("--data-dir", metavar="DIR", help="Folder of data sets, the only one searched.")
@results_dir_option
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option(
    "--dtype",
    type=click.Choice(("float32", "float64", "bfloat16")),
    help="Precision.  [default: float32, or the preset's]",
)
@click.option("--allow-tf32", is_flag=True, help="Let CUDA multiply in TF32.")
@click.option("--strategy", type=click.Choice(STRATEGIES), help="How a block trains.  [default: auto]")
@click.option("--block-size", type=click.IntRange(min=1), help="Trials of a block.")
@click.option("--jobs", type=click.IntRange(min=0), help="Blocks at once; 0: in this process.  [default: cores, GPUs]")
@per_gpu_option
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of a block.")
@track_option
@click.option("--fail-fast", is_flag=True, help="Stop at the first failure.")
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@click.option("--debug", is_flag=True, help="Print tracebacks of expected errors too.")
@click.option("--quiet", is_flag=True, help="Print failures and the result only.")
@json_option
def run(**given: Any) -> int:
    """Run trials of NAME: an experiment, or a named run of experiments.toml."""
    options = Options(**given)
    subject = find_subject(options.name, Path.cwd())
    source = source_run(options, subject.experiment.name)
    resolved = resolve(
        subject.experiment,
        preset=options.preset,
        overrides=options.overrides,
        named=subject.named,
        source=None if source is None else SourceConfig.of(source.manifest),
    )
    only = read_only(options.only, schema_of(subject.experiment.config_class))
    for warning in resolved.warnings:
        click.echo(warning, err=True)
    check_writable(options.results_dir)
    trackers = chosen_trackers(subject.experiment, options.trackers)
    made = planned(options, subject, resolved, only, source)
    if options.dry_run:
        print_plan(made, options)
        return 0
    if not options.quiet:
        announce(made)
    return carried_out(options, subject, made.manifest, trackers)


def planned(options: Options, subject: Subject, resolved: Resolved, only: Only, source: RunDir | None) -> Plan:
    """Return the plan of the run."""
    from xfw.plan.build import plan
    from xfw.plan.source import check_source

    request = attrs.evolve(
        request_of(options, resolved, only, source),
        stages=chosen_stages(options, subject, resolved, source),
        history=history(options, subject),
    )
    if source is not None:
        resolved = attrs.evolve(resolved, preset=source.manifest.preset)
    made = plan(subject.experiment, resolved, request, download=not options.dry_run)
    if source is not None:
        check_source(subject.experiment, made.manifest, source.manifest)
    return made


def history(options: Options, subject: Subject) -> History:
    """Return what blocks of earlier runs took, where the plan is printed."""
    from xfw.plan.history import History, block_timings, history_of

    if not options.dry_run:
        return History()
    return history_of(subject.experiment, block_timings(options.results_dir, subject.experiment.name))


def announce(made: Plan) -> None:
    """Say before it starts that a run will take long."""
    from xfw.plan.table import least_seconds
    from xfw.terminal import duration

    seconds = least_seconds(made)
    if seconds > LONG:
        click.echo(f"this run is expected to take more than {duration(seconds)}", err=True)


def chosen_stages(options: Options, subject: Subject, resolved: Resolved, source: RunDir | None) -> tuple[str, ...]:
    """Return the stages that the run goes through."""
    from xfw.experiment import stages_of
    from xfw.plan.build import stages_to_run

    known = stages_of(subject.experiment.hooks, resolved.configs[0])
    return stages_to_run(known, options.stage, () if source is None else source.manifest.stages)


def request_of(options: Options, resolved: Resolved, only: Only, source: RunDir | None) -> Request:
    """Return what the options ask for, with the seed drawn and the device found."""
    from xfw import seeds
    from xfw.plan.build import Request
    from xfw.plan.source import source_of

    earlier = None if source is None else source.manifest
    trials = options.trials
    if earlier is not None and trials is None:
        stored = sorted({member.trial for member in earlier.members()})
        trials = stored[-1] + 1
        only = only if only.trials is not None else attrs.evolve(only, trials=tuple(stored))
    seed = options.seed if earlier is None else earlier.seed
    return Request(
        execution=execution_of(options, earlier, resolved.dtype),
        seed=seeds.draw_seed() if seed is None else seed,
        trials=resolved.trials if trials is None else trials,
        only=only,
        block_size=options.block_size,
        source=None if source is None else source_of(source),
        command=("xfw", *sys.argv[1:]),
    )


def execution_of(options: Options, earlier: Manifest | None, usual: str) -> Execution:
    """Return how blocks run; precision and strategy are those of ``--from RUN`` where they are not given.

    ``usual`` is the precision of the preset.
    """
    from xfw.plan.device import default_jobs, resolve_device

    device = resolve_device(options.device)
    dtype = options.dtype or (earlier.execution.dtype if earlier is not None else usual)
    if device == "mps" and dtype != "float32":
        raise UserError(f"--dtype {dtype}: the device mps has float32 only", hint="--device cpu has all", exit_code=2)
    return Execution(
        device=device,
        dtype=dtype,
        allow_tf32=options.allow_tf32,
        strategy=options.strategy or (earlier.execution.strategy if earlier is not None else "auto"),
        threads=options.threads,
        jobs=default_jobs(device) if options.jobs is None else options.jobs,
        data_dir=os.path.abspath(os.path.expanduser(options.data_dir)) if options.data_dir else "",  # noqa: PTH100, PTH111
    )


def source_run(options: Options, experiment: str) -> RunDir | None:
    """Return the run of ``--from``; refuse one of another experiment or seed, and one that is not finished."""
    if options.source is None:
        return None
    from xfw.store.rundir import find_run

    found = find_run(options.results_dir, options.source)
    if found.manifest.experiment != experiment:
        raise UserError(
            f"--from: run {found.id} is of experiment '{found.manifest.experiment}', not '{experiment}'", exit_code=2
        )
    if found.manifest.merged:
        parts = ", ".join(part.run for part in found.manifest.merged)
        raise UserError(f"--from: run {found.id} was merged", hint=f"start from one of its parts: {parts}", exit_code=2)
    if options.seed not in (None, found.manifest.seed):
        raise UserError(
            f"--seed {options.seed}: run {found.id} has seed {found.manifest.seed}, and --from goes on with it",
            hint="leave --seed out",
            exit_code=2,
        )
    if not found.run_file.is_file() or any(block.state != "done" for block in found.block_states()):
        raise UserError(
            f"--from: run {found.id} is not finished", hint=f"finish it: {found.command('resume')}", exit_code=2
        )
    return found


def check_writable(results_dir: Path) -> None:
    """Refuse a results directory that cannot be written, before anything is computed."""
    existing = next(path for path in (results_dir.absolute(), *results_dir.absolute().parents) if path.exists())
    if not existing.is_dir():
        reason = f"{existing} is not a directory"
    elif not os.access(existing, os.W_OK | os.X_OK):
        reason = f"no permission to write in {existing}"
    else:
        return
    raise UserError(
        f"--results-dir {results_dir}: {reason}", hint="choose another place with --results-dir", exit_code=2
    )


def print_plan(made: Plan, options: Options) -> None:
    """Print what would be run."""
    from xfw.plan.table import as_data, as_text, least_seconds, origin_of_times, time_in_words, total_seconds

    if options.as_json:
        print_json(as_data(made))
        return
    manifest = made.manifest
    click.echo(as_text(made), nl=False)
    time = time_in_words(total_seconds(made), least_seconds(made))
    click.echo(
        f"seed {manifest.seed}   device {manifest.execution.device}   jobs {manifest.execution.jobs}   "
        f"time {time} ({origin_of_times(made)})"
    )


def carried_out(options: Options, subject: Subject, manifest: Manifest, trackers: Sequence[Chosen]) -> int:
    """Create the run directory, execute its blocks, and say what came of them."""
    from xfw.config.resolve import condition_configs
    from xfw.process.supervise import execute
    from xfw.store.rundir import create_run
    from xfw.terminal import counted

    configs = condition_configs(manifest, subject.experiment.config_class)
    subject.experiment.hooks.define_metrics()  # a wrong declaration must not show after the computation alone
    records = [subject.experiment.hooks.declare_records(config=config) for config in configs]
    run_dir = create_run(options.results_dir, manifest, records, claimed=True)
    quiet = options.quiet or options.as_json
    if not quiet:
        trials, blocks = counted(len(manifest.members()), "trial"), counted(len(manifest.blocks), "block")
        click.echo(f"run {run_dir.id}: {trials} in {blocks}, seed {manifest.seed}")
    jobs = manifest.execution.jobs
    with tracked(run_dir, trackers, subject.experiment):
        code = execute(run_dir, jobs=jobs, per_gpu=options.per_gpu, fail_fast=options.fail_fast, quiet=quiet)
    report(run_dir, code, options)
    return code


def report(run_dir: RunDir, code: int, options: Options) -> None:
    """Print the run id, where the results lie, and the next command."""
    states = [block.state for block in run_dir.block_states()]
    # 1 may also mean that a trial diverged, and nothing is left to do.
    finished = code == 0 or (set(states) == {"done"} and run_dir.run_file.is_file())
    following = run_dir.command("analyze" if finished else "resume")
    if options.as_json:
        content = {"schema": 1, "run": run_dir.id, "path": str(run_dir.path), "seed": run_dir.manifest.seed}
        print_json({**content, "blocks": states, "exit_code": code, "next": following})
        return
    where = run_dir.run_file if run_dir.run_file.is_file() else run_dir.path
    click.echo(f"{run_dir.id}: {'done' if finished else 'not finished'}   {where}")
    click.echo(f"next: {following}")
