#!/usr/bin/env bash
# Guess: `validation = duckdb.sql("... USING SAMPLE 5")` is one sample of five rows, and what is
#   left after excluding it is the training set.
# So: A relation is a query, not a result; since version 2 it keeps no result between calls, so
#   each `fetchall`, and each other query that names it, draws anew. A `REPEATABLE` seed or a
#   table fixes the sample.
# Hurt: Splits and bootstraps made in SQL: most of the validation rows are also training rows,
#   without a sign of it.
# Seen with: duckdb 2.0.1 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(duckdb==2.0.1)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import duckdb

duckdb.sql("CREATE TABLE examples AS SELECT range AS i FROM range(1000)")
validation = duckdb.sql("SELECT i FROM examples USING SAMPLE 500")
training = duckdb.sql("SELECT i FROM examples WHERE i NOT IN (SELECT i FROM validation)")
first, again = ({i for (i,) in validation.fetchall()} for _ in range(2))
rest = {i for (i,) in training.fetchall()}
fixed = duckdb.sql("SELECT i FROM examples USING SAMPLE reservoir(500 ROWS) REPEATABLE (1)")
print("guess:    the sample does not change, and shares no row with the rest")
print("seen:     two readings of 500 rows share", len(first & again), "; validation and training share", len(first & rest), "of 500")
assert len(first) == len(again) == len(rest) == 500
assert 150 < len(first & again) < 350
assert 150 < len(first & rest) < 350
assert fixed.fetchall() == fixed.fetchall()
PY
