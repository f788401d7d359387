"""Narrow networks in three kernels: what is recognised, and gradients against ordinary modules in float64.

Without a GPU the kernels run in Triton's interpreter, in a process of their own (it must be chosen before the import).
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
import xfw
from torch import nn
from torch.nn import functional
from xfw.engine.batches import gather, prepared, prepared_once
from xfw.engine.dropout import KeyedDropout
from xfw.engine.narrow import Layer, NarrowTwin, layers_of
from xfw.engine.network import Network
from xfw.engine.rng import Rng, key_words
from xfw.engine.twin import Twin

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
HAS_TRITON = importlib.util.find_spec("triton") is not None
needs_kernels = pytest.mark.skipif(
    not HAS_TRITON or not (INTERPRETED or torch.cuda.is_available()),
    reason="needs triton, and a CUDA device or the interpreter",
)
CPU = torch.device("cpu")


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.0), nn.Linear(width, width))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return functional.relu(h + self.layers(h))


def residual() -> nn.Module:
    return nn.Sequential(
        nn.Linear(50, 4), nn.ReLU(), Residual(4), Residual(4), nn.Linear(4, 18), nn.ReLU(), Residual(18),
        nn.Linear(18, 10),
    )  # fmt: skip


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(70, 5), nn.ReLU(), nn.Linear(5, 32, bias=False), nn.ReLU(), nn.Linear(32, 3))


class Swapped(nn.Module):
    """The branch is added in place, on the other side."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.a, self.b, self.last = (nn.Linear(*sizes) for sizes in ((9, 6), (6, 6), (6, 6), (6, 2)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.first(x))
        branch = self.b(self.a(h).relu())
        branch += h
        return self.last(branch.relu())


class Reads(nn.Module):
    """Not a chain: what comes out depends on more than the layers."""

    def __init__(self, how: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.c, self.how = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4), how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(torch.relu(self.b(self.how(torch.relu(self.a(x))))))


def test_a_residual_network_is_read_as_its_layers() -> None:
    assert layers_of(Network([residual()], CPU, torch.float32).template) == [
        Layer("0", 50, 4, True, rectifies=True),
        Layer("2.layers.0", 4, 4, True, rectifies=True, keeps=True, dropout="2.layers.2"),
        Layer("2.layers.3", 4, 4, True, rectifies=True, adds=True),
        Layer("3.layers.0", 4, 4, True, rectifies=True, keeps=True, dropout="3.layers.2"),
        Layer("3.layers.3", 4, 4, True, rectifies=True, adds=True),
        Layer("4", 4, 18, True, rectifies=True),
        Layer("6.layers.0", 18, 18, True, rectifies=True, keeps=True, dropout="6.layers.2"),
        Layer("6.layers.3", 18, 18, True, rectifies=True, adds=True),
        Layer("7", 18, 10, True),
    ]


def test_a_chain_without_relu_at_places_and_a_branch_added_on_the_left_are_read() -> None:
    linear = layers_of(nn.Sequential(nn.Linear(8, 4), nn.Identity(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)))
    assert linear is not None
    assert [layer.rectifies for layer in linear] == [False, True, False]
    swapped = layers_of(Swapped())
    assert swapped is not None
    assert [(layer.keeps, layer.adds) for layer in swapped] == [
        (False, False),
        (True, False),
        (False, True),
        (False, False),
    ]


@pytest.mark.parametrize(
    "how",
    [
        lambda h: h - h.mean(0),
        lambda h: h[: h.shape[0]],
        lambda h: h * 2,
        lambda h: h + 1,
        lambda h: h + h,
        lambda h: torch.softmax(h, 1),
        lambda h: torch.relu(h) if h.sum() > 0 else h,
        lambda h: h.detach(),
    ],
)
def test_anything_but_a_chain_is_left_to_its_twin(how: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assert layers_of(Reads(how)) is None


def test_other_layers_are_left_to_their_twin() -> None:
    assert layers_of(nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 2))) is None
    for rate in (0.0, 0.5):  # dropout without a ReLU before it, whatever the neighbours' rates
        chain = nn.Sequential(nn.Linear(8, 4), nn.Dropout(rate), nn.Linear(4, 4), nn.Linear(4, 2))
        assert layers_of(chain) is None
    shared = nn.Linear(4, 4)
    twice = layers_of(nn.Sequential(nn.Linear(8, 4), nn.ReLU(), shared, nn.ReLU(), shared, nn.Linear(4, 2)))
    network = Network(
        [nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 40), nn.Linear(40, 2))], CPU, torch.float32
    )
    assert not NarrowTwin.fits(network, layers_of(network.template))
    assert twice is None or len({layer.path for layer in twice}) < len(twice)


