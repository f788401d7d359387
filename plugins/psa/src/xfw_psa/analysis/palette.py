"""The colours and names that all figures of the study share."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "BLACK",
    "BROWN",
    "EFFECTS",
    "INSTABILITY",
    "MODE_COLOURS",
    "MODE_TITLES",
    "PARAMETERS",
    "PERFORMANCE",
    "REGIME_COLOURS",
    "REGIME_TITLES",
]

BROWN, BLACK = "#A1887F", "#212121"
RED, GREEN, BLUE = "#E53935", "#4CAF50", "#1565C0"
DEEP_GREEN, LIGHT_GREEN, YELLOW, ORANGE = "#1B5E20", "#7CB342", "#FFEB3B", "#FF8A65"
PURPLE, PINK, CYAN = "#651FFF", "#E040FB", "#00B0FF"

PERFORMANCE = (BLUE, GREEN)
INSTABILITY = (DEEP_GREEN, LIGHT_GREEN, YELLOW, ORANGE, RED)
PARAMETERS = ("#000000", "#FF0000", "#FF8000", "#FFFF00", "#00FF00", "#00FFFF")
"""Gradients, from the least to the greatest."""

EFFECTS: Mapping[str, str] = {"Beneficial": GREEN, "Harmful": RED, "Neutral": BROWN}

MODE_COLOURS: Mapping[str, str] = {
    "none": BROWN,
    "decay": PURPLE,
    "dropout": PINK,
    "full": ORANGE,
    "hidden": YELLOW,
    "output": CYAN,
}
MODE_TITLES: Mapping[str, str] = {
    "none": "Control (None)",
    "decay": "Weight Decay",
    "dropout": "Dropout",
    "full": "Full Ablation",
    "hidden": "Hidden Ablation",
    "output": "Output Ablation",
}

REGIME_COLOURS: Mapping[str, str] = {
    "beneficial-regularization": GREEN,
    "optimally-sized": RED,
    "chaotic-optimization": BLUE,
    "untrainable": BLACK,
    "unknown": BROWN,
}
REGIME_TITLES: Mapping[str, str] = {
    "beneficial-regularization": "I: Beneficial Regularization",
    "optimally-sized": "II: Optimally Sized",
    "chaotic-optimization": "III: Chaotic Optimization",
    "untrainable": "IV: Untrainable",
    "unknown": "Unknown",
}
