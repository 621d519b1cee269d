# shellcheck shell=bash
# moto: an emulator of S3, from PyPI. Quick, always the same, takes any keys. Sourced by `up`.

# A python3 that can make environments: the one of the PATH may have been built or packaged without what that needs.
python_with_venv() {
  local python
  for python in python3 /usr/bin/python3; do
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then echo "$python"; return; fi
  done
  return 1
}

# A Python environment with what requirements.txt says; made anew when that has changed.
moto_environment() {
  local venv=$home/venv wanted=$root/tests/s3/requirements.txt python
  if [ "$venv/complete" -nt "$wanted" ]; then return; fi
  echo "installing moto into $venv" >&2
  rm -rf "$venv"
  python=$(python_with_venv) || return 1
  "$python" -m venv "$venv" >&2 || return 1
  "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --requirement "$wanted" >&2 || return 1
  touch "$venv/complete"
}

moto_start() {
  local folder=$1 port
  port=$(free_ports 1) || return 1
  launch "$folder" "$folder/log/moto" "$home/venv/bin/moto_server" -H 127.0.0.1 -p "$port"
  until_served "$folder" "$port" 30 || return 1
  echo "http://127.0.0.1:$port" >"$folder/url"
}