def test_only_what_the_layers_hold_whole_in_single_precision_fits() -> None:
    def network(model: nn.Module, dtype: torch.dtype = torch.float32) -> Network:
        return Network([model], CPU, dtype)

    fitting = network(residual())
    assert NarrowTwin.fits(fitting, layers_of(fitting.template))
    assert not NarrowTwin.fits(network(residual(), torch.float64), layers_of(residual()))
    shared = nn.Linear(4, 4)
    tied = network(nn.Sequential(nn.Linear(8, 4), nn.ReLU(), shared, nn.ReLU(), shared, nn.Linear(4, 2)))
    assert not NarrowTwin.fits(tied, layers_of(tied.template))
    frozen = residual()
    frozen[0].weight.requires_grad_(False)  # type: ignore[union-attr]
    assert not NarrowTwin.fits(network(frozen), layers_of(frozen))


@pytest.mark.skipif(INTERPRETED or not HAS_TRITON, reason="starts the tests below in Triton's interpreter")
def test_the_kernels_under_tritons_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "kernels_agree", __file__]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


def _device() -> torch.device:
    return torch.device("cpu" if INTERPRETED else "cuda")


@pytest.mark.parametrize("batch", [37, 1])
@pytest.mark.parametrize("build", [residual, plain, Swapped])
@needs_kernels
def test_kernels_agree_with_single_models_in_float64(build: Callable[[], nn.Module], batch: int) -> None:
    torch.manual_seed(batch)
    models = [build() for _ in range(3)]
    network = Network(models, _device(), torch.float32)
    layers = layers_of(network.template)
    assert layers is not None
    narrow = NarrowTwin(network, layers, Twin(network, guarded=False).module)
    network.gradients_TP.fill_(float("nan"))
    x_TBI = torch.randn(3, batch, layers[0].inputs)
    labels_TB = torch.randint(0, layers[-1].outputs, (3, batch))
    logits_TBC = narrow(x_TBI.to(_device()))
    slopes = torch.tensor([1.0, 0.5, -2.0], device=_device())  # losses need not weigh the same
    losses_T = functional.cross_entropy(logits_TBC.transpose(1, 2), labels_TB.to(_device()), reduction="none").mean(1)
    (losses_T * slopes).sum().backward()
    for trial, model in enumerate(models):
        alone = model.double()
        expected = alone(x_TBI[trial].double())
        (functional.cross_entropy(expected, labels_TB[trial]) * slopes[trial].item()).backward()
        torch.testing.assert_close(logits_TBC[trial].cpu().double(), expected, rtol=1e-5, atol=1e-5)
        for name, parameter in alone.named_parameters():
            assert parameter.grad is not None
            difference = (network.gradients[name][trial].cpu().double() - parameter.grad).norm()
            assert difference <= 5e-6 * parameter.grad.norm() + 1e-9, name


@needs_kernels
def test_kernels_agree_that_what_is_not_a_number_stays_so() -> None:
    torch.manual_seed(0)
    models = [plain() for _ in range(2)]
    with torch.no_grad():
        models[0][0].weight[0, 0] = float("nan")  # type: ignore[index, union-attr]
    network = Network(models, _device(), torch.float32)
    layers = layers_of(network.template)
    assert layers is not None
    logits = NarrowTwin(network, layers, Twin(network, guarded=False).module)(torch.randn(2, 8, 70, device=_device()))
    assert logits[0].isnan().all()
    assert logits[1].isfinite().all()


@needs_kernels
@pytest.mark.parametrize(("batch", "classes"), [(37, 10), (300, 3), (2, 2)])
def test_kernels_agree_with_the_librarys_cross_entropy(batch: int, classes: int) -> None:
    from xfw.engine.losses import StackedLosses

    generator = torch.Generator().manual_seed(batch)
    logits = torch.randn(3, batch, classes, generator=generator).mul_(5).to(_device()).requires_grad_()
    labels = torch.randint(0, classes, (3, batch), generator=generator).to(_device())
    labels[1, 0] = -100
    weights = torch.tensor([1.0, 2.0, 0.5], device=_device())

    def step(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(z, y)

    with StackedLosses():
        losses = torch.func.vmap(step)(logits, labels)
    assert "Stacked" in type(losses.grad_fn).__name__
    exact = logits.detach().double().requires_grad_()
    expected = torch.stack([functional.cross_entropy(exact[trial], labels[trial]) for trial in range(3)])
    torch.testing.assert_close(losses.double(), expected, rtol=1e-6, atol=1e-6, equal_nan=True)
    (losses * weights).nansum().backward()
    (expected * weights).nansum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=1e-5, atol=1e-7, equal_nan=True)


