"""The configuration of psa: every option of the original's command line under its own name, and the presets."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import xfw

from xfw_psa import architecture

__all__ = ["ABLATIVE", "FAMILIES", "MODES", "PRESETS", "Config", "DropoutRates", "sha256", "source_index"]

MODES = ("none", "decay", "dropout", "full", "hidden", "output")
ABLATIVE = ("full", "hidden", "output")
FAMILIES = ("resmlp", "simplemlp")
COMPAT = ("final", "resmlp-preliminary", "simplemlp-superseded")

CONTAMINATED_DECAY = 0.01
"""AdamW's library default, active in every mode but ``decay`` in the two withdrawn data sets."""
CONTAMINATED_DROPOUT = 0.1
"""Rate inside every residual block, in every mode, in the withdrawn residual data set."""


@functools.cache
def _arch(text: str) -> str:
    return architecture.canonical(architecture.parse(text))


def _absolute(text: str) -> str:
    return os.path.abspath(os.path.expanduser(text))  # noqa: PTH100, PTH111


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@attrs.frozen
class DropoutRates:
    """Rates after projections and transitions (for the plain network: after every layer), and inside blocks."""

    projection: float
    block: float


@attrs.frozen
class Config:
    """What one condition of psa trains."""

    data: str = xfw.key("mnist", choices=("mnist", "digits"), help="data set; digits is embedded and needs no download")
    arch: str = xfw.key(
        "[1*1024]", converter=_arch, help="network as [COUNT*WIDTH,...], COUNT first; a single COUNT*WIDTH; or linear"
    )
    hidden_layers: tuple[int, ...] | None = xfw.key(
        None, ge=1, help="widths of the hidden layers, in place of arch", unit="units"
    )
    family: str = xfw.key("resmlp", choices=FAMILIES, help="residual blocks, or the plain network of the paper")
    mode: str = xfw.key(
        "none", choices=MODES, per_trial=True, alias=("ablation_mode",), help="control, or where neurons are silenced"
    )
    lr: float = xfw.key(1e-4, gt=0.0, per_trial=True, help="learning rate of AdamW, constant")
    batch_size: int = xfw.key(
        256, ge=1, le=1_000_000, help="training batch; evaluation uses twice as many", unit="images"
    )
    meta_loops: int = xfw.key(
        100, ge=1, le=1_000_000, help="loops of damage, one epoch of training, and selection", unit="loops"
    )
    weight_decay: float = xfw.key(1e-4, ge=0.0, per_trial=True, help="decoupled weight decay, used by mode decay only")
    dropout: float = xfw.key(0.1, ge=0.0, lt=1.0, per_trial=True, help="dropout rate, used by mode dropout only")
    pair_modes: bool = xfw.key(
        True, per_trial=True, help="equal trials of all modes and networks share initial weights, order and targets"
    )
    hidden_scope: str = xfw.key(
        "inner",
        choices=("inner", "all"),
        per_trial=True,
        help="inner: mode hidden of resmlp spares the first map, as the original does",
    )
    full_sampling: str = xfw.key(
        "layer",
        choices=("layer", "unit"),
        per_trial=True,
        help="mode full draws the map first, or uniformly over all units",
    )
    compat: str = xfw.key(
        "final", choices=COMPAT, per_trial=True, help="corrected code, or one of the two withdrawn versions"
    )
    resume_from: str | None = xfw.key(
        None,
        choices=MODES,
        per_trial=True,
        inherited=False,
        help="with --from RUN: the mode of RUN to start from",
    )
    resume_undamaged: bool = xfw.key(
        False, per_trial=True, inherited=False, help="spare the first loop after --from, as the original did"
    )
    init_from: str | None = xfw.key(
        None,
        converter=_absolute,
        inherited=False,
        help="file with the weights to start from (torch.save or safetensors)",
    )
    init_sha256: str | None = xfw.key(
        None, inherited=False, help="SHA-256 that the file of init_from must have; filled in when the run is planned"
    )
    keep_weights: bool | None = xfw.key(
        None, per_trial=True, help="store the best network in run.h5; by default only in float32 runs of one condition"
    )
    share_order: bool = xfw.key(False, help="all trials see the same batches; not supported by this version")
    num_workers: int = xfw.key(4, ge=0, per_trial=True, help="accepted for compatibility, has no effect")

    def __attrs_post_init__(self) -> None:
        if self.init_from is not None and self.init_sha256 is None and os.path.isfile(self.init_from):  # noqa: PTH113
            object.__setattr__(self, "init_sha256", sha256(self.init_from))
        if self.hidden_layers:
            object.__setattr__(self, "arch", architecture.canonical(architecture.from_widths(self.hidden_layers)))

    @property
    def stacks(self) -> tuple[architecture.Stack, ...]:
        """Return the network as stacks of equal width."""
        return architecture.parse(self.arch)

    @property
    def maps(self) -> tuple[architecture.LinearMap, ...]:
        """Return the network's linear maps in computing order."""
        return architecture.linear_maps(self.stacks, self.family)

    @property
    def decay(self) -> float:
        """Return the weight decay that this mode and version really use (spec: zero except in mode decay)."""
        if self.mode == "decay":
            return self.weight_decay
        return 0.0 if self.compat == "final" else CONTAMINATED_DECAY

    @property
    def rates(self) -> DropoutRates:
        """Return the dropout rates that this mode and version really use."""
        if self.mode == "dropout":
            return DropoutRates(self.dropout, self.dropout)
        return DropoutRates(0.0, CONTAMINATED_DROPOUT if self.compat == "resmlp-preliminary" else 0.0)


