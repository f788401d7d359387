#!/usr/bin/env bash
# Guess: An object store shows an object only after a complete upload, so an interrupted `with`
#   block leaves nothing; a transaction covers all writes.
# So: Leaving the block closes the file, for whatever reason, and closing completes the upload. In
#   a transaction only files from `open` wait for the end; `pipe_file`, `pipe` and `put` upload at
#   once.
# Hurt: Checkpoint writers that count on objects being whole: a full disk, Ctrl-C or an error
#   while a tensor is made into bytes leaves a short checkpoint under its final name.
# Seen with: aiobotocore 3.10.0, fsspec 2026.9.0, moto[server] 5.2.5, s3fs 2026.9.0 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(aiobotocore==3.10.0 fsspec==2026.9.0 moto[server]==5.2.5 s3fs==2026.9.0)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import logging
import os

from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

logging.disable(logging.WARNING)
os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="us-east-1")
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
ours = S3FileSystem(endpoint_url=f"http://{host}:{port}")
theirs = S3FileSystem(endpoint_url=f"http://{host}:{port}", use_listings_cache=False, skip_instance_cache=True)
ours.mkdir("runs")

try:
    with ours.open("runs/checkpoint", "wb") as file:
        file.write(b"first half")
        raise KeyboardInterrupt
except KeyboardInterrupt:
    pass
try:
    with ours.transaction:
        with ours.open("runs/opened", "wb") as file:
            file.write(b"opened")
        ours.pipe_file("runs/piped", b"piped")
        raise KeyboardInterrupt
except KeyboardInterrupt:
    pass
seen = {name: theirs.cat(f"runs/{name}") if theirs.exists(f"runs/{name}") else None for name in ("checkpoint", "opened", "piped")}
server.stop()
print("guess:    none of the three objects exists")
print("seen:    ", seen)
assert seen == {"checkpoint": b"first half", "opened": None, "piped": b"piped"}
PY