@needs_kernels
def test_kernels_agree_that_other_cross_entropies_are_the_librarys() -> None:
    from xfw.engine.losses import StackedLosses

    logits, labels = torch.randn(2, 6, 4, device=_device()), torch.randint(0, 4, (2, 6), device=_device())

    def step(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        soft = functional.cross_entropy(z, functional.softmax(z, 1))
        return (
            functional.cross_entropy(z, y, label_smoothing=0.1) + functional.cross_entropy(z, y, reduction="sum") + soft
        )

    with StackedLosses():
        losses = torch.func.vmap(step)(logits, labels)
    torch.testing.assert_close(losses, torch.stack([step(logits[k], labels[k]) for k in range(2)]))


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_kernels_agree_with_gathering_by_index(dtype: torch.dtype) -> None:
    from xfw.engine.gather_kernel import take

    source = torch.arange(20 * 6).view(20, 2, 3).to(dtype).to(_device())
    order = torch.stack([torch.randperm(20, generator=torch.Generator().manual_seed(trial)) for trial in range(3)])
    order = order.to(_device())
    position = torch.tensor(9, device=_device())  # the second of seven batches, in the second turn
    batch = take(source, order, position, per_pass=7, batch_size=3, size=3)
    assert torch.equal(batch, source[order[:, 6:9]])


def images(prepare: Callable[..., tuple[torch.Tensor, ...]]) -> xfw.Dataset:
    pixels = torch.arange(5_000 * 6, dtype=torch.uint8).view(-1, 2, 3)
    return xfw.Dataset((pixels, torch.arange(5_000)), prepare)


def test_examples_that_are_prepared_one_by_one_are_prepared_once() -> None:
    dataset = images(lambda pixels, labels: (pixels.flatten(1).float() / 255 - 0.5, labels))
    once = prepared_once(dataset, torch.float64, 64, limit=10**9)
    assert once.prepare is None
    index = torch.tensor([4_999, 3, 3])
    expected = prepared(dataset, gather(dataset, index), torch.float64)
    assert all(torch.equal(part, kept[index]) for part, kept in zip(expected, once.tensors, strict=True))


@pytest.mark.parametrize(
    "prepare",
    [
        lambda pixels, labels: (pixels.float() - pixels.float().mean(0), labels),
        lambda pixels, labels: (pixels.float().sum(0), labels),
        lambda pixels, labels: (pixels.float().sum(0, keepdim=True), labels),
        lambda pixels, labels: (pixels[1:].float(), labels[1:]),
        lambda pixels, labels: (pixels.float(), labels.sum()),
    ],
)
def test_examples_that_depend_on_their_batch_are_prepared_batch_by_batch(
    prepare: Callable[..., tuple[torch.Tensor, ...]],
) -> None:
    dataset = images(prepare)
    assert prepared_once(dataset, torch.float32, 64, limit=10**9) is dataset


def test_examples_that_would_take_too_much_are_prepared_batch_by_batch() -> None:
    dataset = images(lambda pixels, labels: (pixels.float(), labels))
    needed = 5_000 * (6 * 4 + 8)
    assert prepared_once(dataset, torch.float32, 64, limit=needed - 1) is dataset
    assert prepared_once(dataset, torch.float32, 64, limit=needed).prepare is None


class Dropping(nn.Sequential):
    """Dropout behind a transition and within a residual branch, at rates that differ between trials."""

    def __init__(self, rate: float) -> None:
        block = Residual(6)
        block.layers[2] = nn.Dropout(rate)
        super().__init__(nn.Linear(9, 6), nn.ReLU(), nn.Dropout(rate / 2), block, nn.Linear(6, 3))


@needs_kernels
@pytest.mark.parametrize("rates", [(0.0, 0.5, 0.3), (0.0, 0.0, 0.0), (1.0, 0.2, 0.0)])
def test_kernels_agree_with_the_twins_dropout(rates: tuple[float, ...]) -> None:
    torch.manual_seed(0)
    network = Network([Dropping(rate) for rate in rates], _device(), torch.float32)
    assert network.template is not None
    layers = layers_of(network.template)
    assert layers is not None
    assert [layer.dropout for layer in layers] == ["2", "3.layers.2", "", ""]
    twin = Twin(network, guarded=False)
    narrow = NarrowTwin(network, layers, twin.module)
    sites = [module for module in twin.module.modules() if isinstance(module, KeyedDropout)]
    words = key_words([123456789012345, 2**63 + 5, 77], _device())
    rng = Rng(words, torch.tensor(3, device=_device()), torch.tensor(11, device=_device()))
    sites[0].holder.current = rng
    x_TBI = torch.randn(3, 21, 9, device=_device())
    results = []
    for module in (twin.module, narrow):
        network.gradients_TP.zero_()
        module.train()
        logits = module(x_TBI)
        logits.square().sum().backward()
        results.append((logits.detach().clone(), network.gradients_TP.clone()))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(narrow.eval()(x_TBI), twin.module.eval()(x_TBI))