PRESETS: Mapping[str, xfw.Preset] = {
    "quick": xfw.Preset(
        {"data": "digits", "arch": "[2*64]", "mode": "hidden"}, help="embedded digits, a small residual network"
    ),
    "paper": xfw.Preset(
        {"data": "mnist", "family": "simplemlp", "pair_modes": False}, help="the paper: plain networks on MNIST"
    ),
    "resmlp": xfw.Preset(
        {"data": "mnist", "family": "resmlp", "pair_modes": False}, help="the residual follow-up, corrected code"
    ),
    "resmlp-preliminary": xfw.Preset(
        {"data": "mnist", "family": "resmlp", "pair_modes": False, "compat": "resmlp-preliminary"},
        help="the withdrawn residual data set: decay 0.01 and dropout inside blocks in every mode",
    ),
    "simplemlp-superseded": xfw.Preset(
        {"data": "mnist", "family": "simplemlp", "pair_modes": False, "compat": "simplemlp-superseded"},
        help="the withdrawn plain data set: decay 0.01 in every mode but decay",
    ),
}


def source_index(config: Config, stored: Any) -> int:
    """Return which stored condition has this network, and the mode to start from; raises ``WrongInput``."""
    mine = (config.family, config.arch)
    same = [index for index, other in enumerate(stored) if _network(other) == mine]
    if not same:
        there = ", ".join(sorted({" ".join(_network(other)) for other in stored}))
        raise xfw.WrongInput(f"--from: the run holds no network '{' '.join(mine)}', it holds: {there}")
    wanted = config.resume_from or config.mode
    matching = [index for index in same if stored[index].get("mode", "none") == wanted]
    if len(matching) == 1:
        return matching[0]
    if len(same) == 1 and config.resume_from is None:
        return same[0]
    return _refuse_choice([stored[index] for index in (matching or same)], wanted)


def _network(stored: Mapping[str, Any]) -> tuple[str, str]:
    return str(stored.get("family", "resmlp")), _arch(str(stored.get("arch", "[1*1024]")))


def _refuse_choice(candidates: list[Mapping[str, Any]], wanted: str) -> int:
    modes = [str(each.get("mode", "none")) for each in candidates]
    if wanted in modes:
        raise xfw.WrongInput(
            f"--from: the run holds {len(modes)} conditions with mode={wanted}; which one to take is not clear"
        )
    raise xfw.WrongInput(
        f"--from: the run holds no mode '{wanted}' of this network, it holds: {', '.join(sorted(set(modes)))}",
        hint="name the mode to start from: -s resume_from=MODE",
    )
