#!/usr/bin/env bash
# Guess: Structuring checks types: a text for a boolean and a fraction for an integer are refused,
#   or "false" is understood, as in other libraries of its kind.
# So: For the primitive types cattrs calls the type: `bool("false")` is True, `int(3.9)` is 3.
#   Only texts that the type itself cannot parse raise.
# Hurt: Experiment configurations from command lines, environment variables or YAML with quoted
#   values: `shuffle: "false"` shuffles, a batch size of 3.9 trains.
# Seen with: attrs 26.1.0, cattrs 26.2.1 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(attrs==26.1.0 cattrs==26.2.1)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import attrs
import cattrs


@attrs.frozen
class Training:
    shuffle: bool
    batch_size: int
    name: str
    widths: tuple[int, ...]


raw = {"shuffle": "false", "batch_size": 3.9, "name": None, "widths": "12"}
print("guess:    an error for each of", raw)
training = cattrs.structure(raw, Training)
print("seen:    ", training)
assert training == Training(shuffle=True, batch_size=3, name="None", widths=(1, 2))
PY
