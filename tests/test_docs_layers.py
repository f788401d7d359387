"""The table of layers in docs/training.md says how each is run under ``--strategy stack``, and each is right so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xfw
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune
from xfw.engine import rehearsal
from xfw.testing.blocks import block_session
from xfw.testing.shapes import experiment

PAGE = Path(__file__).parents[1] / "docs" / "training.md"
HEADER = "| layer | training | evaluation |"

pytestmark = [
    pytest.mark.filterwarnings("ignore:There is a performance drop"),  # operations that vmap runs in a loop
    # A pruned layer keeps the weights of its last step, and with them a node of another stream.
    pytest.mark.filterwarnings("ignore:The AccumulateGrad node's stream does not match"),
    pytest.mark.filterwarnings("ignore:RNN module weights are not part of single contiguous chunk"),
]


class Applied(nn.Module):
    """A layer with the function that applies it to ``[B, 12]``."""

    def __init__(self, layer: nn.Module, apply: Callable[[Any, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.layer, self.apply_layer = layer, apply

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.apply_layer(self.layer, x)


def sequence(x: torch.Tensor) -> torch.Tensor:
    return x.unflatten(-1, (3, 4))


def image(x: torch.Tensor) -> torch.Tensor:
    return x.unflatten(-1, (1, 3, 4))


def words(x: torch.Tensor) -> torch.Tensor:
    return (x > 0).long()


def tied() -> nn.Module:
    first, second = nn.Linear(12, 12), nn.Linear(12, 12)
    second.weight = first.weight
    return nn.Sequential(first, nn.Tanh(), second)


def pruned() -> nn.Module:
    layer = nn.Linear(12, 12)
    prune.random_unstructured(layer, "weight", amount=0.5)
    return layer


def hooked() -> nn.Module:
    layer = nn.Linear(12, 12)
    layer.weight.register_hook(lambda gradient: 0.5 * gradient)
    return layer


def attend(layer: Any, x: torch.Tensor) -> torch.Tensor:
    s = sequence(x)
    return functional.scaled_dot_product_attention(s, s, s).flatten(1)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "`Linear`": lambda: nn.Linear(12, 12),
    "activations (`ReLU`, `GELU`, `Tanh`, …)": nn.GELU,
    "`Dropout`": lambda: nn.Dropout(0.2),
    "`Flatten`": nn.Flatten,
    "`Softmax`": lambda: nn.Softmax(-1),
    "`PReLU`": nn.PReLU,
    "`Bilinear`": lambda: Applied(nn.Bilinear(12, 12, 12), lambda layer, x: layer(x, x)),
    "`LayerNorm`": lambda: nn.LayerNorm(12),
    "`RMSNorm`": lambda: nn.RMSNorm(12),
    "`GroupNorm`": lambda: nn.GroupNorm(3, 12),
    "`InstanceNorm1d`": lambda: Applied(nn.InstanceNorm1d(3), lambda layer, x: layer(sequence(x)).flatten(1)),
    "`BatchNorm1d`": lambda: nn.BatchNorm1d(12),
    "`BatchNorm1d(momentum=None)`": lambda: nn.BatchNorm1d(12, momentum=None),
    "`Conv2d`": lambda: Applied(nn.Conv2d(1, 1, 3, padding=1), lambda layer, x: layer(image(x)).flatten(1)),
    "`ConvTranspose2d`": lambda: Applied(
        nn.ConvTranspose2d(1, 1, 3, padding=1), lambda layer, x: layer(image(x)).flatten(1)
    ),
    "`MaxPool2d`": lambda: Applied(nn.MaxPool2d(3, 1, 1), lambda layer, x: layer(image(x)).flatten(1)),
    "`AvgPool2d`": lambda: Applied(nn.AvgPool2d(3, 1, 1), lambda layer, x: layer(image(x)).flatten(1)),
    "`Embedding`": lambda: Applied(nn.Embedding(2, 4), lambda layer, x: x + layer(words(x)).mean(-1)),
    "`EmbeddingBag`": lambda: Applied(nn.EmbeddingBag(2, 12), lambda layer, x: x + layer(words(x))),
    "`LSTM`": lambda: Applied(nn.LSTM(4, 4, batch_first=True), lambda layer, x: layer(sequence(x))[0].flatten(1)),
    "`GRU`": lambda: Applied(nn.GRU(4, 4, batch_first=True), lambda layer, x: layer(sequence(x))[0].flatten(1)),
    "`RNN`": lambda: Applied(nn.RNN(4, 4, batch_first=True), lambda layer, x: layer(sequence(x))[0].flatten(1)),
    "`LSTMCell`": lambda: Applied(nn.LSTMCell(12, 12), lambda layer, x: layer(x)[0]),
    "`GRUCell`": lambda: Applied(nn.GRUCell(12, 12), lambda layer, x: layer(x)),
    "`MultiheadAttention`": lambda: Applied(
        nn.MultiheadAttention(4, 2, batch_first=True), lambda layer, x: layer(*[sequence(x)] * 3)[0].flatten(1)
    ),
    "`scaled_dot_product_attention`": lambda: Applied(nn.Identity(), attend),
    "`TransformerEncoderLayer`": lambda: Applied(
        nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True),
        lambda layer, x: layer(sequence(x)).flatten(1),
    ),
    "`parametrizations.weight_norm`": lambda: parametrizations.weight_norm(nn.Linear(12, 12)),
    "`parametrizations.orthogonal`": lambda: parametrizations.orthogonal(nn.Linear(12, 12)),
    "`parametrizations.spectral_norm`": lambda: parametrizations.spectral_norm(nn.Linear(12, 12)),
    "tied weights": tied,
    "`prune.random_unstructured`": pruned,
    "a hook on a gradient or module": hooked,
}


def step(model: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    x, y = batch
    return functional.cross_entropy(model(x), y)


def ways(build: Callable[[], nn.Module], device: str) -> tuple[str, str]:
    """Return how a layer's training and its evaluation are run, both checked against single models."""
    made = experiment(
        build_model=lambda config: nn.Sequential(nn.Linear(12, 12), build(), nn.Linear(12, 3)),
        build_optimizer=lambda config: xfw.SGD(lr=config.lr),
        plan_passes=lambda: [xfw.Pass(35)],
        train_step=step,
    )
    sessions = {
        name: block_session(made, strategy=name, dtype="float64", device=device) for name in ("stack", "serial")
    }
    for session in sessions.values():
        session.start(None)
        session.run()
    networks = {name: session.trainer.network for name, session in sessions.items()}
    for name, expected in networks["serial"].parameters.items():
        found = networks["stack"].parameters[name]
        np.testing.assert_allclose(found.cpu(), expected.cpu(), rtol=0, atol=1e-10, err_msg=name)
    taken = sessions["stack"].trainer._ways
    training, evaluation = (next(way for key, way in taken.items() if len(key) == n) for n in (3, 2))  # type: ignore[arg-type]
    return tuple("twin" if way == "narrow" else way for way in (training, evaluation))  # type: ignore[return-value]


def documented() -> dict[str, tuple[str, str]]:
    lines = PAGE.read_text("utf-8").split(HEADER)[1].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {layer: (training.strip("`"), evaluation.strip("`")) for layer, training, evaluation in cells}


def test_the_table_has_every_layer() -> None:
    assert list(documented()) == list(LAYERS)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_is_run_as_the_table_says(layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    convolution = "Conv" in layer
    if convolution:
        assert ways(LAYERS[layer], "cpu") == ("modules", "modules")
        monkeypatch.setattr(rehearsal, "ONE_BY_ONE", ())  # as on a GPU
    assert ways(LAYERS[layer], "cpu") == documented()[layer]


@pytest.mark.gpu
@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_is_run_on_a_gpu_as_the_table_says(layer: str) -> None:
    kernel_of_cudnn = layer in ("`LSTM`", "`GRU`", "`RNN`")
    assert ways(LAYERS[layer], "cuda") == (("modules", "modules") if kernel_of_cudnn else documented()[layer])
