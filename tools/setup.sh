#!/usr/bin/env bash
# Sets up what a goal of the Makefile needs. Quick when nothing is to be done.
#
#   tools/setup.sh venv EXTRA     .venv with ramet (editable) and one of its extras: demo (none), test, docs, bench, packages, dev
#   tools/setup.sh targets        programs that tests connect to: installed as root, else named, and their tests skipped
#   tools/setup.sh targets all    the same with those for containers, and roots of other systems (tools/roots.sh)
#
# PYTHON=...  the interpreter (3.10 or newer) to make .venv from, instead of the first good one that is found
# VENV=...    another place for the virtual environment
# LOCKED=no   any versions that pyproject.toml admits, and not just those of requirements/*.txt, each file by its hash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
VENV=${VENV:-.venv}
LOCKED=${LOCKED:-yes}

say() { printf 'setup: %s\n' "$*" >&2; }
die() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }
is_root() { [ "$(id -u)" = 0 ]; }

# ---------------------------------------------------------------- Debian packages

# policy-rc.d: without it apt would start a machine-wide sshd. The lock's timeout: wait for another apt, don't fail.
apt_install() (
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod 755 $policy
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt=(apt-get -o DPkg::Lock::Timeout=400 -qq ${APT_MORE[@]+"${APT_MORE[@]}"})
  "${apt[@]}" install -y --no-install-recommends "$@" < /dev/null > /dev/null 2>&1 && exit 0
  "${apt[@]}" update < /dev/null > /dev/null     # the package lists are missing or old
  "${apt[@]}" install -y --no-install-recommends "$@" < /dev/null > /dev/null && exit 0
  [ $# -gt 1 ] || exit 1
  for package; do     # one that can't be had keeps the others from being installed
    "${apt[@]}" install -y --no-install-recommends "$package" < /dev/null > /dev/null 2>&1 || failed=1
  done
  exit "${failed:-0}"
)

can_apt() { is_root && command -v apt-get > /dev/null; }

# ---------------------------------------------------------------- .venv

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' > /dev/null 2>&1; }
can_make_venv() { "$1" -c 'import ensurepip, venv' > /dev/null 2>&1; }

# The interpreter that `python3` means, if it will do; else the newest that does. Only ones that really start count:
# a version manager's shim may be there for a version that isn't active.
find_python() {
  local name old='' bare=''
  for name in ${PYTHON:-python3 /usr/bin/python3 python3.13 python3.12 python3.11 python3.10 python3.14}; do
    command -v "$name" > /dev/null || continue
    if ! new_enough "$name"; then old+=" $name"; continue; fi
    if can_make_venv "$name"; then command -v "$name"; return; fi
    bare+=" $(command -v "$name")"
  done
  if [ -n "${PYTHON:-}" ]; then die "PYTHON=$PYTHON isn't a Python 3.10 or newer with the modules venv and ensurepip"; fi
  if can_apt; then
    say "installing Debian's python3-venv"
    apt_install python3 python3-venv || die "apt-get could not install python3-venv"
    if new_enough /usr/bin/python3 && can_make_venv /usr/bin/python3; then echo /usr/bin/python3; return; fi
    die "Debian's python3 here is older than 3.10: install a newer one and run again with PYTHON=/path/of/it"
  fi
  if [ -n "$bare" ]; then die "$bare can't make virtual environments (no ensurepip): apt-get install python3-venv"; fi
  die "no Python 3.10 or newer found${old:+ (too old:$old)}: install one, or name it with PYTHON=/path/of/it"
}

pip() {
  local verb=$1
  shift
  "$VENV/bin/python" -m pip "$verb" -qq --disable-pip-version-check --no-input "$@"
}

setup_build() {
  [ ! "$VENV/build/.ready" -nt requirements/build.txt ] || return 0
  rm -rf "$VENV/build"
  pip install --target "$VENV/build" --require-hashes -r requirements/build.txt && touch "$VENV/build/.ready"
}

setup_venv() {
  local extra=$1 python spec=.
  if [ ! -x "$VENV/bin/python" ] || ! new_enough "$VENV/bin/python"; then
    python=$(find_python)
    say "making $VENV with $python ($("$python" -c 'import platform; print(platform.python_version())'))"
    "$python" -m venv --clear "$VENV"
  fi
  say "installing ramet and what '$extra' needs into $VENV"
  if [ "$LOCKED" = no ]; then
    if [ "$extra" != demo ]; then spec=".[$extra]"; fi
    pip install -e "$spec"
  else
    # ramet itself is no file with a hash: it is built of what is here, by a backend that lies apart from what ramet needs.
    { setup_build && pip install --require-hashes -r "requirements/$extra.txt"; } ||
      die "the versions of requirements/$extra.txt can't be installed (pip says why): is a package index reached that has them?" \
        "LOCKED=no takes any that pyproject.toml admits"
    PYTHONPATH=$(cd "$VENV/build" && pwd) pip install --no-deps --no-build-isolation -e .
  fi
  case $extra in test|dev) setup_controllers ;; packages) fetch_suites ;; esac
}

# tests/packages/test_suites.py runs test suites that only the source distributions hold.
fetch_suites() {
  local name version
  for name in itsdangerous jinja2; do
    version=$("$VENV/bin/python" -c 'import sys; from importlib.metadata import version; print(version(sys.argv[1]))' "$name")
    [ ! -e "$VENV/sdists/$name-$version.tar.gz" ] || continue
    pip download --no-deps --no-binary :all: -d "$VENV/sdists" "$name==$version" || say "no source distribution of $name: its test suite is skipped"
  done
}

