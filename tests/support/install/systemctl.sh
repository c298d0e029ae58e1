#!/bin/bash
# A `systemctl` for a root in which no systemd runs: it does of one service what maintainer scripts and the pages ask for.
# Whether the unit is enabled is the business of the real one, which needs no systemd for that.
set -euo pipefail

# Files only: the real one must look for no manager.
export SYSTEMD_OFFLINE=1
UNIT=dicom-node PID_FILE=/run/dicom-node.pid LOG=/var/log/dicom-node.log
action= now= is_ours=
for word; do
  case $word in
    --now) now=1 ;;
    -*) ;;
    "$UNIT" | "$UNIT.service") is_ours=1 ;;
    *) action=${action:-$word} ;;
  esac
done
if [[ -z $is_ours ]]; then exit 0; fi

# The last line of a key is the one that counts.
said() { sed -n "s/^$1=//p" "/lib/systemd/system/$UNIT.service" | tail -n 1; }
runs() { [[ -e $PID_FILE ]] && kill -0 "$(<$PID_FILE)" 2>/dev/null; }

start() {
  if runs; then return; fi
  local user command
  user=$(said User)
  read -ra command <<<"$(said ExecStart)"
  (
    cd "$(said WorkingDirectory)"
    umask "$(said UMask)"
    ulimit -n "$(said LimitNOFILE)"
    exec env -i PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 "HOME=$(said WorkingDirectory)" "USER=$user" \
      setsid setpriv --reuid "$user" --regid "$(said Group)" --clear-groups --no-new-privs --bounding-set=-all \
      "${command[@]}" >>"$LOG" 2>&1 </dev/null
  ) &
  echo $! >$PID_FILE
}

stop() {
  local process
  if ! runs; then return 0; fi
  process=$(<$PID_FILE)
  kill "$process"
  while kill -0 "$process" 2>/dev/null; do sleep 0.1; done
  echo "stopped $(/opt/dicom-node/current/bin/dicom-node --version)" >>"$LOG"
}

case $action in
  start) start ;;
  stop) stop ;;
  restart) stop; start ;;
  is-active) runs ;;
  is-enabled) exec /usr/bin/systemctl.real is-enabled "$UNIT" ;;
  enable | disable)
    /usr/bin/systemctl.real --quiet "$action" "$UNIT"
    if [[ -n $now && $action == enable ]]; then start; elif [[ -n $now ]]; then stop; fi ;;
esac
