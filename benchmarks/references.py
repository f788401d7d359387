"""The loops that the engine is compared with: same architecture, batch, optimizer and data, one trial at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from xfw.experiment import Dataset

LEARNING_RATE = 1e-4
BATCH = 256


def _step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    functional.cross_entropy(model(x), y).backward()
    optimizer.step()


def plain_loop(model: torch.nn.Module, data: Dataset, device: torch.device) -> Callable[[int], None]:
    """Return the loop a user would write: normalised floats in a ``TensorDataset`` behind a ``DataLoader``."""
    x, y = data.prepare(*data.tensors)  # type: ignore[misc]
    loader = DataLoader(TensorDataset(x, y), batch_size=BATCH, shuffle=True, pin_memory=device.type == "cuda")
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)

    def run(steps: int) -> None:
        done = 0
        while done < steps:
            for images, labels in loader:
                _step(model, optimizer, images.to(device), labels.to(device))
                done += 1
                if done == steps:
                    return

    return run


def preloaded_loop(model: torch.nn.Module, data: Dataset, device: torch.device) -> Callable[[int], None]:
    """Return a loop over bytes on the device, gathered and normalised by index, with fused AdamW."""
    images, labels = (tensor.to(device) for tensor in data.tensors)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    order = torch.randperm(len(data), device=device)
    batches = len(data) // BATCH

    def run(steps: int) -> None:
        for step in range(steps):
            index = order[(step % batches) * BATCH :][:BATCH]
            x, y = data.prepare(images[index], labels[index])  # type: ignore[misc]
            _step(model, optimizer, x, y)

    return run


def graph_loop(model: torch.nn.Module, data: Dataset, device: torch.device) -> Callable[[int], None]:
    """Return the preloaded step captured whole in one CUDA graph: gather, gradients and update."""
    images, labels = (tensor.to(device) for tensor in data.tensors)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True, capturable=True)
    order = torch.randperm(len(data), device=device)
    position = torch.zeros((), dtype=torch.int64, device=device)
    columns = torch.arange(BATCH, device=device)
    batches = len(data) // BATCH

    def step() -> None:
        index = order[(position % batches) * BATCH + columns]
        x, y = data.prepare(images[index], labels[index])  # type: ignore[misc]
        _step(model, optimizer, x, y)
        position.add_(1)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def run(steps: int) -> None:
        assert step is not None  # holds the tensors that the graph reads
        for _ in range(steps):
            graph.replay()

    return run
