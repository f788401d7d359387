"""The ratchet, for all trials of a block at once: damage a copy of the best network, train it, keep it if better.

Axes: ``_T`` trial. The best network so far ("last known good") is the block's snapshot ``lkg``; its score
is a number of correct validation images, an integer, so "strictly better" has no rounding problem.
Nothing here waits for the device: damage is drawn on the host, and acceptance is a mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from xfw import UserError

from xfw_psa import ablation, weights
from xfw_psa.config import ABLATIVE

if TYPE_CHECKING:
    from xfw.engine.block import Block
    from xfw.store.results import TrialSource

__all__ = ["damage", "finish", "select", "start", "targets"]

LKG = "lkg"
UNKNOWN = -1
"""The score of a network that was never evaluated: every score is better."""


def start(block: Block, source: Sequence[TrialSource] | None) -> None:
    """Begin from fresh networks (not evaluated, so loop 1 is accepted), from another run or from a file."""
    block.values["lkg_correct"] = _integers(block, UNKNOWN)
    block.values["bounty_loop"] = _integers(block, 0)
    block.snapshot(LKG)
    if source is not None:
        _start_from_run(block, source)
    elif block.configs[0].init_from is not None:
        _start_from_file(block)


def _start_from_run(block: Block, source: Sequence[TrialSource]) -> None:
    if any(config.init_from is not None for config in block.configs):
        raise UserError("init_from and --from both name the networks to start from", hint="give one", exit_code=2)
    done = {int(each.arrays["loops_done"]) for each in source}
    if len(done) > 1:
        raise UserError(
            f"--from {source[0].run}: its trials have different numbers of loops: {sorted(done)}", exit_code=2
        )
    for lane, each in enumerate(source):
        block.load_snapshot(LKG, lane, weights.stored(each, block.configs[lane]))
    stored = [int(each.last("epoch")["lkg_correct"]) for each in source]
    _score_loaded(block, done.pop(), [int(each.arrays["bounty_loop"]) for each in source])
    measured = block.values["lkg_correct"].tolist()
    if measured != stored:
        block.warn(f"stored best scores {stored} are now measured as {measured}")


def _start_from_file(block: Block) -> None:
    config = block.configs[0]
    weights.check_unchanged(config)
    loaded = weights.read(config.init_from, config)
    for lane in range(block.size):
        block.load_snapshot(LKG, lane, loaded.parameters)
    _score_loaded(block, loaded.loops_done, [loaded.bounty_loop] * block.size)


def _score_loaded(block: Block, loops_done: int, bounty_loops: Sequence[int]) -> None:
    block.first_epoch = loops_done
    block.values["bounty_loop"] = torch.tensor(bounty_loops, dtype=torch.int64, device=block.device)
    block.restore(LKG)
    block.values["lkg_correct"] = _correct(block, "validation")


def damage(block: Block) -> None:
    """Take a copy of the best network with fresh optimizer state, and silence one neuron of it."""
    block.restore(LKG)
    block.reset_optimizer()
    drawn = targets(block)
    entries = []
    for lane, target in enumerate(drawn):
        if target is not None:
            entries += [(lane, name, index) for name, index in ablation.zeroed(target, block.configs[lane].maps)]
    block.assign(entries)
    for name, field in (("ablated_layer", "layer"), ("ablated_unit", "unit")):
        numbers = [-1 if target is None else getattr(target, field) for target in drawn]
        block.values[name] = block.tensor(numbers)


def targets(block: Block) -> list[ablation.Target | None]:
    """Return the neuron that this loop silences in each trial; the very first loop of a network has none."""
    loop = _loop(block)
    return [_target(block, lane, loop) for lane in range(block.size)]


def _target(block: Block, lane: int, loop: int) -> ablation.Target | None:
    config = block.configs[lane]
    spared = config.resume_undamaged and block.epoch == 0
    if loop == 1 or spared or config.mode not in ABLATIVE:
        return None
    return ablation.draw(config, config.maps, block.generator(lane, "ablation", loop))


def select(block: Block, metrics: Mapping[str, torch.Tensor]) -> None:
    """Keep each trial's trained copy if it is strictly better than its best network, and record the loop."""
    measured = block.evaluate("validation")
    correct_T = measured["correct"].to(torch.int64)
    block.finite = block.finite & (measured["broken"] == 0)
    lkg_T = block.values["lkg_correct"]
    accepted_T = (correct_T > lkg_T) & block.finite
    block.snapshot(LKG, where=accepted_T)
    block.values["lkg_correct"] = torch.where(accepted_T, correct_T, lkg_T)
    loop_T = torch.full_like(lkg_T, _loop(block))
    block.values["bounty_loop"] = torch.where(accepted_T, loop_T, block.values["bounty_loop"])
    block.record(
        "epoch",
        epoch=loop_T,
        val_correct=correct_T,
        lkg_correct=block.values["lkg_correct"],
        accepted=accepted_T,
        train_loss=metrics["loss"],
        ablated_layer=block.values["ablated_layer"],
        ablated_unit=block.values["ablated_unit"],
        finite=block.finite,
    )


def finish(block: Block) -> None:
    """Evaluate the best networks on the test set, once, and store what a trial has at its end."""
    block.restore(LKG)
    block.array("test_correct", _correct(block, "test"))
    block.array("bounty_loop", block.values["bounty_loop"])
    block.array("loops_done", _integers(block, block.first_epoch + block.epochs))
    parameters = sum(each.parameters for each in block.configs[0].maps)
    block.array("parameters", _integers(block, parameters))
    labels_N = block.data["validation"].tensors[1]
    block.array("n_val", _integers(block, len(labels_N)))
    majority = 100.0 * torch.bincount(labels_N.cpu()).max().double() / len(labels_N)
    block.array("z_val", majority.expand(block.size))
    if _keeps_weights(block):
        for name, values in block.parameters.items():
            block.array(f"{LKG}/{name}", values)


def _keeps_weights(block: Block) -> bool:
    """Return whether run.h5 gets the block's best networks: if any trial asks for it.

    Float64 runs keep by default the exact ones in state.h5 only.
    """
    asked = {config.keep_weights for config in block.configs}
    if True not in asked:
        return bool(None in asked and block.conditions == 1 and block.dtype == torch.float32)
    if block.dtype != torch.float32:
        block.warn("keep_weights: run.h5 holds the best networks rounded to float32")
    return True


def _correct(block: Block, dataset: str) -> torch.Tensor:
    correct_T: torch.Tensor = block.evaluate(dataset)["correct"]
    return correct_T.to(torch.int64)


def _loop(block: Block) -> int:
    return int(block.first_epoch + block.epoch + 1)


def _integers(block: Block, value: int) -> torch.Tensor:
    return torch.full((block.size,), value, dtype=torch.int64, device=block.device)
