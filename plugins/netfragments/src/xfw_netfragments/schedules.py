"""Read thresholds and power schedules, and write them in one form."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = [
    "BERNOULLI",
    "linear",
    "power_of",
    "powers",
    "s1_activation",
    "schedule_text",
    "theta_of",
    "threshold",
    "thresholds",
]

BERNOULLI = "bernoulli"
NUMBER = r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?"
LINEAR = re.compile(rf"\s*({NUMBER})\s*([-+]\s*{NUMBER})\s*\*?\s*t\s*")
DECIMALS = 3


def s1_activation(text: str) -> str:
    """Return the name of an S1 activation; raise ``ValueError`` for the original's name of ``clip``."""
    if text.strip().lower() == "none":
        raise ValueError("the original calls it None; here it is clip: s1.activation=clip")
    return text.strip()


def threshold(text: str) -> str:
    """Return a threshold in one form; raise ``ValueError`` where it is none."""
    text = text.strip()
    if text == BERNOULLI:
        return text
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value <= 1.0:
        raise ValueError("expected a number in (0, 1] or 'bernoulli'")
    return f"{value:.10g}"


def theta_of(text: str) -> float | None:
    """Return a threshold as a number; None for Bernoulli cells."""
    return None if text == BERNOULLI else float(text)


def thresholds(texts: Sequence[str]) -> tuple[str, ...]:
    """Return a list of thresholds in one form."""
    return tuple(threshold(text) for text in texts)


def powers(texts: Sequence[str]) -> tuple[str, ...]:
    """Return a list of schedules in one form; numbers alone are one schedule."""
    if texts and all(re.fullmatch(rf"\s*{NUMBER}\s*", text) for text in texts):
        return (schedule_text([_positive(text) for text in texts]),)
    return tuple(_schedule(text) for text in texts)


def _schedule(text: str) -> str:
    if match := LINEAR.fullmatch(text):
        start, step = float(match[1]), float(match[2].replace(" ", ""))
        if start <= 0:
            raise ValueError(f"'{text}': power factors must be greater than 0")
        return f"{start:g}{step:+g}t"
    inner = text.strip().removeprefix("[").removesuffix("]").split(",")
    return schedule_text([_positive(part) for part in inner])


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"'{text.strip()}': expected a schedule such as 1.2+0.2t or [1.2,1.4,1.6]") from None
    if not value > 0:
        raise ValueError(f"'{text.strip()}': power factors must be greater than 0")
    return value


def schedule_text(power: Sequence[float]) -> str:
    """Return numbers as the text of a schedule."""
    return "[" + ",".join(f"{value:.10g}" for value in power) + "]"


def power_of(text: str, timesteps: int) -> tuple[float, ...]:
    """Return the power factors of a schedule; fewer than ``timesteps`` where it is a shorter list."""
    if match := LINEAR.fullmatch(text):
        start, step = float(match[1]), float(match[2].replace(" ", ""))
        # Decimal steps such as 1.2 + 0.2·3 are meant exactly: 1.8, not 1.7999999999999998.
        return tuple(round(start + step * t, 10) for t in range(timesteps))
    return tuple(float(part) for part in text.strip("[]").split(","))[:timesteps]


def linear(power: Sequence[float]) -> tuple[float, float] | None:
    """Return first value and step of a schedule; None where it is not a + b·t to 3 decimals."""
    if len(power) == 1:
        return power[0], 0.0
    step = power[1] - power[0]
    fits = all(abs(value - power[0] - step * t) < 0.5 * 10**-DECIMALS for t, value in enumerate(power))
    return (power[0], round(step, 10)) if fits else None
