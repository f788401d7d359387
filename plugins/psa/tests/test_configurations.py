"""The lists of networks: what they hold, how they are read, and the design behind them (specification, section 6)."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xfw import WrongInput
from xfw_psa.analysis import configurations
from xfw_psa.analysis.configurations import Shape

SHARED = Path(os.environ.get("XFW_DATA_DIR", "")) / "psa"

SERIES = [("1*W", 11), ("2*W", 10), ("4*W", 9), ("large squares", 6), ("small squares", 32)]
SERIES += [("L*4", 9), ("L*2", 10), ("L*1", 11)]


def test_the_published_list_has_the_series_of_the_design() -> None:
    shapes = configurations.published().shapes
    found = [(name, len(list(group))) for name, group in itertools.groupby(shapes, configurations.series)]
    assert found == SERIES


def test_narrow_series_mirror_the_wide_ones() -> None:
    shapes = configurations.published().shapes
    for wide, narrow in (((0, 11), (87, 98)), ((11, 21), (77, 87)), ((21, 30), (68, 77))):
        mirrored = [Shape(shape.width, shape.depth) for shape in shapes[slice(*wide)]]
        assert list(shapes[slice(*narrow)]) == mirrored


def test_asymmetric_networks_are_the_last_thirty() -> None:
    assert configurations.asymmetric() == frozenset(configurations.published().shapes[68:])


@pytest.mark.skipif(not SHARED.is_dir(), reason="XFW_DATA_DIR/psa with the original lists is not there")
def test_lists_equal_the_original_ones() -> None:
    assert configurations.listing(SHARED / "configurations.txt").shapes == configurations.published().shapes
    assert configurations.asymmetric(SHARED / "asymmetric.txt") == configurations.asymmetric()


@pytest.mark.parametrize(("family", "total"), [("resmlp", 36_590_550), ("simplemlp", 14_189_280)])
def test_parameters_of_the_whole_study(family: str, total: int) -> None:
    assert sum(configurations.parameters(s, "actual", family) for s in configurations.published().shapes) == total


def test_the_formula_of_the_published_tables_counts_the_plain_network() -> None:
    assert configurations.parameters(Shape(1, 2048), "plain-mlp", "resmlp") == 1_628_170
    assert configurations.parameters(Shape(1, 2048), "actual", "resmlp") == 10_020_874


def test_comments_and_blank_lines_are_left_out() -> None:
    found = configurations.parse("# wide\n\n 1 * 8 \n\t# deep\n8*1\n", "list")
    assert found.names == ("1*8", "8*1")


def test_a_network_that_stands_twice_is_kept_once_with_a_warning() -> None:
    found = configurations.parse("4*4\n2*2\n4*4\n", "nets.txt")
    assert found.names == ("4*4", "2*2")
    assert found.warnings == ("warning: nets.txt:3: 4*4 stands in line 1 too; it is kept once",)


@pytest.mark.parametrize("line", ["4x4", "4*4*4", "[4*4]", "0*4", "4*0", "-1*4", "4*", "a*b", "4*4 # no"])
def test_a_malformed_line_is_named_with_file_and_line(line: str) -> None:
    with pytest.raises(WrongInput) as caught:
        configurations.parse(f"# first\n4*4\n{line}\n", "nets.txt")
    assert f"nets.txt:3: found '{line}', expected DEPTH*WIDTH" in str(caught.value)
    assert caught.value.exit_code == 2


def test_every_malformed_line_is_reported() -> None:
    with pytest.raises(WrongInput) as caught:
        configurations.parse("a\n4*4\nb\n", "nets.txt")
    assert [problem.path for problem in caught.value.problems] == ["nets.txt:1", "nets.txt:3"]


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match=r"cannot read '.*none\.txt': No such file"):
        configurations.listing(tmp_path / "none.txt")


@pytest.mark.parametrize("name", ["18*12", "18x12", "[18*12]", " 18 * 12 "])
def test_names_of_networks_in_every_form(name: str) -> None:
    assert configurations.shape_of(name) == Shape(18, 12)


@pytest.mark.parametrize("name", ["[4*4,2*8]", "linear", "0x3", "18"])
def test_other_networks_have_no_shape(name: str) -> None:
    assert configurations.shape_of(name) is None


def plain(depth: int, width: int) -> int:
    """Count a plain network's parameters layer by layer."""
    sizes = [784, *[width] * depth, 10]
    return sum(outputs * (inputs + 1) for inputs, outputs in itertools.pairwise(sizes))


@given(st.integers(1, 300), st.integers(1, 600))
def test_the_matching_width_of_a_networks_own_count_is_its_width(depth: int, width: int) -> None:
    assert configurations.match_width(plain(depth, width), depth) == width


@pytest.mark.parametrize(("depth", "width"), [(2, 939), (115, 116)])
def test_matching_widths_for_the_widest_network(depth: int, width: int) -> None:
    found = configurations.match_width(1_628_170, depth)
    assert found == width
    differences = [abs(plain(depth, each) - 1_628_170) for each in (found - 1, found, found + 1)]
    assert min(differences) == differences[1]


def test_names_come_in_the_order_of_a_list_and_others_last() -> None:
    listed = configurations.published().shapes
    assert configurations.in_order(["9*9000", "1*2", "1*2048"], listed) == ["1*2048", "1*2", "9*9000"]
