"""The configuration of netfragments: every setting of the original under its own name (spec 4.2)."""

from __future__ import annotations

import attrs
import xfw

from xfw_netfragments import schedules
from xfw_netfragments.layer import Dynamics, Layer, Learning

__all__ = ["SETS", "Config"]

SETS = ("straight", "curved", "digits", "objects")
PUBLISHED_EPOCHS = 101


@attrs.frozen
class Data:
    """Images and numbers of draws; every epoch draws its lines anew."""

    size: int = xfw.key(32, ge=16, le=1024, help="height and width of the images of lines", unit="pixels")
    train: int = xfw.key(300, ge=1, le=1_000_000, help="lines of a training epoch", unit="images")
    validation: int = xfw.key(4, ge=1, le=100_000, help="lines of a validation pass, without learning", unit="images")
    test: int = xfw.key(60, ge=0, help="accepted for compatibility, has no effect", unit="images")
    lines: str = xfw.key("all", choices=("all", "four"), help="all lines through the centre, or four of them in turn")


@attrs.frozen
class S1:
    """Feature extraction."""

    filters: str = xfw.key("small", choices=("small", "large"), help="kernels of the four oriented features")
    activation: str = xfw.key(
        "threshold",
        choices=("threshold", "clip", "bernoulli"),
        converter=schedules.s1_activation,
        help="threshold: response > 0; clip: positive response; bernoulli: drawn with the response as probability",
    )


@attrs.frozen
class S2:
    """The lateral layer."""

    alternatives: int = xfw.key(10, ge=1, le=256, help="alternative cells of each feature (A)", unit="cells")
    timesteps: int = xfw.key(6, ge=1, le=1000, help="time steps of an image (T)", unit="steps")
    locality: int = xfw.key(5, ge=1, le=15, help="reach of the lateral connections (L)", unit="pixels")
    learning_rate: float = xfw.key(0.2, gt=0.0, help="learning rate (η)")
    negative_correlation: bool = xfw.key(True, help="disagreement of two cells counts against their connection")
    activation: str = xfw.key(
        "0.5", converter=schedules.threshold, help="threshold θ of firing in (0, 1], or bernoulli"
    )
    power: tuple[float, ...] = xfw.key((1.2, 1.4, 1.6, 1.8, 2.0, 2.2), gt=0.0, help="power factor γ of each time step")
    support_factor: float = xfw.key(1.3, gt=0.0, help="support beyond this times 2L+1 inhibits (ρ)")
    self_connection: bool = xfw.key(
        False, help="with one alternative only: cells start with a connection to themselves"
    )
    variant: str = xfw.key("2024", choices=("2024", "2023"), help="2023: the normalisation of the thesis")


@attrs.frozen
class S3:
    """The feedback layer of the larger original, a restricted Boltzmann machine."""

    enabled: bool = xfw.key(False, help="train the feedback layer, and let it act on S2 while S2 trains")
    hidden: int = xfw.key(16, ge=1, le=100_000, help="hidden units", unit="units")
    steps: int = xfw.key(1, ge=1, le=1000, help="Gibbs steps of a call (k)", unit="steps")
    learning_rate: float = xfw.key(0.05, gt=0.0, help="learning rate of Adam")
    first_epoch: int = xfw.key(11, ge=1, help="epoch (counted from 1) from which the feedback acts", unit="epochs")
    tolerance: float = xfw.key(0.1, gt=0.0, help="largest mean squared difference that replaces the output")


@attrs.frozen
class Train:
    """The course of training."""

    epochs: int = xfw.key(PUBLISHED_EPOCHS, ge=0, le=1_000_000, help="epochs of a trial's whole life", unit="epochs")
    batch_size: int = xfw.key(
        1, ge=1, le=1_000_000, help="images of a step; the order of images matters unless alternatives=1"
    )
    initial_validation: bool = xfw.key(True, help="a validation pass before the first epoch")
    start_epoch: int = xfw.key(
        0, ge=0, inherited=False, help="epochs that the weights of a file have behind them", unit="epochs"
    )


