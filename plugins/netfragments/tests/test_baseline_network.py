"""The autoencoder baseline (spec 2.6)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xfw
from xfw.engine.batches import Resident
from xfw.plugins.registry import load_experiment
from xfw.store.sources import TrialSource
from xfw.testing.blocks import block_session, train_block
from xfw_netfragments.autoencoder import Autoencoder, errors, output, reconstruction
from xfw_netfragments.config import Config, Data
from xfw_netfragments.training import line_set

KEYS = ["train.epochs=2", "data.train=60", "data.validation=20", "train.batch_size=20", "evaluate.samples=3"]
POINTS = ["evaluate.noise=[0,0.1]", "evaluate.line_interrupt=[2]"]


def lines() -> Resident:
    return Resident(line_set(Config(model="autoencoder"))["lines"], torch.float32)


def test_it_has_the_published_parameters() -> None:
    counts = [sum(p.numel() for p in layer.parameters()) for layer in Autoencoder().layers]
    assert counts == [1_184, 18_496, 73_856, 295_168, 295_040, 73_792, 18_464, 1_156]
    assert sum(counts) == 777_156


@pytest.mark.parametrize("size", [32, 64])
def test_outputs_have_the_size_of_inputs(size: int) -> None:
    assert Autoencoder()(torch.zeros(2, 4, size, size)).shape == (2, 4, size, size)
    code = torch.zeros(1, 4, 32, 32)
    model = Autoencoder()
    for layer in model.layers[:4]:
        code = torch.relu(layer(code))
    assert code.shape == (1, 256, 2, 2)


def test_the_loss_of_counted_lines_is_that_of_the_drawn_batch() -> None:
    torch.manual_seed(0)
    model, known = Autoencoder().double(), lines()
    drawn = torch.randint(0, 58, (512,))
    features = known.take(drawn)[0].double()
    plain = torch.nn.functional.mse_loss(model(features), features)
    resident = Resident(xfw.Dataset((known.take(torch.arange(58))[0].double(), torch.arange(58))), torch.float64)
    counted = reconstruction(model, (features, drawn), resident)
    assert counted.item() == pytest.approx(plain.item(), rel=1e-12)
    for first, second in zip(
        torch.autograd.grad(plain, list(model.parameters())),
        torch.autograd.grad(counted, list(model.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-15)


def test_errors_equal_their_definitions() -> None:
    model, features = Autoencoder(), lines().take(torch.arange(5))[0]
    found = errors(model, features)
    difference = (model(features) - features).detach()
    binary = (model(features) > 0.5).float() - (features > 0.5).float()
    torch.testing.assert_close(found["validation_mse"].mean(), (difference**2).mean())
    torch.testing.assert_close(found["validation_mae"].mean(), difference.abs().mean())
    torch.testing.assert_close(found["validation_mse_binary"].mean(), (binary**2).mean())
    assert output(model, features).min() >= 0
    assert output(model, features).max() <= 1


def trained(*keys: str, **how: Any) -> Any:
    how = {"trials": 1, "strategy": "pool", **how}
    return train_block(load_experiment("netfragments"), [*KEYS, *POINTS, *keys], preset="autoencoder", **how)


def test_a_run_stores_errors_the_best_state_and_points() -> None:
    found = trained()
    mse = found.record("epoch", "validation_mse")[:, 0]
    assert found.record("epoch", "epoch")[:, 0].tolist() == [1, 2]
    assert found.record("epoch", "best")[:, 0].tolist() == [True, bool(mse[1] < mse[0])]
    assert sum(array.size for name, array in found.commit.arrays.items() if name.startswith("best/")) == 777_156
    assert found.record("evaluation", "noise")[:, 0].tolist() == [0.0, 0.1, 0.0]
    assert np.isnan(found.record("evaluation", "theta")).all()
    assert np.isnan(found.record("evaluation", "gamma_start")).all()
    assert found.record("evaluation", "accuracy")[0, 0] == 1
    assert found.commit.arrays["baseline/0"].shape == (1, 3, 1, 4, 32, 32)


def test_the_state_with_the_lowest_error_is_kept_and_evaluated() -> None:
    found = trained()
    kept = [found.commit.arrays[name][0].ravel() for name in found.commit.arrays if name.startswith("best/")]
    assert np.array_equal(np.sort(np.concatenate(kept)), np.sort(found.parameters()[0]))
    model = Autoencoder()
    model.load_state_dict(
        {
            name.removeprefix("best/"): torch.from_numpy(array[0])
            for name, array in found.commit.arrays.items()
            if name.startswith("best/")
        }
    )
    by_line = errors(model, lines().take(torch.arange(58))[0])["validation_mse"]
    best = found.record("epoch", "validation_mse")[:, 0].min()
    assert float(by_line.min()) <= best <= float(by_line.max())


def test_going_on_asks_for_less_than_the_lowest_error_whatever_the_last_one_was() -> None:
    found = trained()
    arrays = {name: values[0] for name, values in found.commit.arrays.items()}
    last = {"epoch": {"validation_mse": 9.0}}
    source = TrialSource("earlier", {}, 0, 0, 1, "done", arrays, {"epoch": 2}, last, lambda _: None)
    session = block_session(
        load_experiment("netfragments"), [*KEYS, *POINTS], preset="autoencoder", trials=1, strategy="pool"
    )
    session.start([source])
    assert session.block.values["lowest"].tolist() == [found.record("epoch", "validation_mse")[:, 0].min()]
    assert session.block.done_epochs == 2


def test_trials_differ_in_their_initial_weights() -> None:
    found = trained(trials=2)
    assert not np.array_equal(*found.parameters())
    again = trained(trials=2, only=[1])
    np.testing.assert_array_equal(
        again.record("epoch", "validation_mse")[:, 0], found.record("epoch", "validation_mse")[:, 1]
    )


def test_digits_of_64_pixels_are_evaluated_unchanged() -> None:
    found = train_block(
        load_experiment("netfragments"),
        [*KEYS, "evaluate.images=digits", "evaluate.noise=[0.1]"],
        preset="autoencoder",
        trials=1,
        strategy="pool",
    )
    assert found.commit.arrays["baseline/0"].shape == (1, 3, 1, 4, 64, 64)


def test_sizes_that_cannot_be_halved_four_times_are_refused() -> None:
    with pytest.raises(xfw.WrongInput, match="multiple of 16"):
        trained("data.size=40")
    assert Config(data=Data(size=48)).data.size == 48
