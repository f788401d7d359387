"""Replace ``nn.Dropout`` by a twin whose masks are keyed draws of the trial."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import torch
from torch import nn

from xfw.engine.rng import Rng, purpose_keys

__all__ = ["KeyedDropout", "RngHolder", "replace_dropout"]


class RngHolder:
    """Hold the draws of the step under way, for the dropout sites of one network."""

    def __init__(self) -> None:
        self.current: Rng | None = None


class KeyedDropout(nn.Module):
    """Zero entries with a rate that may differ between trials, and scale the rest by 1/(1 - rate).

    ``threshold`` (rate in units of 2^-24) and ``scale`` are 0-d tensors for one trial or ``[T]`` for a block;
    a site whose rates are all zero is left out, which changes no bit.
    """

    def __init__(self, site: str, rates: Sequence[float], holder: RngHolder, device: torch.device) -> None:
        super().__init__()
        self.site, self.holder = site, holder
        self.rates = tuple(rates)
        self.active = any(rate > 0 for rate in rates)
        self.threshold = torch.tensor([round(rate * 2**24) for rate in rates], dtype=torch.int32, device=device)
        scales = [1 / (1 - rate) if rate < 1 else 0.0 for rate in rates]  # of a rate of 1 nothing is left to scale
        self.scale = torch.tensor(scales, dtype=torch.float32, device=device)

    def lane(self, lane: int) -> KeyedDropout:
        """Return the site of a single trial, with 0-d rate tensors and a holder of its own to be set."""
        single = KeyedDropout(self.site, self.rates[lane : lane + 1], self.holder, self.threshold.device)
        single.threshold, single.scale = self.threshold[lane], self.scale[lane]
        return single

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drop in training state only."""
        if not self.training or not self.active:
            return x
        if self.holder.current is None:
            raise RuntimeError(f"dropout site '{self.site}' was called outside a training step")
        if x.is_cuda and importlib.util.find_spec("triton") is not None:
            from xfw.engine.dropout_kernel import applies

            if applies(x):
                return self._by_kernel(x, self.holder.current)
        lanes = self.threshold.dim()
        extra = (1,) * (x.dim() - lanes)
        words = self.holder.current.words24(self.site, x.shape[lanes:])
        kept = words >= self.threshold.reshape(*self.threshold.shape, *extra)
        scale = self.scale.to(x.dtype).reshape(*self.scale.shape, *extra)
        # x comes first: the product then has the memory layout of x, on which the bits of the next map depend.
        return x * (kept.to(x.dtype) * scale)

    def _by_kernel(self, x: torch.Tensor, rng: Rng) -> torch.Tensor:
        """Do the same in one kernel instead of forty: the same bits (docs/performance.md)."""
        from xfw.engine.dropout_kernel import drop

        single = not self.threshold.dim()
        k0, k1, p0, p1 = purpose_keys(rng, self.site)
        keys = k0.reshape(-1), k1.reshape(-1), p0, p1
        y = drop(x.unsqueeze(0) if single else x, keys, self.threshold.reshape(-1), self.scale.reshape(-1))
        return y[0] if single else y


def replace_dropout(module: nn.Module, siblings: Sequence[nn.Module], holder: RngHolder, device: torch.device) -> None:
    """Put keyed twins in place of the module's dropout layers; ``siblings`` are the block's models, for their rates."""
    for name, child in list(module.named_modules()):
        if type(child) is not nn.Dropout:
            continue
        rates = [float(sibling.get_submodule(name).p) for sibling in siblings]  # type: ignore[arg-type]
        parent_name, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(parent_name), leaf, KeyedDropout(f"dropout/{name}", rates, holder, device))
