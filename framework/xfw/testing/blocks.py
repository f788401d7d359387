"""Train a block in this process and in memory: for tests of plugins and of the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from xfw.config.resolve import resolve
from xfw.config.structure import config_hash, unstructure
from xfw.experiment import stages_of
from xfw.manifest import BlockPlan, Execution, Manifest, Member
from xfw.plan.trials import members_of

if TYPE_CHECKING:
    import numpy as np

    from xfw.engine.session import Session
    from xfw.experiment import Experiment
    from xfw.store.commit import Commit

__all__ = ["Trained", "block_session", "train_block"]


@attrs.frozen(eq=False)
class Trained:
    """What a block stored at its end: records ``(rows, T, …)``, arrays and state ``(T, …)``, its log, its status."""

    commit: Commit
    log: Sequence[str]
    status: Sequence[str]

    def record(self, stream: str, variable: str) -> np.ndarray:
        """Return a recorded variable as ``(rows, T, …)``."""
        return self.commit.records[stream][variable]

    def parameters(self) -> np.ndarray:
        """Return all trials' parameters as ``(T, P)``."""
        return self.commit.state["parameters"]


class _KeepAll:
    """A committer that keeps the last commit in memory, with the records and arrays of all of them."""

    def __init__(self) -> None:
        self._pieces: dict[str, dict[str, list[np.ndarray]]] = {}
        self._arrays: dict[str, Any] = {}

    def expect(self, _nbytes: int) -> None:
        """Take no note."""

    def due(self) -> bool:
        return False

    def commit(self, commit: Commit) -> None:
        import numpy as np

        for stream, variables in commit.records.items():
            for name, rows in variables.items():
                self._pieces.setdefault(stream, {}).setdefault(name, []).append(rows)
        self._arrays |= commit.arrays
        joined = {
            stream: {name: np.concatenate(rows) for name, rows in variables.items()}
            for stream, variables in self._pieces.items()
        }
        self.last = attrs.evolve(commit, records=joined, arrays=dict(self._arrays))


class _NeverStop:
    def stop_requested(self) -> bool:
        return False

    def note(self, _text: str) -> None:
        """Show nothing."""

    def progress(self, *_progress: Any) -> None:
        """Take no note."""


def train_block(experiment: Experiment, overrides: Sequence[str] = (), **how: Any) -> Trained:
    """Train all trials of a configuration in one block, to the end; ``how`` is that of ``block_session``."""
    log: list[str] = []
    session = block_session(experiment, overrides, log=log.append, **how)
    session.start(None)
    status = session.run()
    return Trained(session.committer.last, log, status)  # type: ignore[attr-defined]


def block_session(
    experiment: Experiment,
    overrides: Sequence[str] = (),
    *,
    trials: int = 2,
    only: Sequence[int] | None = None,
    width: int | None = None,
    strategy: str = "stack",
    device: str = "cpu",
    dtype: str = "float32",
    seed: int = 1,
    data_dir: str = "",
    preset: str | None = None,
    allow_tf32: bool = False,
    log: Callable[[str], None] = lambda _text: None,
) -> Session:
    """Return a session for one block; ``only`` keeps the members at these places (by condition, then by trial)."""
    from xfw.engine.session import Session

    resolved = resolve(experiment, preset=preset, overrides=overrides)
    members: list[Member] = []
    for index, config in enumerate(resolved.configs):
        independent = experiment.hooks.select_unpaired_keys(config=config) or ()
        members += members_of(index, resolved.flat[index], range(trials), seed, independent)
    members = members if only is None else [members[place] for place in only]
    plan = BlockPlan(0, tuple(members), width or len(members), strategy, 0, 0)
    manifest = Manifest(
        run=experiment.name,
        experiment=experiment.name,
        preset=resolved.preset,
        stages=tuple(stage.name for stage in stages_of(experiment.hooks, resolved.configs[0])),
        created="",
        command=(),
        seed=seed,
        config=resolved.common,
        config_hash=config_hash([unstructure(config) for config in resolved.configs]),
        provenance=resolved.provenance,
        axes=resolved.axes,
        conditions=resolved.conditions,
        blocks=(plan,),
        execution=Execution(device, dtype, allow_tf32, strategy, 1, 1, data_dir),
        versions={},
    )
    return Session(manifest, plan, experiment, _KeepAll(), _NeverStop(), log)  # type: ignore[arg-type]