@attrs.frozen
class Store:
    """What is kept of training."""

    weights_at: tuple[int, ...] = xfw.key((), ge=0, help="epochs whose weights are stored besides the last")
    full_statistics: bool = xfw.key(False, help="statistics of inactive cells on training images too (slower)")


@attrs.frozen
class Plot:
    """Pictures while training goes on, in the run's report/live."""

    live: bool = xfw.key(False, help="draw validation images and weights after every epoch")
    last_only: bool = xfw.key(False, help="draw them after the last epoch only")


@attrs.frozen
class Evaluate:
    """The points of the evaluation: every θ and schedule at every noise and every line interrupt."""

    theta: tuple[str, ...] | None = xfw.key(
        None,
        converter=schedules.thresholds,
        help="thresholds in (0, 1], or bernoulli; by default the run's own (a fixed threshold is recommended)",
    )
    power: tuple[str, ...] | None = xfw.key(
        None, converter=schedules.powers, help='schedules such as "1.2+0.2t" or [1.2,1.4]; by default the run\'s own'
    )
    noise: tuple[float, ...] = xfw.key(
        (0.0, 0.05, 0.1, 0.2), ge=0.0, le=1.0, help="shares of features that are flipped"
    )
    line_interrupt: tuple[int, ...] = xfw.key((2, 4, 6), ge=0, help="removed pixels of a straight line", unit="pixels")
    full_product: bool = xfw.key(False, help="every noise with every line interrupt")
    grid: str = xfw.key("none", choices=("none", "published"), help="published: the 252 points of the paper")
    images: str = xfw.key("straight", choices=SETS, help="image set")
    samples: int = xfw.key(60, ge=1, le=100_000, help="images; digits and objects have 10 and 18", unit="images")
    repeats: int = xfw.key(1, ge=1, le=100_000, help="repeated draws of a bernoulli evaluation")
    noise_seed: int = xfw.key(1, ge=0, help="seed of noise and curved lines with random=published")
    baseline: str | None = xfw.key(
        None, inherited=False, help="RUN whose stored activity of the clean images is compared with; else computed"
    )
    store_activity: bool = xfw.key(False, help="store what the analyzer frames shows (large)")


@attrs.frozen
class Config:
    """What one condition of netfragments trains and evaluates."""

    model: str = xfw.key("s2", choices=("s2", "autoencoder"), help="the lateral layer, or the baseline")
    random: str = xfw.key(
        "keyed", choices=("keyed", "published"), help="published: the generators of the published results"
    )
    published_seed: int = xfw.key(1, ge=0, help="seed of the first trial with random=published")
    weights: str | None = xfw.key(
        None, inherited=False, help="file with the weights to start from (npz: co, ci, dy, dx, value, shape)"
    )
    kernel: str = xfw.key(
        "auto", choices=("auto", "numpy", "numba"), help="code of a CPU's steps; the numbers are the same"
    )
    data: Data = Data()
    s1: S1 = S1()
    s2: S2 = S2()
    s3: S3 = S3()
    train: Train = Train()
    store: Store = Store()
    plot: Plot = Plot()
    evaluate: Evaluate = Evaluate()

    @property
    def layer(self) -> Layer:
        """Return the shape of S2."""
        return Layer(self.s2.alternatives, self.s2.locality, self.s2.support_factor)

    @property
    def learning(self) -> Learning:
        """Return the rule of learning."""
        return Learning(self.s2.learning_rate, self.s2.negative_correlation)

    @property
    def dynamics(self) -> Dynamics:
        """Return the dynamics of training."""
        return Dynamics(schedules.theta_of(self.s2.activation), tuple(self.s2.power[: self.s2.timesteps]))

    @property
    def general(self) -> bool:
        """Return whether a step needs the support of all channels (feedback, or the form of 2023)."""
        return self.s3.enabled or self.s2.variant == "2023"
