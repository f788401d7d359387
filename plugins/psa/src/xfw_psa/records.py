"""What a run stores, and the line of the log that tells of one loop."""

from __future__ import annotations

from typing import Any

from xfw import Array, Records, Stream, Variable

from xfw_psa.config import Config

__all__ = ["declare", "loop_line"]

EPOCH = Stream(
    "epoch",
    coordinate="epoch",
    first=1,
    variables=(
        Variable("epoch", "int64", "loop, counted over all runs of the network"),
        Variable("val_correct", "int64", "correct validation images of the trained copy"),
        Variable("lkg_correct", "int64", "correct validation images of the best network"),
        Variable("accepted", "bool", "the copy was strictly better and became the best network"),
        Variable("train_loss", "float32", "mean cross-entropy of the epoch, in nats"),
        Variable("ablated_layer", "int64", "silenced linear map in computing order, -1 for none"),
        Variable("ablated_unit", "int64", "silenced unit of that map, -1 for none"),
        Variable("wall_time", "float64", "time of the block's loop divided by its trials", "s"),
        Variable("finite", "bool", "all losses and validation outputs of the epoch were finite"),
    ),
)

ARRAYS = (
    Array("bounty_loop", "int64", "loop of the last improvement"),
    Array("test_correct", "int64", "correct test images of the best network"),
    Array("loops_done", "int64", "loops of the network, over all runs"),
    Array("parameters", "int64", "parameters of the network"),
    Array("n_val", "int64", "validation images"),
    Array("z_val", "float64", "share of the most frequent class of the validation images", "%"),
)


def declare(config: Config) -> Records:
    """Return the streams and arrays of a run with this configuration."""
    kept = () if config.keep_weights is False else _weights(config)
    return Records(streams=(EPOCH,), arrays=(*ARRAYS, *kept), default="epoch")


def _weights(config: Config) -> tuple[Array, ...]:
    found: list[Array] = []
    for each in config.maps:
        name = f"lkg/{each.name}"
        axes = (f"{each.name}.output", f"{each.name}.input")
        found.append(Array(f"{name}.weight", "float32", f"weights of {each.name}", axes=axes))
        found.append(Array(f"{name}.bias", "float32", f"biases of {each.name}", axes=axes[:1]))
    return tuple(found)


def loop_line(config: Config, trial: int, row: Any, last: int, debug: bool = False) -> str:
    """Return the log's line of one loop; the reader of published logs depends on its form.

    With ``debug`` a damaged loop also names the silenced unit and its map.
    """
    from xfw_psa.data import SIZES

    images = SIZES[config.data].validation
    current, best = (100.0 * max(0, int(row[name])) / images for name in ("val_correct", "lkg_correct"))
    loop = int(row["epoch"])
    here = loop - (last - config.meta_loops)
    damaged = debug and int(row["ablated_layer"]) >= 0
    target = f" | Ablated: map {int(row['ablated_layer'])} unit {int(row['ablated_unit'])}" if damaged else ""
    return (
        f"trial {trial} | Loop {here}/{config.meta_loops} (Global: {loop}) | "
        f"Current: {current:.2f}% | LKG: {best:.2f}% | Bounty: {best:.2f}%{target}"
    )
