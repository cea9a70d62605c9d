# shellcheck shell=bash
# start, stop, status, wipe: the order in which the parts come and go.

# what status shows, in the order of starting
PROCESSES=(etcd apiserver controller-manager scheduler registry openbao containerd hostpath kubelet proxy cilium)

all_alive() {
  local name
  for name in "${PROCESSES[@]}"; do process_alive "$name" || return 1; done
}

cluster_serves() { all_alive && node_ready && statuses_current && dns_ready && openbao_active && registry_ready; }

command_start() {
  if all_alive && cluster_serves >/dev/null 2>&1; then
    say "the cluster runs already: $ADMIN_KUBECONFIG"
    return
  fi
  preflight
  build_components "${COMPONENTS[@]}"
  link_binaries "$BIN" "${COMPONENTS[@]}"
  echo "state folder of testbed" >"$STATE/.testbed"
  chmod 711 "$STATE"
  PAUSE_IMAGE=$(own_reference pause)
  start_foundation
  start_cluster
  say "the cluster serves after $(elapsed) s; its kubeconfig: $ADMIN_KUBECONFIG"
}

# start_foundation: what needs no API server
start_foundation() {
  say "network, certificates"
  network_up
  cluster_pki
  mkdir -p "$LOG_DIR"
  say "etcd, containerd, registry, OpenBao"
  start_etcd
  start_containerd
  start_registry
  start_openbao
  say "API server"
  start_apiserver
  prepare_cilium
  process_serves containerd 20 containerd_ctl version
  own_image pause '{"Entrypoint":["/pause"],"User":"65535:65535"}'
  own_image coredns '{"Entrypoint":["/coredns"],"User":"65532:65532"}'
}

start_cluster() {
  process_serves apiserver 90 apiserver_ready
  start_controllers
  say "volumes, kubelet, kube-proxy"
  start_volumes
  start_kubelet
  start_proxy
  say "Cilium"
  apply_cilium_crds
  start_cilium
  apply_addons
  process_serves cilium 90 cilium_ready
  publish_cni_config
  say "OpenBao, registry, modalities"
  finish_openbao
  process_serves registry 20 registry_ready
  start_modalities
  say "node, cluster DNS"
  process_serves kubelet 60 node_ready
  process_serves kubelet 60 statuses_current
  process_serves kubelet 90 dns_ready
}

command_stop() {
  local signal=TERM
  case "$*" in
    '') ;;
    --hard) signal=KILL ;;
    *) misuse "stop knows no '$*', only: --hard" ;;
  esac
  with_lock stop_cluster "$signal"
}

# stop_cluster SIGNAL
stop_cluster() {
  local name running=no
  for name in "${PROCESSES[@]}"; do ! process_alive "$name" || running=yes; done
  if [ "$running" = no ]; then
    say "the cluster does not run"
    return
  fi
  say "kubelet and containers"
  process_stop kubelet "$1"
  process_stop proxy "$1"
  stop_containers "$1"
  say "the rest"
  for name in cilium containerd hostpath controller-manager scheduler registry openbao apiserver etcd; do
    process_stop "$name" "$1"
  done
  say "the cluster is stopped after $(elapsed) s; its data are kept in $STATE"
}

# check WORD COMMAND...: one line of status; remembers a failure in $failed
check() {
  local word=$1 answer=serves
  shift
  if ! "$@" >/dev/null 2>&1; then
    answer="DOES NOT SERVE"
    failed=1
  fi
  printf '%-20s %s\n' "$word" "$answer"
}

command_status() {
  local name pid failed=0
  for name in "${PROCESSES[@]}"; do
    if pid=$(process_pid "$name"); then
      printf '%-20s runs (process %s)\n' "$name" "$pid"
    else
      printf '%-20s STOPPED\n' "$name"
      failed=1
    fi
  done
  if process_alive apiserver; then
    check "API server" apiserver_ready
    check "node $NODE" node_ready
    check "cluster DNS" dns_ready
    check "OpenBao" openbao_active
    check "registry" registry_ready
    printf '%-20s %s\n' "network policies" "$(policies_word)"
    printf '%-20s %s\n' modalities "$(modality_list | tr '\t\n' '=  ')"
    printf '%-20s %s\n' kubeconfig "$ADMIN_KUBECONFIG"
  fi
  exit "$failed"
}

command_kubeconfig() {
  [ -s "$ADMIN_KUBECONFIG" ] || die "there is no cluster yet" "run: testbed start"
  echo "$ADMIN_KUBECONFIG"
}

command_wipe() {
  case "$*" in
    '' | --cache) ;;
    *) misuse "wipe knows no '$*', only: --cache" ;;
  esac
  with_lock wipe_cluster "$@"
}

wipe_cluster() {
  if [ -e "$STATE" ] && [ ! -f "$STATE/.testbed" ] && [ -n "$(ls -A "$STATE")" ]; then
    die "$STATE is not a state folder of the testbed: nothing is removed" "set PACS_TESTBED_STATE, or remove it by hand"
  fi
  local name
  [ ! -d "$STATE" ] || stop_cluster KILL
  end_strays "$CACHE/" /usr/bin/containerd
  end_container_remains
  for name in $(modality_list | cut -f1); do modality_delete "$name"; done
  sandboxes_down
  network_down
  say "mounts and folders"
  unmount_below "$RUN" "$STATE"
  wipe_cgroups
  wipe_fixed_places
  rm -rf "$STATE" "$RUN" /run/cilium
  [ "${1:-}" != --cache ] || rm -rf "$CACHE"
  say "no trace is left$([ "${1:-}" = --cache ] || echo ", but for the built binaries in $CACHE")"
}

# unmount_below FOLDER...: deepest first
unmount_below() {
  local folder
  for folder in "$@"; do
    awk -v top="$folder" '$5 == top || index($5, top "/") == 1 {print $5}' /proc/self/mountinfo | LC_ALL=C sort -r |
      while read -r point; do umount "$(printf %b "$point")" || umount -l "$(printf %b "$point")" || true; done
  done
}

# wipe_cgroups: only empty groups can be removed, so another kubelet's are safe
wipe_cgroups() {
  find /sys/fs/cgroup -depth -type d -path '*/kubepods*' -exec rmdir {} + 2>/dev/null || true
}

# wipe_fixed_places: paths that kubelet, containerd and CNI do not let one choose; folders go only when empty
wipe_fixed_places() {
  find /var/log/containers -lname "$STATE/*" -delete 2>/dev/null || true
  rm -f /var/lib/kubelet/device-plugins/kubelet.sock /etc/cni/net.d/cni.lock
  rmdir /var/lib/kubelet/device-plugins /var/lib/kubelet /etc/cni/net.d /etc/cni /var/lib/cni/results /var/lib/cni \
    /run/containerd/s /run/containerd /var/log/containers 2>/dev/null || true
}