# tests/compat/test_pairs.py runs controllers of other versions than .venv's: the one compiled package that they need.
setup_controllers() {
  local version msgpack hashes=--require-hashes
  msgpack=$(awk '/^msgpack==/ {found = 1} found {print} found && !/\\$/ {exit}' requirements/test.txt)
  if [ "$LOCKED" = no ]; then
    hashes=
    msgpack=$("$VENV/bin/python" -c 'import msgpack; print("msgpack==%d.%d.%d" % msgpack.version[:3])')
  fi
  for version in 3.10 3.11 3.12 3.13 3.14; do
    [ ! -d "$VENV/controllers/$version/msgpack" ] || continue
    pip install --no-deps --only-binary=:all: $hashes -r /dev/stdin <<< "$msgpack" \
      --python-version "$version" --target "$VENV/controllers/$version" 2> /dev/null ||
      say "no compiled ${msgpack%% *} for Python $version: tests with such a controller use its pure Python part"
  done
}

# ---------------------------------------------------------------- what the tests connect to

# program:package
TARGETS="sshd:openssh-server ssh:openssh-client tcsh:tcsh fish:fish ksh:ksh zsh:zsh strace:strace ps:procps busybox:busybox-static
         sudo:sudo doas:opendoas google-authenticator:libpam-google-authenticator dropbear:dropbear-bin
         pkexec:pkexec dbus-daemon:dbus-daemon dbus-send:dbus-bin"
# What containers need besides: some hundred MB.
CONTAINERS="podman:podman runc:runc dockerd:docker.io lxc-start:lxc systemd-nspawn:systemd-container buildah:buildah
            lxd:lxd lxc:lxd-client kubectl:kubernetes-client debootstrap:debootstrap"
INCUS="incusd:incus-base incus:incus-client"

# Debian 12 has Incus in its backports only. They are read with package lists of our own: what the machine knows stays as it was,
# and nothing that is installed later comes from there by accident.
setup_incus() {
  local programs packages apt code mirror
  # shellcheck disable=SC2086     # a list of words on purpose
  if ! missing $INCUS || ! can_apt || [ -n "$(apt-cache madison incus-base 2> /dev/null)" ]; then setup_targets $INCUS; return; fi
  code=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  # shellcheck disable=SC2016     # apt's own placeholders
  mirror=$(apt-get indextargets --no-release-info --format '$(CREATED_BY)|$(RELEASE)|$(COMPONENT)|$(SITE)' |
    sed -n "s/^Packages|$code|main|//p" | head -n 1)
  apt=$(mktemp -d)
  mkdir -p "$apt/lists/partial" "$apt/parts"
  cp /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list "$apt/parts/" 2> /dev/null || true
  printf '%s\n' 'Types: deb' "URIs: $mirror" "Suites: $code-backports" 'Components: main' \
    'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg' > "$apt/parts/backports.sources"
  # Without the two that are empty apt would write the machine's own cache anew from these lists.
  APT_MORE=(-o Dir::Etc::sourceparts="$apt/parts" -o Dir::State::lists="$apt/lists" -o Dir::Cache::pkgcache=
    -o Dir::Cache::srcpkgcache= -t "$code-backports")
  apt-get -qq "${APT_MORE[@]}" update < /dev/null > /dev/null 2>&1 || true
  # shellcheck disable=SC2086
  setup_targets $INCUS
  APT_MORE=()
  rm -rf "$apt"
}

# Programs that ask and refuse in another language. A test of that is skipped where the locale isn't.
setup_locale() {
  if locale -a 2> /dev/null | grep -qi '^de_DE\.utf-*8$' || ! can_apt; then return; fi
  say "making the locale de_DE.UTF-8"
  [ -e /usr/share/i18n/locales/de_DE ] || apt_install locales || return 0
  localedef -i de_DE -f UTF-8 de_DE.UTF-8 || say "it can't be made: tests in German are skipped"
}

# missing PROGRAM:PACKAGE...: sets `programs` and `packages` to those that aren't here
missing() {
  local pair
  packages='' programs=''
  for pair; do
    if ! PATH=$PATH:/usr/sbin:/sbin:/usr/libexec/incus command -v "${pair%%:*}" > /dev/null; then
      programs+=" ${pair%%:*}" packages+=" ${pair#*:}"
    fi
  done
  [ -n "$programs" ]
}

# setup_targets PROGRAM:PACKAGE...
setup_targets() {
  local programs packages
  missing "$@" || return 0
  if can_apt; then
    say "installing$packages"
    # shellcheck disable=SC2086     # a list of words on purpose
    apt_install $packages && return 0
    missing "$@" || return 0
    [ -z "${CI:-}" ] || die "apt-get could not install$packages"
  fi
  say "not on this machine:$programs (Debian packages:$packages). Tests that need them are skipped."
}

case ${1:-} in
  venv) setup_venv "${2:?which extra?}" ;;
  targets)
    is_root || say "not root: tests that need root are skipped, and nothing is installed"
    # shellcheck disable=SC2086     # lists of words on purpose
    setup_targets $TARGETS ${2:+$CONTAINERS}
    if [ -n "${2:-}" ]; then setup_incus; setup_locale; fi
    if [ -n "${2:-}" ] && is_root; then bash tools/roots.sh || say "not all roots could be made: tests that need them are skipped"; fi ;;
  *) sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
