#!/bin/sh
# Writes the hash-locked requirement files from pyproject.toml, for Python 3.11 to 3.13 at once: `make lock`.
set -eu
cd "$(dirname "$0")/.."
lock() { # lock FILE ARGS...
  out=requirements/$1.txt; shift
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header "$@" pyproject.toml -o "$out"
  echo "wrote $out"
}
lock dev --extra dev
# The others are cut from the first, so that what is tested is what is shipped.
lock operator --extra operator --constraint requirements/dev.txt
lock server --extra inference --constraint requirements/dev.txt
lock inference --extra inference --extra tensorflow --constraint requirements/dev.txt
