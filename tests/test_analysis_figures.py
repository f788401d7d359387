"""Figures are byte for byte the same, in every format, and readable without colour."""

from __future__ import annotations

import io

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


def test_twelve_styles_differ_without_colour() -> None:
    assert len({(style.marker) for style in STYLES}) == 12
    assert len({(style.colour, str(style.dashes)) for style in STYLES}) == 12
