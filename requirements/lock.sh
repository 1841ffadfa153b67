#!/bin/sh
# Writes the hash-locked requirement files from pyproject.toml, for Python 3.11 to 3.13 at once: `make lock`.
set -eu
cd "$(dirname "$0")/.."
lock() { # lock NAME SOURCE ARGS...
  out=requirements/$1.txt
  shift
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header "$@" -o "$out"
  echo "wrote $out"
}
lock dev pyproject.toml --extra dev
# The others are cut from the first, so that what is tested is what is shipped.
lock operator pyproject.toml --extra operator --constraint requirements/dev.txt
lock server pyproject.toml --extra inference --constraint requirements/dev.txt
lock inference pyproject.toml --extra inference --extra tensorflow --constraint requirements/dev.txt
lock inference-gpu pyproject.toml --extra inference --extra tensorflow-gpu --constraint requirements/inference.txt
# What `make bench` compares with, each by itself: their dependencies contradict each other, and ours need not agree with theirs.
for name in bench bench-fastapi bench-mosec bench-mlserver bench-kserve bench-bentoml bench-litserve bench-ray; do lock $name requirements/$name.in; done
uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
  benchmarks/locust/requirements.in --constraint requirements/bench.txt -o benchmarks/locust/requirements.txt
# The schemas that our manifests are compared with.
uv pip compile --quiet --universal --no-deps --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
  tests/e2e/tools/requirements.in -o tests/e2e/tools/requirements.txt
# Clients that others wrote, for the tests of the protocol they speak.
lock oip-clients requirements/oip-clients.in
# What makes a site of the documents.
lock docs requirements/docs.in
# What builds: the installer of the environments and the builder of the wheel.
lock uv requirements/uv.in
lock build requirements/build.in --constraint requirements/dev.txt
