"""``--only`` and the random keys of trials."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import xfw
from xfw.config.keys import schema_of
from xfw.config.structure import flatten, unstructure
from xfw.plan.trials import Only, kept_conditions, kept_trials, members_of, read_only
from xfw.seeds import trial_key


@attrs.frozen
class Config:
    lr: float = xfw.key(1e-3, help="rate", gt=0)
    mode: str = xfw.key("none", help="mode", choices=("none", "full", "output"))
    arch: str = xfw.key("1*8", help="network", converter=lambda text: text.strip("[]"))
    widths: tuple[int, ...] | None = xfw.key(None, help="widths")


def only(*texts: str) -> Only:
    return read_only(texts, schema_of(Config))


@pytest.mark.parametrize(
    ("texts", "values", "trials"),
    [
        ([], {}, None),
        (["trial=7"], {}, (7,)),
        (["trial=0..3,7"], {}, (0, 1, 2, 3, 7)),
        (["mode=none,full"], {"mode": ("none", "full")}, None),
        (["mode=none,full,trial=1"], {"mode": ("none", "full")}, (1,)),
        (["mode=none", "lr=1"], {"mode": ("none",), "lr": (1.0,)}, None),
        (["mode=none", "mode=full"], {"mode": ("none", "full")}, None),
        (["arch=[2*2]"], {"arch": ("2*2",)}, None),
        (["widths=[1,2],lr=1"], {"widths": ((1, 2),), "lr": (1.0,)}, None),
    ],
)
def test_filters_are_read(texts: list[str], values: dict[str, Any], trials: tuple[int, ...] | None) -> None:
    assert only(*texts) == Only(values, trials)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("mod=none", "--only mod: unknown key\n    did you mean 'mode'?"),
        ("mode=ful", "--only mode: found 'ful', expected one of"),
        ("trial=-1", "--only trial: found -1, expected a whole number >= 0"),
        ("7", "--only: found '7', expected KEY=VALUE"),
    ],
)
def test_wrong_filters_are_named(text: str, part: str) -> None:
    with pytest.raises(xfw.WrongInput) as error:
        only(text)
    assert part in str(error.value)


FULL = '"full"'
CONFIGS = [flatten(unstructure(Config(lr=lr, mode=mode))) for mode in ("none", "full") for lr in (0.1, 0.2)]


def test_conditions_that_match_every_filter_are_kept() -> None:
    assert kept_conditions(CONFIGS, only("mode=full", "lr=0.1,0.3")) == [2]
    assert kept_conditions(CONFIGS, Only()) == [0, 1, 2, 3]


def test_lists_are_compared_as_values() -> None:
    configs = [flatten(unstructure(Config(widths=widths))) for widths in ((1, 2), (2, 1), None)]
    assert kept_conditions(configs, only("widths=[2,1]")) == [1]


def test_a_filter_that_keeps_nothing_is_refused_with_what_there_is() -> None:
    with pytest.raises(xfw.UserError, match="--only mode=output keeps no condition") as error:
        kept_conditions(CONFIGS, only("mode=output"))
    assert "it has mode: none, full" in str(error.value)


def test_a_trial_beyond_the_plan_is_refused_with_the_option_that_adds_it() -> None:
    with pytest.raises(xfw.UserError, match=r"(?s)--only trial=12: the plan has 10 trials.*--trials 13"):
        kept_trials(10, only("trial=3,12"))


def test_trials_are_kept_in_order_and_once() -> None:
    assert kept_trials(10, only("trial=7,1,7")) == [1, 7]


def test_equal_trials_of_all_conditions_share_their_key_by_default() -> None:
    members = [members_of(index, config, range(3), 5, ()) for index, config in enumerate(CONFIGS)]
    keys = [[member.key for member in each] for each in members]
    assert keys[0] == keys[1] == keys[2] == keys[3]
    assert len(set(keys[0])) == 3


def test_independent_keys_enter_as_canonical_json_and_not_by_number() -> None:
    member = members_of(3, CONFIGS[3], [7], 5, ["lr", "mode"])[0]
    assert (member.condition, member.trial) == (3, 7)
    assert member.key == f"{trial_key(5, 7, {'lr': '0.2', 'mode': FULL}):016x}"


def test_a_key_that_is_none_enters_as_null() -> None:
    member = members_of(0, CONFIGS[0], [0], 5, ["widths"])[0]
    assert member.key == f"{trial_key(5, 0, {'widths': 'null'}):016x}"


def test_keys_do_not_depend_on_how_many_trials_there_are() -> None:
    assert members_of(0, CONFIGS[0], range(10), 5, ())[7] == members_of(0, CONFIGS[0], [7], 5, ())[0]
