"""Random texts of users: no traceback, no hang, no great memory.

``XFW_FUZZ=10000`` sets how many inputs are tried; without it a few hundred are. In process: keys are resolved and
filters are read as ``xfw run`` does, and the plan is left out.
"""

from __future__ import annotations

import os
import random
import resource
import string
import time
from pathlib import Path

import attrs
import pytest
import xfw
from xfw.config.keys import schema_of
from xfw.config.named import load_named_runs
from xfw.config.resolve import resolve
from xfw.plan.trials import kept_conditions, kept_trials, read_only
from xfw.testing.plugins import make_experiment

COUNT = int(os.environ.get("XFW_FUZZ", "400"))
SLOWEST = 1.0
"""Seconds of the processor that one input may take; judged where the number of inputs is asked for."""

MEMORY = 500 * 2**20
"""Bytes that all inputs together may add to what the process holds."""


def even(value: int) -> int:
    if value % 2:
        raise ValueError("expected an even number")
    return value


@attrs.frozen
class Inner:
    epochs: int = xfw.key(3, help="passes", ge=1, alias=("loops",))
    rates: list[float] = xfw.key([0.5], help="rates", ge=0, le=1)


@attrs.frozen
class Config:
    lr: float = xfw.key(1e-3, help="rate", gt=0)
    size: int = xfw.key(2, help="size", converter=even)
    name: str = xfw.key("one", help="name")
    mode: str = xfw.key("none", help="mode", choices=("none", "full"))
    flag: bool = xfw.key(False, help="flag")
    betas: tuple[float, float] = xfw.key((0.9, 0.999), help="moments")
    widths: tuple[int, ...] | None = xfw.key(None, help="widths", ge=1)
    grid: tuple[tuple[int, ...], ...] = xfw.key((), help="grid")
    inner: Inner = attrs.field(factory=Inner)


SMALL = make_experiment(Config, "small")
NUMBERS = (
    "0",
    "1",
    "-1",
    "1e3",
    "1e999999",
    "-1e-999999",
    "9" * 5000,
    "9223372036854775807",
    "nan",
    "inf",
    "1_0",
    "0x1",
)
PIECES = (*NUMBERS, "..", "...", ",", "=", "[", "]", "(", "{", '"', "'", "@", "~", "all", "none", "true", "/", "*", "%")
KEYS = (
    "lr",
    "size",
    "name",
    "mode",
    "flag",
    "betas",
    "widths",
    "grid",
    "inner.epochs",
    "inner.rates",
    "loops",
    "inner",
)


