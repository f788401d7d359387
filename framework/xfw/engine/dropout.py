"""Replace ``nn.Dropout`` by a twin whose masks are keyed draws of the trial."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import torch
from torch import nn

from xfw.engine.rng import Rng, purpose_keys
from xfw.errors import UserError

__all__ = ["KeyedDropout", "RngHolder", "keyed_dropout"]


class RngHolder:
    """Hold the draws of the step under way, for the dropout sites of one network."""

    def __init__(self) -> None:
        self.current: Rng | None = None


class KeyedDropout(nn.Dropout):
    """Zero entries with a rate that may differ between trials, and scale the rest by 1/(1 - rate).

    ``threshold`` (rate in units of 2^-24) and ``scale`` are 0-d tensors for one trial or ``[T]`` for a block;
    a site whose rates are all zero is left out, which changes no bit. Called again in a step it draws other numbers.
    """

    def __init__(
        self, site: str, rates: Sequence[float], holder: RngHolder, device: torch.device, *, inplace: bool = False
    ) -> None:
        nn.Module.__init__(self)
        self.site, self.holder, self.inplace = site, holder, inplace
        self.rates = tuple(rates)
        self.active = any(rate > 0 for rate in rates)
        self.threshold = torch.tensor([round(rate * 2**24) for rate in rates], dtype=torch.int32, device=device)
        scales = [1 / (1 - rate) if rate < 1 else 0.0 for rate in rates]  # of a rate of 1 nothing is left to scale
        self.scale = torch.tensor(scales, dtype=torch.float32, device=device)
        self._step: Rng | None = None
        self._calls = 0

    @property
    def p(self) -> float:
        """The rate; where the trials of a block differ in it, that of the first."""
        return self.rates[0]

    @p.setter
    def p(self, _rate: float) -> None:
        raise UserError(
            f"the rate of dropout layer '{self.site.removeprefix('dropout/')}' was changed after build_model",
            hint="for a rate that changes, multiply by rng.bernoulli(...) in the step",
        )

    def single(self) -> KeyedDropout:
        """Return the site of the first trial, with 0-d rates: for an ordinary model."""
        self.threshold, self.scale = self.threshold[0], self.scale[0]
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drop in training state only."""
        if not self.training or not self.active:
            return x
        rng = self.holder.current
        if rng is None:
            name = self.site.removeprefix("dropout/")
            raise UserError(f"dropout layer '{name}' was called in training state, but outside a training step")
        self._calls = self._calls + 1 if rng is self._step else 0
        self._step = rng
        purpose = f"{self.site}/{self._calls}" if self._calls else self.site
        if x.is_cuda and importlib.util.find_spec("triton") is not None:
            from xfw.engine.dropout_kernel import applies

            if applies(x):
                y = self._by_kernel(x, rng, purpose)
                return x.copy_(y) if self.inplace else y
        lanes = self.threshold.dim()
        extra = (1,) * (x.dim() - lanes)
        words = rng.words24(purpose, x.shape[lanes:])
        kept = words >= self.threshold.reshape(*self.threshold.shape, *extra)
        scale = self.scale.to(x.dtype).reshape(*self.scale.shape, *extra)
        # x comes first: the product then has the memory layout of x, on which the bits of the next map depend.
        mask = kept.to(x.dtype) * scale
        return x.mul_(mask) if self.inplace else x * mask

    def _by_kernel(self, x: torch.Tensor, rng: Rng, purpose: str) -> torch.Tensor:
        """Do the same in one kernel instead of forty: the same bits (docs/performance.md)."""
        from xfw.engine.dropout_kernel import drop

        single = not self.threshold.dim()
        k0, k1, p0, p1 = purpose_keys(rng, purpose)
        keys = k0.reshape(-1), k1.reshape(-1), p0, p1
        y = drop(x.unsqueeze(0) if single else x, keys, self.threshold.reshape(-1), self.scale.reshape(-1))
        return y[0] if single else y


def keyed_dropout(module: nn.Module, siblings: Sequence[nn.Module], device: torch.device) -> RngHolder:
    """Put keyed twins in place of a module's dropout layers, with the rates that they have in ``siblings``.

    They draw from the holder that is returned. A module that is its own only sibling stays an ordinary model.
    """
    holder, single = RngHolder(), siblings[0] is module
    for name, child in list(module.named_modules(remove_duplicate=False)):
        if type(module.get_submodule(name)) is not nn.Dropout:  # by its place: a shared layer has several
            continue
        rates = [float(sibling.get_submodule(name).p) for sibling in siblings]  # type: ignore[arg-type]
        keyed = KeyedDropout(f"dropout/{name}", rates, holder, device, inplace=bool(child.inplace))
        vars(keyed).update({key: value for key, value in vars(child).items() if "hook" in key})
        parent, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(parent), leaf, keyed.single() if single else keyed)
    return holder
