"""Sizes of the networks against the published tables, and the groups that are found in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import nn
from xfw_neural_mechanics import config
from xfw_neural_mechanics.groups import Groups, NoGroups, find_groups, forced_group, layer_names
from xfw_neural_mechanics.models import build

DIGITS, MNIST, CIFAR, TINY, IMAGENET = (1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 224, 224)

SIZES = [
    ("default", "logistic", MNIST, 10, 7_850),
    ("default", "fc", MNIST, 10, 119_910),
    ("default", "fc", CIFAR, 10, 348_710),
    ("default", "fc", TINY, 200, 1_289_500),
    ("default", "fc-bn", MNIST, 10, 120_910),
    ("default", "conv", MNIST, 10, 260_458),
    ("default", "conv", CIFAR, 10, 337_834),
    ("default", "mlp", DIGITS, 10, 3_466),
    ("default", "cnn", MNIST, 10, 9_098),
    ("tinyimagenet", "vgg16", CIFAR, 10, 14_914_378),
    ("tinyimagenet", "vgg16", CIFAR, 100, 14_937_508),
    ("tinyimagenet", "vgg16", TINY, 200, 18_067_464),
    ("tinyimagenet", "vgg16-bn", CIFAR, 10, 14_922_826),
    ("tinyimagenet", "vgg16-bn", TINY, 200, 18_075_912),
    ("tinyimagenet", "vgg11", TINY, 200, 12_573_256),
    ("tinyimagenet", "vgg13-bn", TINY, 200, 12_763_656),
    ("tinyimagenet", "vgg19-bn", TINY, 200, 23_388_168),
    ("tinyimagenet", "resnet18", TINY, 200, 11_271_432),
    ("tinyimagenet", "resnet34", TINY, 200, 21_379_592),
    ("tinyimagenet", "resnet50", TINY, 200, 23_910_152),
    ("tinyimagenet", "resnet101", TINY, 200, 42_902_280),
    ("tinyimagenet", "resnet152", TINY, 200, 58_545_928),
    ("tinyimagenet", "wide-resnet50", TINY, 200, 67_236_360),
    ("tinyimagenet", "resnet18-nobn", TINY, 200, 11_261_832),
    ("imagenet", "vgg16", IMAGENET, 1000, 138_357_544),
    ("imagenet", "resnet18", IMAGENET, 1000, 11_689_512),
]


def on_meta(*how: object, **options: object) -> nn.Module:
    with torch.device("meta"):
        return build(*how, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("family", "name", "shape", "classes", "expected"), SIZES)
def test_networks_have_the_published_sizes(
    family: str, name: str, shape: tuple[int, int, int], classes: int, expected: int
) -> None:
    assert sum(p.numel() for p in on_meta(family, name, shape, classes).parameters()) == expected


def test_the_small_networks_with_batch_normalisation_have_the_published_sizes() -> None:
    sizes = [
        sum(p.numel() for p in on_meta("default", name, shape, 10, norm=True).parameters())
        for name, shape in (("mlp", DIGITS), ("cnn", MNIST))
    ]
    assert sizes == [3_594, 9_146]


def test_wide_networks_of_basic_blocks_are_wider() -> None:
    narrow, wide = (on_meta("tinyimagenet", f"{w}resnet18", TINY, 200) for w in ("", "wide-"))
    assert sum(p.numel() for p in wide.parameters()) > 1.5 * sum(p.numel() for p in narrow.parameters())


def test_every_network_that_the_configuration_names_is_built() -> None:
    for family, names in config.MODELS.items():
        for name in names:
            assert isinstance(on_meta(family, name, IMAGENET if family == "imagenet" else TINY, 10), nn.Module)


GROUPS = [
    ("default", "fc-bn", MNIST, "ce", "all", {"scale": 5, "translation": 1}),
    ("default", "fc", MNIST, "ce", "all", {"rescale": 5, "translation": 1}),
    ("default", "fc", MNIST, "mse", "all", {"rescale": 5}),
    ("tinyimagenet", "vgg16", TINY, "ce", "conv", {"rescale": 12, "translation": 1}),
    ("tinyimagenet", "vgg16", TINY, "ce", "all", {"rescale": 15, "translation": 1}),
    ("tinyimagenet", "vgg16-bn", TINY, "ce", "all", {"scale": 13, "rescale": 2, "translation": 1}),
    ("tinyimagenet", "resnet18", TINY, "ce", "all", {"scale": 20, "translation": 1}),
    ("tinyimagenet", "resnet18-nobn", TINY, "ce", "all", {"rescale": 8, "translation": 1}),
]


@pytest.mark.parametrize(("family", "name", "shape", "loss", "scope", "expected"), GROUPS)
def test_groups_are_found_in_the_computation(
    family: str, name: str, shape: tuple[int, int, int], loss: str, scope: str, expected: dict[str, int]
) -> None:
    groups = find_groups(on_meta(family, name, shape, 10), loss, scope=scope)
    assert Counter(own.kind for own in groups) == expected


def test_the_published_set_of_rescale_channels() -> None:
    def channels(scope: str) -> int:
        model = on_meta("tinyimagenet", "vgg16", TINY, 200)
        found = [own for own in find_groups(model, scope=scope) if own.kind == "rescale"]
        return sum(model.get_parameter(own.minus[0].parameter).shape[0] for own in found)

    assert (channels("conv"), channels("all")) == (3_712, 6_272)


@pytest.mark.parametrize("activation", ["tanh", "gelu", "silu", "sigmoid"])
def test_what_is_not_homogeneous_has_no_rescale_groups(activation: str) -> None:
    assert not [
        g for g in find_groups(on_meta("default", "cnn", MNIST, 10, activation=activation)) if g.kind == "rescale"
    ]


def test_normalisation_behind_the_activation_has_no_scale_groups() -> None:
    behind = find_groups(on_meta("default", "conv", MNIST, 10, norm=True))
    before = find_groups(on_meta("default", "conv", MNIST, 10, norm=True, norm_position="pre"))
    assert [own.kind for own in behind] == ["translation"]
    assert [own.layer for own in before if own.kind == "scale"] == ["conv1", "conv2"]


def test_layers_have_the_names_of_the_figures() -> None:
    names = layer_names(on_meta("tinyimagenet", "vgg11-bn", TINY, 200))
    assert list(names.values())[:1] == ["bn1"]
    assert {"conv1", "conv8", "bn8", "fc1", "fc2", "classifier"} <= set(names.values())


def model_and_gradients(
    model: nn.Module, shape: tuple[int, ...], loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    model = model.double().train()
    images, labels = torch.randn(16, *shape, dtype=torch.float64), torch.randint(0, 10, (16,))
    loss(model(images), labels).backward()
    named = dict(model.named_parameters())
    return (
        {name: value.detach().unsqueeze(0) for name, value in named.items()},
        {name: value.grad.unsqueeze(0) for name, value in named.items() if value.grad is not None},
    )


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_gradients_of_real_batches_meet_every_constraint(name: str, norm: bool) -> None:
    """The symmetry residual of each group is zero to rounding: <g, 1> , <g, theta>, or the difference of two."""
    shape = (1, 12, 12)
    model = build("default", name, shape, 10, norm=norm, eps=1e-14)
    parameters, gradients = model_and_gradients(model, shape, nn.functional.cross_entropy)
    groups = find_groups(model, affine=True)
    assert {own.kind for own in groups} >= ({"scale", "rescale_affine"} if norm else {"rescale"}) | {"translation"}
    for own in groups:
        residual = own.sums(gradients) if own.order == 1 else own.form(parameters, gradients)
        assert residual.abs().max() < 1e-10, own


def test_quantities_are_those_of_the_definition() -> None:
    torch.manual_seed(0)
    model = build("default", "cnn", (1, 8, 8), 10)
    values = {name: value.detach().unsqueeze(0) for name, value in model.named_parameters()}
    conv1, conv2, linear = (module for module in model if isinstance(module, nn.Conv2d | nn.Linear))
    by_layer = {own.layer: own for own in find_groups(model)}
    first = by_layer["conv2"].quantity(values)[0]
    for channel in range(8):
        incoming = conv1.weight[channel].double().square().sum() + conv1.bias[channel].double() ** 2
        outgoing = conv2.weight[:, channel].double().square().sum()
        assert first[channel].item() == pytest.approx((outgoing - incoming).item(), rel=1e-12)
    second = next(own for own in find_groups(model) if own.kind == "rescale" and own.layer == "classifier")
    weights = linear.weight.double().view(10, 16, 4)  # behind the flatten a channel owns 2 × 2 columns
    for channel in (0, 15):
        incoming = conv2.weight[channel].double().square().sum() + conv2.bias[channel].double() ** 2
        expected = (weights[:, channel].square().sum() - incoming).item()
        assert second.quantity(values)[0, channel].item() == pytest.approx(expected, rel=1e-12)
    translation = next(own for own in find_groups(model) if own.kind == "translation").quantity(values)[0]
    assert torch.allclose(translation, torch.cat([linear.weight.double().sum(0), linear.bias.double().sum()[None]]))


def test_wrong_lists_of_groups_are_named() -> None:
    model = build("default", "mlp", DIGITS, 10)
    for text in ("scale", "scale:9", "rescale:1", "rescale:1:2", "other:1"):
        with pytest.raises(NoGroups, match=r"record\.forced"):
            forced_group(model, text)
    assert isinstance(forced_group(model, "rescale:1:3"), Groups)
