"""List the points of the evaluation (spec 5): every θ and schedule, with every noise and every line interrupt."""

from __future__ import annotations

from attrs import frozen

from xfw_netfragments import schedules
from xfw_netfragments.config import Config
from xfw_netfragments.layer import Dynamics
from xfw_netfragments.presets import GRID

__all__ = ["Corruption", "Setting", "Slot", "cells", "corruptions", "sample_count", "settings", "slots"]

FIXED_SETS = {"digits": 10, "objects": 18}


@frozen
class Setting:
    """How S2 runs in an evaluation: threshold and power schedule; the autoencoder has neither."""

    theta: str
    power: str
    timesteps: int

    @property
    def dynamics(self) -> Dynamics:
        """Return the dynamics."""
        return Dynamics(schedules.theta_of(self.theta), schedules.power_of(self.power, self.timesteps))

    @property
    def name(self) -> str:
        """Return the setting in words."""
        return f"θ = {self.theta}, γ = {self.power}, T = {self.timesteps}" if self.theta else "autoencoder"


@frozen
class Slot:
    """One run of a setting over the images; repeats differ in their draws."""

    setting: int
    repeat: int


@frozen
class Corruption:
    """Feature noise n and line interrupt ℓ."""

    noise: float
    interrupt: int


def settings(config: Config) -> list[Setting]:
    """Return every θ with every schedule; the run's own where none is given."""
    timesteps = config.s2.timesteps
    if config.model == "autoencoder":
        return [Setting("", "", 1)]
    thetas, powers = config.evaluate.theta, config.evaluate.power
    if config.evaluate.grid == "published":
        thetas, powers = GRID["evaluate.theta"], GRID["evaluate.power"]
    thetas = thetas or (config.s2.activation,)
    powers = powers or (schedules.schedule_text(config.dynamics.power),)
    return [Setting(theta, power, timesteps) for theta in thetas for power in powers]


def slots(config: Config) -> list[Slot]:
    """Return the runs of all settings; one repeat where nothing is drawn."""
    drawn = config.s1.activation == schedules.BERNOULLI
    return [
        Slot(number, repeat)
        for number, setting in enumerate(settings(config))
        for repeat in range(config.evaluate.repeats if drawn or setting.theta == schedules.BERNOULLI else 1)
    ]


def corruptions(config: Config) -> list[Corruption]:
    """Return every n at ℓ = 0, then every ℓ > 0 at n = 0 (or at every n)."""
    evaluate = config.evaluate
    noises, interrupts = evaluate.noise, evaluate.line_interrupt
    if evaluate.grid == "published":
        noises, interrupts = GRID["evaluate.noise"], GRID["evaluate.line_interrupt"]
    holes = tuple(length for length in interrupts if length > 0) if evaluate.images == "straight" else ()
    found = [Corruption(noise, 0) for noise in noises]
    found += [Corruption(noise, hole) for hole in holes for noise in (noises if evaluate.full_product else (0.0,))]
    return list(dict.fromkeys(found))


def cells(config: Config) -> int:
    """Return the number of cells of the stage: the baselines, then one for each corruption."""
    return 1 + len(corruptions(config))


def sample_count(config: Config) -> int:
    """Return the number of images."""
    asked = config.evaluate.samples
    return min(asked, FIXED_SETS.get(config.evaluate.images, asked))
