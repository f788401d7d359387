"""Figures are byte for byte the same, in every format, and readable without colour."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys

import matplotlib as mpl
import pytest
from xfw.analysis import figures
from xfw.analysis.figures import FORMATS, STYLES


def picture() -> mpl.figure.Figure:
    with figures.styled():
        figure, axes = figures.new_figure(3, 2)
        axes.plot([0, 1, 2], [0, 1, 4], label="λ = 0.1")
        axes.fill_between([0, 1, 2], [0, 0, 3], [1, 2, 5], alpha=0.2)
        axes.set_title("a title")
        axes.legend()
    return figure


@pytest.mark.parametrize("form", FORMATS)
def test_two_renderings_are_equal_byte_for_byte(form: str) -> None:
    assert figures.render(picture(), form) == figures.render(picture(), form)


@pytest.mark.parametrize("form", FORMATS)
def test_users_own_settings_do_not_matter(form: str) -> None:
    plain = figures.render(picture(), form)
    with mpl.rc_context({"lines.linewidth": 9, "font.size": 20, "svg.hashsalt": None, "savefig.dpi": 30}):
        assert figures.render(picture(), form) == plain


@pytest.mark.parametrize("form", FORMATS)
def test_files_hold_no_date(form: str) -> None:
    content = figures.render(picture(), form)
    assert b"CreationDate" not in content
    assert b"<dc:date>" not in content


def test_settings_are_left_as_they_were() -> None:
    before = dict(mpl.rcParams)
    figures.render(picture(), "png")
    assert dict(mpl.rcParams) == before


def test_png_has_the_size_that_was_asked_for() -> None:
    from PIL import Image

    image = Image.open(io.BytesIO(figures.render(picture(), "png")))
    assert image.size == (600, 400)


def test_a_figure_may_ask_for_another_resolution() -> None:
    from PIL import Image

    figure, _ = figures.new_figure(3, 2, dpi=300)
    image = Image.open(io.BytesIO(figures.render(figure, "png")))
    assert image.size == (900, 600)
    assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def lightness(colour: str) -> float:
    """Return the lightness L* of a colour (CIE 1976), what a grey print shows of it."""
    channels = [((c + 0.055) / 1.055) ** 2.4 if c > 0.04045 else c / 12.92 for c in mpl.colors.to_rgb(colour)]
    luminance = sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), channels, strict=True))
    return 116 * luminance ** (1 / 3) - 16


def test_styles_differ_without_colour_and_are_dark_enough() -> None:
    assert len({style.marker for style in STYLES}) == len(STYLES)
    assert max(lightness(style.colour) for style in STYLES) < 75
    assert len(set(map(str, figures.DASHES))) == len(figures.DASHES)


def test_an_order_of_many_goes_from_dark_to_light() -> None:
    ramp = [lightness(style.colour) for style in figures.styles(30)]
    assert ramp == sorted(ramp)
    assert min(after - before for before, after in itertools.pairwise(ramp)) > 0


DRAW = """
from xfw.analysis import figures
with figures.styled():
    figure, axes = figures.new_figure(2, 2)
    axes.plot([1, 2], [3, 4])
print(*(len(figures.render(figure, form)) > 500 for form in figures.FORMATS))
"""


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense", "TkAgg", ""])
def test_figures_need_no_backend(backend: str) -> None:
    environment = {**os.environ, "MPLBACKEND": backend}
    done = subprocess.run([sys.executable, "-c", DRAW], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.split() == ["True"] * 3, done.stderr
