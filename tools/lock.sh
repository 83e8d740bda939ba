#!/usr/bin/env bash
# Writes requirements/*.txt: for each extra of pyproject.toml the exact versions of all that it needs, with the hashes of every
# file of these releases: for each system, architecture and Python. `make lock` runs this, with .venv's uv.
#
# Versions that will do are kept; `make lock ARGS=--upgrade` takes the newest. What goes into .venv has the versions of dev.txt, so
# that no extra takes away what another has installed; what has an environment of its own is resolved by itself. No file names an
# index: pip's own configuration does.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
UV=${VENV:-.venv}/bin/uv

# lock FILE PYTHON ARGUMENTS...: for that Python and all newer ones
lock() {
  local file=requirements/$1.txt python=$2
  shift 2
  printf 'lock: %s\n' "$file" >&2
  # shellcheck disable=SC2086     # a list of words on purpose
  "$UV" pip compile --quiet --universal --no-python-downloads --python-version "$python" --generate-hashes --no-annotate \
    --custom-compile-command 'make lock' ${ARGS:-} -o "$file" "$@" > /dev/null
}

lowest=$(sed -n 's/^requires-python = ">=\(.*\)"$/\1/p' pyproject.toml)
lock dev "$lowest" pyproject.toml --extra dev
lock build "$lowest" requirements/build.in -c requirements/dev.txt
lock demo "$lowest" pyproject.toml -c requirements/dev.txt
for extra in test docs bench; do lock "$extra" "$lowest" pyproject.toml --extra "$extra" -c requirements/dev.txt; done
lock sbom "$lowest" pyproject.toml --extra sbom
lock fuzz "$lowest" pyproject.toml --extra fuzz
lock packages 3.11 pyproject.toml --extra packages     # what it pins needs that
