"""Networks to start from: a weight file of the original's layout, or what another run stored."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from xfw import UserError, WrongInput

from xfw_psa.config import Config, sha256

if TYPE_CHECKING:
    from xfw.store.results import TrialSource

__all__ = ["Loaded", "check_unchanged", "read", "shapes", "stored"]


@attrs.frozen(eq=False)
class Loaded:
    """A network from a file, with the loops it has behind it (0 where the file does not say)."""

    parameters: Mapping[str, np.ndarray]
    loops_done: int
    bounty_loop: int


def shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter of a configuration's network, by name."""
    found: dict[str, tuple[int, ...]] = {}
    for each in config.maps:
        found[f"{each.name}.weight"] = (each.outputs, each.inputs)
        found[f"{each.name}.bias"] = (each.outputs,)
    return found


def read(path: str | Path, config: Config) -> Loaded:
    """Read a ``torch.save`` state (bare, or under ``model_state``) or a safetensors file; raises ``WrongInput``."""
    content = _safetensors(Path(path)) if str(path).endswith(".safetensors") else _torch_file(Path(path))
    state = content.get("model_state", content)
    if not isinstance(state, Mapping):
        raise WrongInput(f"'{path}' holds no network: 'model_state' is a {type(state).__name__}")
    parameters = {str(name): _array(str(name), value, path) for name, value in state.items()}
    _check(parameters, config, f"'{path}'")
    loops = content.get("global_meta_loops", 0), content.get("bounty_meta_loop", 0)
    return Loaded(parameters, *(int(each) if isinstance(each, int) else 0 for each in loops))


def check_unchanged(config: Config) -> None:
    """Refuse a weight file that is not the one that the run was planned with."""
    if config.init_from is None or config.init_sha256 is None:
        return
    try:
        found = sha256(config.init_from)
    except OSError as error:
        raise _unreadable(Path(config.init_from), error) from error
    if found != config.init_sha256:
        raise WrongInput(
            f"'{config.init_from}' is not the file that the run was planned with: "
            f"found SHA-256 {found}, expected {config.init_sha256}",
            hint="put that file back, or start a new run from the new one",
        )


def _array(name: str, value: Any, path: str | Path) -> np.ndarray:
    """Return a stored tensor; bfloat16, which NumPy does not have, as the float32 of equal value."""
    import torch

    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        kind = str(value.dtype) if isinstance(value, torch.Tensor) else type(value).__name__
        raise WrongInput(f"'{path}': {name} is {kind}, expected a tensor of floating-point numbers")
    values = value.detach().cpu()
    return np.asarray((values.float() if values.dtype == torch.bfloat16 else values).numpy())


def _torch_file(path: Path) -> Mapping[str, Any]:
    import torch

    try:
        # An open file, since torch takes a name that ends in .safetensors at its word, and the original's lied.
        with path.open("rb") as file:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(content, Mapping):
        raise WrongInput(f"'{path}' holds no network: found a {type(content).__name__}, expected named parameters")
    return content


def _safetensors(path: Path) -> Mapping[str, Any]:
    with path.open("rb") as file:
        if file.read(2) in (b"PK", b"\x80\x02"):
            return _torch_file(path)
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise WrongInput(f"reading '{path}' needs the package safetensors", hint="pip install safetensors") from error
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> WrongInput:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return WrongInput(f"cannot read the weights in '{path}': {reason}", hint="the file was left as it is")


def stored(source: TrialSource, config: Config) -> Mapping[str, np.ndarray]:
    """Return the best network that another run stored for a trial; raises ``UserError`` where it kept none."""
    found: Mapping[str, np.ndarray] | None = source.weights("lkg")
    if found is None:
        raise UserError(
            f"--from {source.run}: neither run.h5 nor the blocks' state.h5 holds the network of trial {source.trial}",
            hint="run it again with -s keep_weights=true",
            exit_code=2,
        )
    _check(found, config, f"run {source.run}")
    return found


def _check(parameters: Mapping[str, np.ndarray], config: Config, where: str) -> None:
    expected = shapes(config)
    network = f"{config.family} {config.arch}"
    missing = [name for name in expected if name not in parameters]
    extra = [name for name in parameters if name not in expected]
    if missing or extra:
        raise WrongInput(f"{where} is not a network {network}: missing {missing[:3]}, not expected {extra[:3]}")
    for name, shape in expected.items():
        if parameters[name].shape != shape:
            found = parameters[name].shape
            raise WrongInput(f"{where} is not a network {network}: {name} has shape {found}, expected {shape}")
