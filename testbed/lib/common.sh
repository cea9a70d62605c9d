# shellcheck shell=bash
# Paths, messages and waiting: what every other part uses.

PACS_TESTBED_CACHE=${PACS_TESTBED_CACHE:-/var/cache/pacs-testbed}
PACS_TESTBED_STATE=${PACS_TESTBED_STATE:-/var/lib/pacs-testbed}
PACS_TESTBED_API_STATE=${PACS_TESTBED_API_STATE:-$PACS_TESTBED_STATE-api}
PACS_TESTBED_API_PORT=${PACS_TESTBED_API_PORT:-16443}

CACHE=$PACS_TESTBED_CACHE
STATE=$PACS_TESTBED_STATE
BIN=$STATE/bin
RUN=/run/pacsnode # sockets: their paths must stay short, and go away with a reboot
LOCK=/run/pacs-testbed.lock

NODE=pacsnode
NODE_ADDRESS=198.18.0.10 # 198.18.0.0/15 is reserved for benchmarks: no machine's own network is there
HOST_ADDRESS=198.18.0.1
POD_CIDR=10.244.0.0/16
SERVICE_CIDR=10.96.0.0/16
DNS_ADDRESS=10.96.0.10
REGISTRY=localhost:5000 # inside the node's namespace; containerd speaks plain HTTP to localhost only
REGISTRY_PROJECT=pacs-operator
CONTAINERD_SOCKET=$RUN/containerd.sock
ADMIN_KUBECONFIG=$STATE/admin.kubeconfig

STARTED_AT=${EPOCHREALTIME/./}

# elapsed: seconds since the command began, one decimal
elapsed() {
  local microseconds=$((${EPOCHREALTIME/./} - STARTED_AT))
  printf '%d.%d' $((microseconds / 1000000)) $((microseconds / 100000 % 10))
}

# Progress goes to standard error: standard output belongs to answers that scripts read.
say() { printf '[%6ss] %s\n' "$(elapsed)" "$*" >&2; }

# die WHAT WHAT-TO-DO [EXIT-CODE]
die() {
  printf 'testbed: %s\n' "$1" >&2
  [ -z "${2:-}" ] || printf '         %s\n' "$2" >&2
  exit "${3:-1}"
}

# until_ok SECONDS WHAT COMMAND...: waits on a condition; on time-out names it and returns 1
until_ok() {
  local seconds=$1 what=$2 deadline
  shift 2
  deadline=$((${EPOCHREALTIME/./} + seconds * 1000000))
  until "$@" >/dev/null 2>&1; do
    if [ "${EPOCHREALTIME/./}" -ge "$deadline" ]; then
      printf 'testbed: %s: not reached within %s s\n' "$what" "$seconds" >&2
      return 1
    fi
    sleep 0.1
  done
}

# Not `ip netns exec`: that remounts /sys and hides the cgroup mounts from the kubelet.
ENTER_NODE=(nsenter --net="/run/netns/$NODE" --)
in_node() { "${ENTER_NODE[@]}" "$@"; }

kubectl_admin() { "$BIN/kubectl" --kubeconfig="$ADMIN_KUBECONFIG" "$@"; }

require_root() {
  [ "$(id -u)" -eq 0 ] || die "this needs root: it makes network namespaces, mounts and containers" "run it as root"
}

require_running() {
  process_alive apiserver && process_alive containerd || die "the cluster is not running" "run: testbed start"
}

# with_lock COMMAND...: one change at a time; the lock is not inherited by the daemons that are started
with_lock() {
  require_root
  exec 9>"$LOCK"
  if ! flock -n 9; then
    say "another testbed command is at work, waiting for it"
    flock -w 1800 9 || die "another testbed command holds $LOCK for 30 minutes" "look for it: fuser -v $LOCK"
  fi
  "$@"
}
