"""What a run stores, and the quantities that are derived from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from xfw import Array, Metric, Records, Stream, Variable

from xfw_psa.config import Config

if TYPE_CHECKING:
    from xfw.store.results import Results

__all__ = ["METRICS", "declare", "loop_line"]

EPOCH = Stream(
    "epoch",
    coordinate="epoch",
    first=1,
    variables=(
        Variable("epoch", "int64", "loop, counted over all runs of the network", "loops"),
        Variable("val_correct", "int64", "correct validation images of the trained copy", "images"),
        Variable("lkg_correct", "int64", "correct validation images of the best network", "images"),
        Variable("accepted", "bool", "the copy was strictly better and became the best network"),
        Variable("train_loss", "float32", "mean cross-entropy of the epoch", "nat"),
        Variable("ablated_layer", "int64", "silenced linear map in computing order, -1 for none"),
        Variable("ablated_unit", "int64", "silenced unit of that map, -1 for none"),
        Variable("wall_time", "float64", "time of the block's loop divided by its trials", "s"),
        Variable("finite", "bool", "all losses and validation outputs of the epoch were finite"),
    ),
)

ARRAYS = (
    Array("bounty_loop", "int64", "loop of the last improvement"),
    Array("test_correct", "int64", "correct test images of the best network", "images"),
    Array("loops_done", "int64", "loops of the network, over all runs", "loops"),
    Array("parameters", "int64", "parameters of the network"),
    Array("n_val", "int64", "validation images", "images"),
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


def loop_line(config: Config, trial: int, row: Any, last: int, *, debug: bool = False) -> str:
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


def _percent(counted: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Return percentages with NaN where a count or a number of images is missing (negative)."""
    whole = np.asarray(images, dtype=np.float64)
    whole = whole.reshape(whole.shape + (1,) * (np.ndim(counted) - 1))
    share = 100.0 * np.asarray(counted, dtype=np.float64) / np.where(whole > 0, whole, np.nan)
    return np.where(np.asarray(counted) >= 0, share, np.nan)


def _validation_images(results: Results) -> np.ndarray:
    return np.asarray([_sizes(name).validation for name in _data_names(results)])


def _sizes(name: str) -> Any:
    from xfw_psa.data import SIZES

    return SIZES[name]


def _data_names(results: Results) -> list[str]:
    swept = results.parameters.get("data")
    count = len(results.trial)
    return [str(each) for each in swept] if swept is not None else [str(results.config["data"])] * count


def _accuracy_series(variable: str) -> Any:
    def compute(results: Results) -> np.ndarray:
        counted = np.array(results.values("epoch", variable), dtype=np.int64)
        rows = np.arange(counted.shape[1])[None, :]
        counted = np.where(rows < np.asarray(results.count("epoch"))[:, None], counted, -1)
        return _percent(counted, _validation_images(results))

    return compute


def _peak(results: Results) -> np.ndarray:
    lkg = np.asarray(results.values("epoch", "lkg_correct"))
    last = np.asarray(results.count("epoch")) - 1
    best = np.where(last >= 0, lkg[np.arange(len(lkg)), np.maximum(last, 0)], -1)
    return _percent(best, _validation_images(results))


def _test_accuracy(results: Results) -> np.ndarray:
    images = np.asarray([_sizes(name).test for name in _data_names(results)])
    return _percent(np.asarray(results.array("test_correct")), images)


def _bounty_loop(results: Results) -> np.ndarray:
    loops = np.asarray(results.array("bounty_loop"), dtype=np.float64)
    return np.where(loops >= 1, loops, np.nan)


METRICS = (
    Metric("val_peak", "peak validation accuracy", "%", _peak),
    Metric("test_accuracy", "test accuracy of the best network", "%", _test_accuracy),
    Metric("bounty_loop", "loop of the last improvement", "loop", _bounty_loop),
    Metric("val_accuracy", "validation accuracy", "%", _accuracy_series("val_correct"), series="epoch"),
    Metric("lkg_accuracy", "best validation accuracy so far", "%", _accuracy_series("lkg_correct"), series="epoch"),
)
