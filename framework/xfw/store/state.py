"""What resuming a block needs: its state, its position and how many segments count. Nothing is ever unpickled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import h5py
from numpy.typing import NDArray

from xfw.store import hdf5, segments
from xfw.store.proof import STATE_KIND, of_newest_state, states
from xfw.store.segments import ArrayValue, StoredArray

__all__ = ["ArrayValue", "Restored", "load_layout", "load_state", "remove_older", "write_state"]


@attrs.frozen(eq=False)
class Restored:
    """A block's last commit.

    ``rows`` counts the records per stream, ``segments`` names the attempt that wrote each segment, ``elapsed`` the
    seconds spent in all attempts, ``final`` says that nothing is left to do, ``attempt`` which attempt committed.
    ``homes`` says where each array lies; ``arrays`` holds them where they were read.
    """

    state: Mapping[str, NDArray[Any]]
    arrays: Mapping[str, ArrayValue]
    position: Mapping[str, int]
    layout: Mapping[str, Any]
    status: tuple[str, ...]
    rows: Mapping[str, int]
    segments: tuple[int, ...]
    final: bool
    elapsed: float
    attempt: int = 0
    homes: Mapping[str, StoredArray] = attrs.field(factory=dict)


def remove_older(block_dir: Path, attempt: int) -> None:
    """Remove the states of earlier attempts; only a block's owner may, once its own is written."""
    for number, path in states(block_dir).items():
        if number < attempt:
            path.unlink(missing_ok=True)


def write_state(block_dir: Path, restored: Restored) -> None:
    """Replace an attempt's state file, atomically and durably."""

    def fill(file: h5py.File) -> None:
        hdf5.write_json(file, "content", segments.home(block_dir) | describe(restored))
        for name, values in restored.state.items():
            file.create_dataset(f"state/{name}", data=values)

    nbytes = sum(values.nbytes for values in restored.state.values())
    name = f"state-{restored.attempt}.h5" if restored.attempt else "state.h5"
    hdf5.write_sealed(block_dir / name, STATE_KIND, fill, nbytes)


def describe(restored: Restored) -> dict[str, Any]:
    """Return everything but the arrays as a JSON value."""
    return {
        "state": list(restored.state),
        "arrays": {name: home.path.name for name, home in restored.homes.items()},
        "per_trial": {name: home.trials for name, home in restored.homes.items() if home.trials},
        "position": dict(restored.position),
        "layout": dict(restored.layout),
        "status": list(restored.status),
        "rows": dict(restored.rows),
        "segments": list(restored.segments),
        "final": restored.final,
        "elapsed": restored.elapsed,
        "attempt": restored.attempt,
    }


def load_state(block_dir: Path, *, with_state: bool = True) -> Restored | None:
    """Return a block's last commit, or None before the first; a damaged file raises UserError and stays as it is.

    ``with_state=False`` leaves ``state`` and ``arrays`` empty (for whoever wants to know what there is).
    """
    return of_newest_state(block_dir, lambda path: read_state(path, with_state))


def read_state(path: Path, with_state: bool) -> Restored:
    """Read one state file."""
    with hdf5.read_sealed(path, STATE_KIND) as file:
        content = hdf5.read_json(file, "content")
        segments.check_home(path, content, path.parent)
        names = content["state"] if with_state else []
        homes = homes_of(path, content)
        return Restored(
            state={name: file[f"state/{name}"][()] for name in names},
            arrays=load_arrays(homes) if with_state else {},
            position=content["position"],
            layout=content["layout"],
            status=tuple(content["status"]),
            rows=content["rows"],
            segments=owners(content["segments"]),
            final=content["final"],
            elapsed=content["elapsed"],
            attempt=content.get("attempt", 0),
            homes=homes,
        )


def load_layout(block_dir: Path) -> Mapping[str, Any]:
    """Return the layout of a block's last commit alone, or nothing before the first."""

    def read(path: Path) -> Mapping[str, Any]:
        with hdf5.read_sealed(path, STATE_KIND) as file:
            layout: Mapping[str, Any] = hdf5.read_json(file, "content")["layout"]
            return layout

    return of_newest_state(block_dir, read) or {}


def owners(stored: int | Sequence[int]) -> tuple[int, ...]:
    """Return the attempt that wrote each segment; before xfw 0.2 only their number was stored."""
    return (0,) * stored if isinstance(stored, int) else tuple(stored)


def homes_of(path: Path, content: Mapping[str, Any]) -> dict[str, StoredArray]:
    """Return where each array lies; in files of xfw 0.1 that is the state itself, which only lists the names."""
    stored = content["arrays"]
    folder = path.parent / segments.DIRECTORY
    files = {name: folder / stored[name] if isinstance(stored, dict) else path for name in stored}
    return {name: StoredArray(file, name, content["per_trial"].get(name, 0)) for name, file in files.items()}


def load_arrays(homes: Mapping[str, StoredArray]) -> dict[str, ArrayValue]:
    """Return all arrays, after verifying the files that hold them."""
    found: dict[str, ArrayValue] = {}
    for path in dict.fromkeys(home.path for home in homes.values()):
        kind = segments.KIND if path.parent.name == segments.DIRECTORY else STATE_KIND
        with hdf5.read_sealed(path, kind) as file:
            found |= {name: home.load(file) for name, home in homes.items() if home.path == path}
    return {name: found[name] for name in homes}
