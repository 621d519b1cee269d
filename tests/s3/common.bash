# shellcheck shell=bash
# What the scripts of this folder share. Sourced, never run.
#
# A set of servers lives in one folder. Its file `processes` has a line for each process: id, and when it was started in
# the kernel's ticks. Only a process with both is ours: ids are given again to others.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
home=$root/target/s3

# folder_of NAME: where the set of this name lives.
folder_of() {
  [[ "$1" =~ ^[a-z0-9-]+$ ]] || { echo "$1: a set of servers has a name of a-z, 0-9 and -" >&2; exit 64; }
  echo "$home/$1"
}

# started_at PID: the 22nd field of its stat; the second is a name in parentheses that may hold anything.
started_at() {
  local stat fields
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
  read -ra fields <<<"${stat##*) }"
  # A zombie has ended.
  [ "${fields[0]}" != Z ] || return 1
  echo "${fields[19]}"
}

# launch FOLDER LOG COMMAND...: in a session of its own, so that a Ctrl-C meant for the tests ends no server, and
# without our descriptors, so that neither the lock nor the caller's pipe stays open.
launch() {
  local folder=$1 log=$2; shift 2
  setsid "$@" </dev/null >"$log" 2>&1 9>&- &
  echo "$! $(started_at $! || echo ended)" >>"$folder/processes"
}

# runs FOLDER: every process of it does.
runs() {
  local pid started
  [ -s "$1/processes" ] || return 1
  while read -r pid started; do
    [ "$(started_at "$pid")" = "$started" ] || return 1
  done <"$1/processes"
}

# stop FOLDER: ends its processes, last started first. Not gently: nothing that they hold shall outlive them, and an OSD
# asked to stop writes its memory to disk first.
stop() {
  local pid started
  [ -e "$1/processes" ] || return 0
  while read -r pid started; do
    if [ -z "$started" ] || [ "$(started_at "$pid")" != "$started" ]; then continue; fi
    kill -KILL "$pid"
    until_true 50 gone "$pid" "$started" || echo "process $pid does not end" >&2
  done < <(tac "$1/processes")
  rm -rf "$1"
}

# stop_set FOLDER: the whole set.
stop_set() {
  stop "$1/rgw"
  stop "$1/moto"
  rm -rf "$1"
}

gone() { [ "$(started_at "$1")" != "$2" ]; }

# until_true TENTHS COMMAND...: tries it every tenth of a second, at most so often. In a trap, where stop calls it, a
# `return` without a number would repeat the status of before the trap.
until_true() {
  local tries=$1; shift
  for ((; tries > 0; tries--)); do
    if "$@" >/dev/null 2>&1; then return 0; fi
    sleep 0.1
  done
  return 1
}

# free_ports COUNT: on loopback, all different. Somebody else may take one before it is used: who uses them tries again.
free_ports() {
  python3 - "$1" <<'PYTHON'
import socket, sys
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(one.getsockname()[1] for one in held))
PYTHON
}

# speaks_http PORT: somebody answers there, whatever it is.
speaks_http() (
  exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
  printf 'GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' >&3
  read -r -t 2 line <&3 && [[ "$line" == HTTP/1.* ]]
)

# until_served FOLDER PORT SECONDS: the processes run, and the last that was started speaks HTTP at the port.
until_served() {
  local tries=$(($3 * 10)) server
  server=$(tail -n 1 "$1/processes")
  for ((; tries > 0; tries--)); do
    runs "$1" || return 1
    if listens "${server% *}" "$2" && speaks_http "$2" 2>/dev/null; then return; fi
    sleep 0.1
  done
  return 1
}

# listens PID PORT: this process does, not somebody else who was quicker to take the port.
listens() {
  local socket
  # Address and port in hexadecimal digits; 0A is LISTEN; the tenth field is the inode of the socket.
  socket=$(awk -v port="$(printf ':%04X' "$2")" '$2 ~ port "$" && $4 == "0A" { print $10; exit }' /proc/net/tcp)
  [ -n "$socket" ] && [ -n "$(find "/proc/$1/fd" -lname "socket:\[$socket\]" 2>/dev/null)" ]
}

# start_with FUNCTION FOLDER: FUNCTION FOLDER starts a server and writes FOLDER/url when it is ready. Three tries, for
# its ports may be taken on the way; each begins with an empty folder. None when the set has been given up.
start_with() {
  local start=$1 folder=$2 try
  if runs "$folder" && [ -s "$folder/url" ]; then return; fi
  for try in 1 2 3; do
    stop "$folder"
    rm -rf "$folder"
    mkdir -p "$folder/log"
    if "$start" "$folder" >&2; then return; fi
    [ ! -e "$folder/../given-up" ] || return 1
    echo "$folder: not started, try $try of 3; the ends of its logs:" >&2
    tail -n 15 "$folder"/log/* >&2 || true
  done
  stop "$folder"
  return 1
}
