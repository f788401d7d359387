"""Follow the quantities of all groups through training, and let every law predict them, without touching the training.

A ``Tracker`` sees each update before the parameters move. All it keeps are tensors with a leading axis of trials, in
float64, written in place: sums over the interval since the last record, and the state of each law. It branches on no
value and waits for no device, so a step with it can be captured. Axes: T trial, C channel of all groups of one order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import torch

from xfw_neural_mechanics import laws
from xfw_neural_mechanics.groups import Groups

__all__ = ["SUMS", "Step", "Tracker"]

Named = Mapping[str, torch.Tensor]

SUMS = ("usq", "gsq", "res", "uv")
"""Sums over an interval: B(u, u), B(G, G), the residual B(theta, G), and B(u, v) with the new velocity."""


@attrs.frozen(eq=False)
class Step:
    """An update as the tracker sees it: tensors ``[T, …]`` by parameter, and what the optimizer does."""

    parameters: Named
    gradients: Named
    directions: Named
    velocities: Named
    hyper: laws.Hyper


class Tracker:
    """Measure and predict the quantities of some groups."""

    def __init__(self, groups: Sequence[Groups], names: Sequence[str], quadrature: str = "midpoint") -> None:
        """``names`` are the laws that are evaluated."""
        self.groups, self.laws, self.quadrature = tuple(groups), tuple(names), quadrature
        self.orders = {order: [own for own in self.groups if own.order == order] for order in (1, 2)}
        self.orders = {order: own for order, own in self.orders.items() if own}

    def start(self, parameters: Named) -> dict[str, torch.Tensor]:
        """Return the state at step 0, by name: everything is measured from here."""
        state: dict[str, torch.Tensor] = {}
        for order, own in self.orders.items():
            values = torch.cat([groups.quantity(parameters) for groups in own], 1)
            for law in self.laws:
                state[f"law/{law}/{order}"] = laws.initial(law, values).movedim(0, 1).contiguous()
            for name in (*SUMS, "sym", "sym_norm", "sym_square"):
                state[f"{name}/{order}"] = torch.zeros_like(values)
        first = next(iter(state.values()))
        state["time"] = first.new_zeros(first.shape[0])
        state["interval"] = first.new_zeros(first.shape[0])
        return state

    def before_update(self, state: Named, step: Step) -> None:
        """Take an update in: interval sums, residuals, and one step of every law."""
        for order, own in self.orders.items():
            kicks, squares, scale = self._measured(own, step)
            for name, value in zip(SUMS, (kicks.force, squares, kicks.residual, kicks.cross), strict=True):
                state[f"{name}/{order}"].add_(value)
            size = kicks.residual.abs()
            normalised = torch.where(scale > 0, size / scale, torch.zeros_like(size))
            torch.maximum(state[f"sym/{order}"], size, out=state[f"sym/{order}"])
            torch.maximum(state[f"sym_norm/{order}"], normalised, out=state[f"sym_norm/{order}"])
            state[f"sym_square/{order}"].add_(normalised**2)
            for law in self.laws:
                kept = state[f"law/{law}/{order}"]
                after = laws.step(law, kept.movedim(1, 0), kicks, step.hyper, order, self.quadrature)
                kept.copy_(after.movedim(0, 1))
        state["time"].add_(step.hyper.h.reshape(-1))
        state["interval"].add_(1)

    def _measured(self, own: Sequence[Groups], step: Step) -> tuple[laws.Kicks, torch.Tensor, torch.Tensor]:
        """Return the kicks of an update, B(G, G), and what a residual is compared with."""
        forces, residuals, crosses, squares, scales = [], [], [], [], []
        for groups in own:
            if groups.order == 1:
                residual = groups.sums(step.gradients)
                square = groups.magnitude(step.gradients)
                entries = step.gradients[groups.plus[0].parameter].shape[1]
                zero = torch.zeros_like(residual)
                forces.append(zero)
                crosses.append(zero)
                residuals.append(residual)
                scales.append((square * entries).sqrt())
            else:
                forces.append(groups.form(step.directions, step.directions))
                residuals.append(groups.form(step.parameters, step.gradients))
                nesterov = step.hyper.nesterov
                crosses.append(groups.form(step.directions, step.velocities) if nesterov else forces[-1])
                square = groups.form(step.gradients, step.gradients)
                scales.append(groups.norms(step.parameters, step.gradients))
            squares.append(square)
        kicks = laws.Kicks(torch.cat(forces, 1), torch.cat(residuals, 1), torch.cat(crosses, 1))
        return kicks, torch.cat(squares, 1), torch.cat(scales, 1)

    def snapshot(self, state: Named, parameters: Named) -> dict[str, torch.Tensor]:
        """Return everything that a record holds, by ``KIND/LAYER/NAME``, each ``[T, C]``, and the time ``[T]``."""
        record = {"time": state["time"]}
        count = state["interval"].clamp(min=1).unsqueeze(1)
        for order, own in self.orders.items():
            start = 0
            for groups in own:
                value = groups.quantity(parameters)
                part = slice(start, start + value.shape[1])
                start = part.stop
                name = f"{groups.kind}/{groups.layer}"
                record[f"{name}/q"] = value
                if groups.minus:
                    record[f"{name}/mag"] = groups.magnitude(parameters)
                for law in self.laws:
                    record[f"{name}/law/{law}"] = state[f"law/{law}/{order}"][:, 0, part]
                for sums in SUMS if order == 2 else ("res",):
                    record[f"{name}/{sums}"] = state[f"{sums}/{order}"][:, part]
                record[f"{name}/sym"] = state[f"sym/{order}"][:, part]
                record[f"{name}/sym_norm"] = state[f"sym_norm/{order}"][:, part]
                record[f"{name}/sym_rms"] = (state[f"sym_square/{order}"][:, part] / count).sqrt()
        return record

    def clear(self, state: Named, where: torch.Tensor | None = None) -> None:
        """Begin a new interval, where a 0-d truth value says so."""
        for name, tensor in state.items():
            if name.split("/")[0] in (*SUMS, "sym", "sym_norm", "sym_square", "interval"):
                tensor.zero_() if where is None else tensor.masked_fill_(where, 0)
