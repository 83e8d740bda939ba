#!/usr/bin/env bash
# Roots of other releases of Debian, for tests: Pythons that this machine lacks, most of them minimal, and a systemd of today.
# Made by debootstrap as root, about a minute and 250-550 MB each, and kept. What is there already is left alone.
#
#   tools/roots.sh [ROOT...]      default: bullseye trixie sid trixie-systemd
#
# RAMET_TEST_ROOTS=...   the folder they are in, /var/lib/rmt/roots by default
set -euo pipefail
ROOTS=${RAMET_TEST_ROOTS:-/var/lib/rmt/roots}

say() { printf 'roots: %s\n' "$*" >&2; }

# The mirror that this machine itself installs from.
mirror() {
  local code
  code=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  # shellcheck disable=SC2016     # apt's own placeholders
  apt-get indextargets --no-release-info --format '$(CREATED_BY)|$(RELEASE)|$(COMPONENT)|$(SITE)' |
    sed -n "s/^Packages|$code|main|//p" | head -n 1
}

# make NAME SUITE PACKAGES,WITH,COMMAS
make_root() {
  local place=$ROOTS/$1 part="$ROOTS/$1.part" proxy=''
  # debootstrap removes its own folder at the very end: that tells a root that was left half made
  if [ -x "$place/usr/bin/dpkg" ] && [ ! -e "$place/debootstrap" ]; then return; fi
  say "making $place"
  eval "$(apt-config shell proxy Acquire::http::Proxy)"     # debootstrap doesn't read apt's configuration
  mkdir -p "$ROOTS"
  rm -rf --one-file-system "$part"
  env ${proxy:+http_proxy="$proxy"} debootstrap --variant=minbase --include="$3" "$2" "$part" "$(mirror)" > "$part.log" 2>&1 < /dev/null || {
    tail -n 3 "$part.log" >&2
    say "debootstrap $2 failed, see $part.log: tests that need it are skipped"
    return 1
  }
  rm -f "$part.log"
  mv "$part" "$place"
}

# In a mount namespace of its own: nothing stays mounted, whatever happens.
within() {
  # shellcheck disable=SC2016     # the inner shell's
  unshare -mpf --propagation private sh -c 'mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && exec chroot "$@"' \
    sh "$@" < /dev/null > /dev/null
}

command -v debootstrap > /dev/null || { say "not on this machine: debootstrap"; exit 1; }
failed=0
for root in ${*:-bullseye trixie sid trixie-systemd}; do
  case $root in
    bullseye) make_root bullseye bullseye python3-minimal,python2.7-minimal || failed=1 ;;
    trixie) make_root trixie trixie python3-minimal || failed=1 ;;
    trixie-systemd)
      make_root trixie-systemd trixie python3-minimal,systemd,systemd-sysv,dbus,polkitd,systemd-container,sudo,libpam-systemd ||
        failed=1 ;;
    sid)
      make_root sid sid python3-minimal || { failed=1; continue; }
      if [ ! -x "$ROOTS/sid/usr/bin/pypy3" ] || [ ! -x "$ROOTS/sid/usr/bin/python3.15" ]; then
        # sid's index is good for a week only, and a mirror may be older than that
        within "$ROOTS/sid" apt-get -qq -o Acquire::Check-Valid-Until=false update &&
          within "$ROOTS/sid" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            python3.15-minimal pypy3 micropython sudo-rs 2> /dev/null || failed=1
      fi ;;
    *) say "there is no recipe for a root $root"; exit 2 ;;
  esac
done
exit $failed
