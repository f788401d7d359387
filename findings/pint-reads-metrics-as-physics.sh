#!/usr/bin/env bash
# Guess: A unit that pint does not know raises, so what it accepts is what was meant; nats are a
#   unit of information beside bits.
# So: Every prefix goes with every unit and every abbreviation: nano-technical-atmosphere,
#   atto-cubic-centimetre, centi-elementary-charge, micro-nit.
# Hurt: Result files with unit attributes that are opened with pint-xarray or converted: cross
#   entropies in nats turn into pascals, and a conversion to base units scales them by 1e-4.
# Seen with: pint 0.25.3 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(pint==0.25.3)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import pint

registry = pint.UnitRegistry()
expected = {"nat": "[mass] / [length] / [time] ** 2", "acc": "[length] ** 3", "ce": "[current] * [time]", "units": "[luminosity] / [length] ** 2"}
print("guess:    nat is a unit of information; acc, ce and units are unknown")
for name, dimensions in expected.items():
    quantity = registry.Quantity(2.3, name)
    print("seen:    ", f"2.3 {name} =", quantity.to_base_units(), "", quantity.dimensionality)
    assert str(quantity.dimensionality) == dimensions
assert registry.Unit("bit").dimensionless
unknown = []
for name in ("epochs", "images", "loss"):
    try:
        registry.Unit(name)
    except pint.UndefinedUnitError:
        unknown.append(name)
print("seen:     unknown:", unknown)
assert unknown == ["epochs", "images", "loss"]
PY
