# shellcheck shell=bash
# Daemons: started in the background, remembered by process id and start time, stopped and waited for.
# The start time keeps a number that the kernel gave to somebody else from being killed.

PROCESS_DIR=$STATE/run
LOG_DIR=$STATE/log

# start_time PID: clock ticks since boot at which the process began; fails when there is none
start_time() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  stat=${stat##*) } # the command's name may hold blanks and brackets
  # shellcheck disable=SC2086 # split into its fields
  set -- $stat
  [ "$1" != Z ] || return 1
  echo "${20}"
}

# process_pid NAME: its process id, if it is still the process that we started
process_pid() {
  local pid begun
  read -r pid begun 2>/dev/null <"$PROCESS_DIR/$1" || return 1
  [ -n "$begun" ] && [ "$(start_time "$pid")" = "$begun" ] || return 1
  echo "$pid"
}

process_alive() { process_pid "$1" >/dev/null; }

# process_start NAME COMMAND...: no-op when it runs already
process_start() {
  local name=$1
  shift
  process_alive "$name" && return
  mkdir -p "$PROCESS_DIR" "$LOG_DIR"
  [ ! -f "$LOG_DIR/$name.log" ] || mv "$LOG_DIR/$name.log" "$LOG_DIR/$name.log.1"
  setsid "$@" >"$LOG_DIR/$name.log" 2>&1 </dev/null 9>&- &
  local pid=$!
  echo "$pid $(start_time "$pid")" >"$PROCESS_DIR/$name"
}

# process_serves NAME SECONDS COMMAND...: waits for COMMAND to succeed; ends with the log when the process died
process_serves() {
  local name=$1 seconds=$2 deadline
  shift 2
  deadline=$((${EPOCHREALTIME/./} + seconds * 1000000))
  until "$@" >/dev/null 2>&1; do
    process_alive "$name" || { show_log "$name"; die "$name ended while it started" "its log: $LOG_DIR/$name.log"; }
    if [ "${EPOCHREALTIME/./}" -ge "$deadline" ]; then
      show_log "$name"
      die "$name does not serve after $seconds s" "its log: $LOG_DIR/$name.log"
    fi
    sleep 0.1
  done
}

show_log() { tail -n 8 "$LOG_DIR/$1.log" 2>/dev/null | cut -c1-400 | sed "s/^/         $1: /" >&2; }

# process_stop NAME [SIGNAL]: returns when it is gone
process_stop() {
  local name=$1 pid
  if pid=$(process_pid "$name"); then
    end_process "$pid" "${2:-TERM}"
  fi
  rm -f "$PROCESS_DIR/$name"
}

# end_process PID SIGNAL: 30 s to end by itself, then SIGKILL
end_process() {
  local pid=$1 begun
  begun=$(start_time "$pid") || return 0
  kill -s "$2" "$pid" 2>/dev/null || return 0
  for _ in {1..300}; do
    [ "$(start_time "$pid")" = "$begun" ] || return 0
    sleep 0.1
  done
  say "process $pid ignored SIG$2 for 30 s: killed"
  kill -s KILL "$pid" 2>/dev/null || return 0
  while [ "$(start_time "$pid")" = "$begun" ]; do sleep 0.1; done
}

# end_strays FOLDER...: ends processes in the node's namespace whose binary lies in FOLDER and that no file remembers
end_strays() {
  [ -e "/run/netns/$NODE" ] || return 0
  local pid exe folder known
  mkdir -p "$PROCESS_DIR"
  known=" $(find "$PROCESS_DIR" -type f -exec cut -d' ' -f1 {} + 2>/dev/null | tr '\n' ' ') "
  for pid in $(ip netns pids "$NODE"); do
    exe=$(readlink "/proc/$pid/exe") || continue
    for folder in "$@"; do
      if [[ $exe == "$folder"* && $known != *" $pid "* ]]; then
        say "ending a leftover process: $pid ${exe##*/}"
        end_process "$pid" TERM
      fi
    done
  done
}
