#!/usr/bin/env bash
# Runs a command with an sshd of our own on 127.0.0.1 beside it, for this account, by a key made for the occasion.
# Takes all of it away at the end. Where there is no sshd, or it doesn't start, the command runs without.
#
#   tools/with_sshd.sh COMMAND ...
#
# The command finds in its environment RAMET_DEMO_SSH (a host name) and RAMET_DEMO_SSH_ARGS (arguments for ssh that
# lead there). If RAMET_DEMO_SSH is set already, it is left as it is and nothing is started.
set -uo pipefail

# without WHY COMMAND ...: say why there is no sshd, and become the command
without() { printf 'going on without an sshd: %s\n' "$1" >&2; shift; exec "$@"; }

if [ -n "${RAMET_DEMO_SSH+set}" ]; then exec "$@"; fi
sshd=$(PATH=$PATH:/usr/sbin:/sbin command -v sshd) ||
  without "not on this machine: sshd (Debian package: openssh-server)" "$@"
for program in ssh ssh-keygen; do
  command -v $program > /dev/null || without "not on this machine: $program (Debian package: openssh-client)" "$@"
done
dir=$(mktemp -d) || without "there is no place for temporary files" "$@"
sshd_pid=
cleanup() {
  if [ -n "$sshd_pid" ]; then kill "$sshd_pid" && wait "$sshd_pid"; fi 2> /dev/null
  rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

start_sshd() {
  ssh-keygen -q -t ed25519 -N '' -f "$dir/hostkey" && ssh-keygen -q -t ed25519 -N '' -f "$dir/id" || return 1
  cp "$dir/id.pub" "$dir/authorized_keys"
  # sshd run by root drops to another user before it reads the keys, and wants its own empty folder
  chmod 755 "$dir"
  if [ "$(id -u)" = 0 ]; then mkdir -p /run/sshd && chmod 755 /run/sshd; fi
  local port
  for _ in 1 2 3 4 5; do
    port=$((20000 + RANDOM % 20000))
    # Another HOME: what the account's own profile does at each login (pyenv's takes a lock) isn't what is shown or measured.
    cat > "$dir/sshd_config" << C
ListenAddress 127.0.0.1
Port $port
HostKey $dir/hostkey
PidFile $dir/pid
AuthorizedKeysFile $dir/authorized_keys
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
MaxSessions 200
MaxStartups 200:30:400
PrintMotd no
PrintLastLog no
UseDNS no
SetEnv HOME=$dir
C
    "$sshd" -D -f "$dir/sshd_config" -E "$dir/log" < /dev/null &
    sshd_pid=$!
    for _ in {1..3000}; do      # a minute, on a busy machine
      if [ -s "$dir/pid" ]; then break 2; fi
      kill -0 $sshd_pid 2> /dev/null || continue 2    # the port was taken
      sleep .02
    done
    break
  done
  [ -s "$dir/pid" ] || return 1
  cat > "$dir/ssh_config" << C
Host *
  HostName 127.0.0.1
  Port $port
  User $(id -un)
  IdentityFile $dir/id
  IdentitiesOnly yes
  BatchMode yes
  UserKnownHostsFile $dir/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking accept-new
  LogLevel ERROR
C
}

if start_sshd > "$dir/start.log" 2>&1; then
  export RAMET_DEMO_SSH=throwaway RAMET_DEMO_SSH_ARGS="-F $dir/ssh_config"
else
  printf 'going on without an sshd: it did not start: %s\n' "$(cat "$dir/start.log" "$dir/log" 2> /dev/null | tail -n 1)" >&2
fi
"$@"
