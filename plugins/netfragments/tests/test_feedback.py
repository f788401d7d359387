"""The optional feedback layer (spec 2.7) and the forms of the larger original (spec 2.5, 2.8, 4.5)."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from xfw.plugins.registry import load_experiment
from xfw.testing.blocks import block_session, train_block
from xfw_netfragments.config import S2, S3, Config
from xfw_netfragments.feedback import WithFeedback, free_energy, replace, sampler, validation_loss

KEYS = ["s3.enabled=true", "data.lines=four", "data.validation=4", "evaluate.noise=[]", "evaluate.line_interrupt=[]"]


def tiny(hidden: int = 3) -> WithFeedback:
    torch.manual_seed(0)
    made = WithFeedback(Config(s2=S2(alternatives=2), s3=S3(enabled=True, hidden=hidden)))
    visible = 6
    made.hidden_weight = torch.nn.Parameter(torch.randn(hidden, visible), requires_grad=False)
    made.visible_bias = torch.nn.Parameter(torch.randn(visible), requires_grad=False)
    made.hidden_bias = torch.nn.Parameter(torch.randn(hidden), requires_grad=False)
    for name in ("hidden_weight", "visible_bias", "hidden_bias"):
        for part in ("mean", "square"):
            setattr(made, f"{name}_{part}", torch.zeros_like(getattr(made, name).data))
    return made


def fixed(model: WithFeedback) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return model.hidden_weight.data, model.visible_bias.data, model.hidden_bias.data


def test_the_free_energy_sums_over_all_hidden_states() -> None:
    model = tiny()
    weight, visible_bias, hidden_bias = (part.double() for part in fixed(model))
    for visible in itertools.product((0.0, 1.0), repeat=6):
        v = torch.tensor(visible, dtype=torch.float64)
        states = [torch.tensor(h, dtype=torch.float64) for h in itertools.product((0.0, 1.0), repeat=3)]
        energies = torch.stack([-(h @ weight @ v) - visible_bias @ v - hidden_bias @ h for h in states])
        expected = -torch.logsumexp(-energies, 0)
        found = free_energy(v[None], weight, visible_bias, hidden_bias)
        assert float(found) == pytest.approx(float(expected), abs=1e-9)


def test_slopes_are_those_of_the_free_energy() -> None:
    model = tiny()
    visible = (torch.rand(4, 6) < 0.5).float()
    parts = [part.clone().requires_grad_() for part in fixed(model)]
    expected = torch.autograd.grad(free_energy(visible, *parts), parts)
    for found, slope in zip(model._slopes(visible), expected, strict=True):
        torch.testing.assert_close(found, slope)


def test_its_steps_are_those_of_adam() -> None:
    model = tiny()
    parts = [part.clone().requires_grad_() for part in fixed(model)]
    optimizer = torch.optim.Adam(parts, lr=0.05)
    for _ in range(5):
        gradients = [torch.randn_like(part) for part in parts]
        for part, gradient in zip(parts, gradients, strict=True):
            part.grad = gradient
        optimizer.step()
        model.learned.add_(1)
        for name, gradient in zip(("hidden_weight", "visible_bias", "hidden_bias"), gradients, strict=True):
            model._adam(name, gradient)
    for found, part in zip(fixed(model), parts, strict=True):
        torch.testing.assert_close(found, part.detach(), rtol=1e-5, atol=1e-6)


def test_sampling_follows_the_two_probabilities() -> None:
    model = tiny()
    asked: list[tuple[str, torch.Tensor]] = []

    def certain(purpose: str, p: torch.Tensor) -> torch.Tensor:
        asked.append((purpose, p))
        return (p > 0.5).float()

    visible = torch.tensor([[1.0, 0, 1, 0, 1, 1]])
    found = model.imagine(visible, certain, "x")
    weight, visible_bias, hidden_bias = fixed(model)
    hidden = torch.sigmoid(visible @ weight.T + hidden_bias)
    torch.testing.assert_close(asked[0][1], hidden)
    torch.testing.assert_close(asked[1][1], torch.sigmoid((hidden > 0.5).float() @ weight + visible_bias))
    assert [purpose for purpose, _ in asked] == ["x/h0", "x/v0"]
    assert torch.equal(found, (asked[1][1] > 0.5).float())


def test_close_outputs_are_replaced_and_others_are_not() -> None:
    z = torch.zeros(3, 1, 20)
    z[:, :, :10] = 1
    near, far, none = z.clone(), z.clone(), torch.zeros_like(z)
    near[..., 0] = 0  # 1 of 10 differs: not below 0.1
    nearer = z.clone()
    nearer[..., 10] = 1  # 1 of 11
    far[..., :9] = 0
    assert torch.equal(replace(z, nearer, 0.1), nearer)
    assert torch.equal(replace(z, near, 0.1), z)
    assert torch.equal(replace(z, far, 0.1), z)
    assert torch.equal(replace(none, none, 0.1), none)


def test_feedback_acts_from_its_epoch_on_and_never_before(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    original: Callable[..., object] = WithFeedback.feedback

    def watched(self: WithFeedback, rng: object) -> object:
        seen.append(float(self.acting))
        return original(self, rng)

    monkeypatch.setattr(WithFeedback, "feedback", watched)
    keys = [*KEYS, "train.epochs=3", "data.train=2", "s3.first_epoch=3"]
    session = block_session(load_experiment("netfragments"), keys, trials=1, strategy="pool")
    session.start(None)
    session.run()
    # Two images an epoch; models that run one by one are not rehearsed.
    assert seen == [0.0] * 4 + [1.0] * 2
    assert S3().first_epoch == 11


def test_without_acting_feedback_the_weights_are_those_without_the_layer() -> None:
    keys = ["data.lines=four", "data.validation=1", "train.epochs=1", "data.train=4", "evaluate.noise=[]"]
    experiment = load_experiment("netfragments")
    plain = train_block(experiment, [*keys, "evaluate.line_interrupt=[]"], trials=1, strategy="pool")
    layered = train_block(
        experiment, [*keys, "evaluate.line_interrupt=[]", "s3.enabled=true"], trials=1, strategy="pool"
    )
    for name in ("w_index", "w_value"):
        assert np.array_equal(plain.commit.arrays[name][0], layered.commit.arrays[name][0])


@pytest.mark.slow
def test_the_energy_difference_falls_on_the_four_lines() -> None:
    keys = [*KEYS, "train.epochs=3", "data.train=8"]
    session = block_session(load_experiment("netfragments"), keys, trials=1, strategy="pool")
    session.start(None)
    session._count_steps()
    losses = [float(validation_loss(session.block, 0))]
    for number in range(3):
        session._epoch(number)
        session.position |= {"epoch": number + 1, "step": 0}
        losses.append(float(validation_loss(session.block, 0)))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0 < losses[0]


def test_imagined_outputs_are_drawn_by_key() -> None:
    from xfw.engine.rng import Rng, key_words

    zero = torch.zeros((), dtype=torch.int32)
    rng = Rng(key_words([7], "cpu")[0], zero, zero)
    p = torch.full((2, 50), 0.3)
    assert torch.equal(sampler(rng)("a", p), sampler(rng)("a", p))
    assert not torch.equal(sampler(rng)("a", p), sampler(rng)("b", p))


def test_the_thesis_presets_run() -> None:
    keys = ["train.epochs=1", "data.train=4", "data.validation=1", "evaluate.samples=2", "evaluate.noise=[0.1]"]
    experiment = load_experiment("netfragments")
    for preset, batch in (("thesis_baseline", "train.batch_size=2"), ("thesis_alternatives", "train.batch_size=1")):
        found = train_block(
            experiment, [*keys, batch, "evaluate.line_interrupt=[]"], preset=preset, trials=1, strategy="pool"
        )
        assert found.status == ["done"]
        assert found.record("epoch", "weights_nonzero")[-1, 0] > found.record("epoch", "weights_nonzero")[0, 0]
