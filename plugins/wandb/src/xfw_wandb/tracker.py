"""The tracker: trials as W&B runs. The package ``wandb`` is imported when it is needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import numpy as np
import xfw

if TYPE_CHECKING:
    from xfw.tracking.protocol import TrackedRun, TrackedTrial

__all__ = ["Wandb", "WandbOptions", "flat"]

LARGEST = 16
"""Elements of an array up to which each is a quantity of its own; a larger one is sent as a histogram."""

REPORT = "report"


@attrs.frozen
class WandbOptions:
    """What ``--track wandb:KEY=VALUE,…`` can set."""

    project: str | None = xfw.key(None, help="W&B project; default: the experiment's name")
    entity: str | None = xfw.key(None, help="W&B user or team; default: your own")
    group: str | None = xfw.key(None, help="W&B group; default: the id of the run")
    job_type: str | None = xfw.key(None, help="W&B job type; default: the run's last stage")
    mode: str | None = xfw.key(None, choices=("online", "offline"), help="default: W&B's own setting")
    dir: str | None = xfw.key(None, help="where W&B keeps its files; default: tracking/wandb in the run's directory")
    open: int = xfw.key(100, ge=1, help="W&B runs that are held open at once", unit="runs")


class Wandb:
    """Sends every trial of a run to W&B as a run of its own, under an id that a later attempt finds again."""

    name: ClassVar[str] = "wandb"
    Options: ClassVar[type] = WandbOptions

    def __init__(self, options: WandbOptions, run: TrackedRun) -> None:
        self._options, self._run = options, run
        self._open: OrderedDict[str, Any] = OrderedDict()
        self._defined: set[tuple[str, str]] = set()

    @staticmethod
    def check(options: WandbOptions) -> None:
        """Refuse to start without the package, or online without a login."""
        try:
            import wandb
        except ModuleNotFoundError as error:
            hint = "pip install wandb"
            raise xfw.UserError("--track wandb needs the package wandb", hint=hint, exit_code=2) from error
        mode = options.mode or wandb.setup().settings.mode
        if mode in ("online", "shared") and not wandb.login(prompt=False, verify=False):
            hint = "log in with `wandb login`, set WANDB_API_KEY, or keep everything here: --track wandb:mode=offline"
            raise xfw.UserError("--track wandb: you are not logged in to W&B", hint=hint, exit_code=2)

    def rows(self, trial: TrackedTrial, stream: str, coordinate: str, first: int, rows: Sequence[Any]) -> None:
        """Send new rows; W&B drops a step that it has already, so an interrupted attempt leaves no duplicates."""
        run = self._of_trial(trial)
        if (run.id, stream) not in self._defined:
            self._defined.add((run.id, stream))
            run.define_metric(f"{stream}/*", step_metric=f"{stream}/{coordinate}")
        for number, row in enumerate(rows):
            run.log({f"{stream}/{name}": value for name, value in flat(row).items()}, step=first + number)

    def metrics(self, trial: TrackedTrial, values: Mapping[str, float], status: str) -> None:
        """Put the metrics of a finished trial into its summary."""
        self._of_trial(trial).summary.update({**values, "status": status})

    def figure(self, name: str, path: Path) -> None:
        """Send a picture to the W&B run of the group's figures."""
        import wandb

        config = {"xfw": self._origin()}
        self._opened(f"{self._run.id}-{REPORT}", f"{self._run.id} {REPORT}", REPORT, config).log(
            {name: wandb.Image(str(path))}
        )

    def close(self, *, finished: bool) -> None:
        """Finish all W&B runs; those of an unfinished run are taken up again when it is resumed."""
        for run in self._open.values():
            run.finish(exit_code=0 if finished else 1)
        self._open.clear()

    def _of_trial(self, trial: TrackedTrial) -> Any:
        identity = {"condition": trial.condition, "trial": trial.trial, "seed": trial.seed, "key": trial.key}
        config = {**trial.config, "xfw": {**self._origin(), **identity}}
        job_type = self._options.job_type or (self._run.stages[-1] if self._run.stages else None)
        return self._opened(f"{self._run.id}-{trial.condition}-{trial.trial}", trial.label, job_type, config)

    def _origin(self) -> dict[str, Any]:
        run = self._run
        names = ("id", "experiment", "preset", "stages", "versions", "execution")
        return {name: plain(getattr(run, name)) for name in names}

    def _opened(self, identity: str, name: str, job_type: str | None, config: Mapping[str, Any]) -> Any:
        """Return an open W&B run; the one that was used longest ago makes room."""
        if identity in self._open:
            self._open.move_to_end(identity)
            return self._open[identity]
        if len(self._open) >= self._options.open:
            self._open.popitem(last=False)[1].finish()
        self._open[identity] = self._started(identity, name, job_type, config)
        return self._open[identity]

    def _started(self, identity: str, name: str, job_type: str | None, config: Mapping[str, Any]) -> Any:
        import wandb

        folder = Path(self._options.dir) if self._options.dir else self._run.folder
        folder.mkdir(parents=True, exist_ok=True)
        quiet = wandb.Settings(
            silent=True, console="off", x_disable_stats=True, disable_git=True, save_code=False, reinit="create_new"
        )
        return wandb.init(
            project=self._options.project or self._run.experiment,
            entity=self._options.entity,
            group=self._options.group or self._run.id,
            job_type=job_type,
            id=identity,
            name=name,
            config=dict(config),
            tags=[tag for tag in (self._run.experiment, self._run.preset) if tag],
            dir=str(folder.absolute()),
            mode=self._options.mode,  # type: ignore[arg-type]  # one of its words: the key has choices
            resume="allow",
            settings=quiet,
        )


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as W&B takes it: numbers, truth values and texts; small arrays element by element."""
    import wandb

    found: dict[str, Any] = {}
    for name, value in row.items():
        array = np.asarray(value)
        if array.ndim == 0:
            found[name] = plain(array.item())
        elif array.size <= LARGEST:
            found |= {f"{name}/{'/'.join(map(str, place))}": plain(array[place]) for place in np.ndindex(array.shape)}
        else:
            found[name] = wandb.Histogram(array.ravel().tolist())
    return found


def plain(value: Any) -> Any:
    """Return a value of plain Python types."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value