class Texts:
    """Random texts, more often than not nearly right ones."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.draw = random.Random(seed)
        self.folder = folder

    def noise(self) -> str:
        letters = string.printable + "\x00\x1b\x7f\x9b\u202eé\ud800\U0001f600"
        return "".join(self.draw.choices(letters, k=self.draw.choice((0, 1, 5, 40, 3000))))

    def value(self, depth: int = 0) -> str:
        choice = self.draw.randrange(9)
        if choice == 0:
            return self.noise()
        if choice == 1:
            return "..".join(self.draw.choices(NUMBERS, k=self.draw.randint(2, 4)))
        if choice == 2:
            return f"{self.draw.randint(-9, 9)}..{self.draw.choice((5, 99, 9999, 99999, 10**9, 10**40))}"
        if choice == 3 and depth < 3:
            return "[" + ",".join(self.value(depth + 1) for _ in range(self.draw.randint(0, 4))) + "]"
        if choice == 4:
            return self.draw.choice(("[", "{", "(", '"', ",", ".", "@", "..", "-", "1,")) * self.draw.choice(
                (3, 20_000)
            )
        if choice == 5:
            return f"@{self.file()}"
        if choice == 6 and depth < 3:
            return ",".join(self.value(3) for _ in range(self.draw.randint(2, 30)))
        return "".join(self.draw.choices(PIECES, k=self.draw.randint(1, 6)))

    def file(self) -> str:
        special = (
            "",
            ".",
            "nowhere",
            "~nobody/x",
            "/dev/zero",
            "/dev/null",
            "/proc/self/mem",
            "\x00",
            "pipe",
            "x" * 5000,
        )
        if self.draw.random() < 0.5:
            return self.draw.choice(special)
        path = self.folder / "points.txt"
        kind = self.draw.randrange(4)
        if kind == 0:
            path.write_bytes(self.draw.randbytes(2000))
        elif kind == 1:
            path.write_text("\ufeff" + "\n".join(map(str, range(self.draw.choice((3, 9000, 200_000))))))
        else:
            path.write_text("\n".join(self.value(3) for _ in range(9)), "utf-8", "surrogatepass")
        return path.name

    def assignment(self) -> str:
        key = self.draw.choice(KEYS) if self.draw.random() < 0.9 else self.noise()
        return f"{key}={self.value()}" if self.draw.random() < 0.95 else self.noise()

    def table(self) -> str:
        lines = ["[study]" if self.draw.random() < 0.9 else self.noise(), 'plugin = "small"']
        for _ in range(self.draw.randint(0, 3)):
            key = self.draw.choice(("overrides.lr", "sweep.size", "trials", "preset", "overrides", "help", "sweep.x.y"))
            lines.append(f"{key} = {self.toml()}")
        if self.draw.random() < 0.1:
            deep = self.draw.choice((40, 400, 5000))
            lines.append(
                self.draw.choice((f"overrides.{'.'.join('a' * deep)} = 1", f"sweep.size = {'[' * deep}{']' * deep}"))
            )
        return "\n".join(lines)

    def toml(self) -> str:
        text = self.value().replace("\\", "").replace('"', "")
        return self.draw.choice((f'"{text}"', text, "99999999999", "-1", "[1, 2, 3]", "{a = 1}", "1979-05-27", "inf"))


@attrs.frozen
class Case:
    """One input: the text of ``experiments.toml`` if there is one, those of ``-s``, and those of ``--only``."""

    table: str | None
    overrides: list[str]
    filters: list[str]

    @classmethod
    def drawn(cls, texts: Texts) -> Case:
        table = texts.table() if texts.draw.random() < 0.3 else None
        overrides = [texts.assignment() for _ in range(texts.draw.randint(0, 3))]
        filters = [texts.assignment() for _ in range(texts.draw.randint(0, 2))]
        return cls(table, overrides, filters + ([f"trial={texts.value()}"] if texts.draw.random() < 0.2 else []))


def used(case: Case, folder: Path) -> str:
    """Use an input as the command line does, and return the error that a user can act on, if there is one."""
    try:
        named = load_named_runs(folder, ["psa"]).get("study")
        resolved = resolve(SMALL, overrides=case.overrides, named=named, folder=folder)
        only = read_only(case.filters, schema_of(Config))
        kept_conditions(resolved.flat, only)
        kept_trials(min(resolved.trials, 1000), only)
    except xfw.UserError as error:
        return f"{error.exit_code} {error}"
    return ""


def memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_random_inputs_end_in_a_result_or_an_error_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    before = memory()
    slowest = (0.0, -1)
    for seed in range(COUNT):
        case = Case.drawn(Texts(seed, tmp_path))
        (tmp_path / "experiments.toml").write_text(case.table or "", "utf-8", "surrogatepass")
        began = time.process_time()
        try:
            error = used(case, tmp_path)
        except Exception as failure:
            raise AssertionError(f"input {seed}: {case}"[:2000]) from failure
        slowest = max(slowest, (time.process_time() - began, seed))
        assert not error or error.startswith("2 ")
        assert len(error) < 20_000
    assert memory() - before < MEMORY
    if "XFW_FUZZ" in os.environ:
        print(
            f"\n{COUNT} inputs, the slowest took {slowest[0]:.2f} s (input {slowest[1]}), "
            f"memory grew by {(memory() - before) / 2**20:.0f} MiB"
        )
        assert slowest[0] < SLOWEST
