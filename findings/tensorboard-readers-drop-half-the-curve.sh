#!/usr/bin/env bash
# Guess: `Scalars("loss")` returns what `add_scalar` wrote; thinning happens in the browser, if at
#   all.
# So: The reader samples each tag into a reservoir of 10,000 points while loading, spread evenly
#   over the run. `size_guidance={"scalars": 0}` keeps all.
# Hurt: Scripts that export curves for papers: minima, first values, sums and moving averages are
#   those of a random half.
# Seen with: numpy 2.4.6, tensorboard 2.21.0 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(numpy==2.4.6 tensorboard==2.21.0)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import logging

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

logging.disable(logging.WARNING)
writer = EventFileWriter("log")
for step in range(20_000):
    writer.add_event(Event(step=step, wall_time=step, summary=Summary(value=[Summary.Value(tag="loss", simple_value=step)])))
writer.close()


def steps(**options):
    reader = EventAccumulator("log", **options)
    reader.Reload()
    return [point.step for point in reader.Scalars("loss")]


kept, everything = steps(), steps(size_guidance={"scalars": 0})
print("guess:    20,000 points, from step 0 on")
print("seen:    ", len(kept), "points, beginning", kept[:6], "; with size_guidance 0:", len(everything))
assert len(kept) == len(set(kept)) == 10_000
assert kept == sorted(kept)
assert kept != everything[::2]
assert everything == list(range(20_000))
PY
