#!/usr/bin/env bash
# Guess: The cache of listings serves listings; reading a name asks the store.
# So: Every look at an object first asks the cached listing of its folder, which has no age limit,
#   and believes that what is not in it does not exist. All instances made with the same arguments
#   share the cache. `use_listings_cache=False`, or `refresh=True` on a listing, asks again.
# Hurt: Workers that wait for each other's results, claims or checkpoints in a bucket: they wait
#   for ever.
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

theirs.pipe_file("runs/a/one", b"1")
ours.ls("runs/a")
theirs.pipe_file("runs/a/two", b"2")
theirs.rm("runs/a/one")


def read(path):
    try:
        return ours.cat(path)
    except FileNotFoundError:
        return None


stale = read("runs/a/two"), ours.exists("runs/a/two"), ours.exists("runs/a/one")
ours.ls("runs/a", refresh=True)
fresh = read("runs/a/two"), ours.exists("runs/a/two"), ours.exists("runs/a/one")
server.stop()
print("guess:    two can be read, one is gone:", fresh)
print("seen:    ", stale, "before the listing is refreshed")
assert stale == (None, False, True)
assert fresh == (b"2", True, False)
PY
