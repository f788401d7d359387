"""The one error that users see: what is wrong, where, what was found and expected, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import attrs

__all__ = ["Problem", "UserError", "WrongInput", "did_you_mean", "nearest", "shortened"]


MOST = 20
"""Problems of one input that are shown; further ones are counted."""


class UserError(Exception):
    """Report a failure a user can act on; printed without a traceback unless ``--debug``.

    ``exit_code`` follows design section 9: 1 for work that failed, 2 for wrong usage or input.
    """

    exit_code = 1

    def __init__(self, what: str, *, hint: str = "", exit_code: int | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        if exit_code is not None:
            self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.what}\n  {self.hint}" if self.hint else self.what


@attrs.frozen
class Problem:
    """One wrong value of a configuration or a file: where it is, what was found, what was expected.

    A problem of level ``"warning"`` is shown and stops nothing.
    """

    path: str
    message: str
    hint: str = ""
    level: str = attrs.field(default="error", validator=attrs.validators.in_(("error", "warning")))

    def __str__(self) -> str:
        text = f"{self.path}: {self.message}"
        if self.level == "warning":
            text = f"warning: {text}"
        return f"{text}\n    {self.hint}" if self.hint else text


class WrongInput(UserError):  # noqa: N818
    """Collect every problem of an input and report them together, one line each."""

    exit_code = 2

    def __init__(self, what: str, problems: Sequence[Problem] = (), *, hint: str = "") -> None:
        lines = [what, *(f"  {problem}" for problem in problems[:MOST])]
        if len(problems) > MOST:
            lines.append(f"  and {len(problems) - MOST:,} more")
        super().__init__("\n".join(lines), hint=hint)
        self.problems = tuple(problems)


def nearest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """Return up to ``count`` of ``names`` that are close to ``name``, best first."""
    known = sorted(set(names))
    by_lower = {known_name.lower(): known_name for known_name in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=count, cutoff=0.6)
    return [by_lower[match] for match in found]


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` or, where nothing is close, the list of known names."""
    known = sorted(set(names))
    close = nearest(name, known, count=1)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known: {', '.join(known)}" if known else "none is known"


def shortened(text: str, most: int = 120) -> str:
    """Return a text for a message: of one that is too long, its beginning and its length."""
    return text if len(text) <= most else f"{text[: most - 40]}… ({len(text):,} characters)"
