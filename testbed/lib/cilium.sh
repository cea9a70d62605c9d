# shellcheck shell=bash
# Cilium as CNI and policy engine: one agent, no operator, no Envoy, beside kube-proxy.

CILIUM=$STATE/cilium

# The agent writes feature headers beside its BPF sources, so it gets a copy; it calls its compiler "clang".
prepare_cilium() {
  local share key
  key=$(component_key cilium)
  share=$CACHE/cilium/$key/share
  mkdir -p "$CILIUM"/{path,bpffs,cgroup2,ready}
  rm -f "$CILIUM"/ready/*
  ln -sfn "$(command -v clang-19)" "$CILIUM/path/clang"
  if [ "$(cat "$CILIUM/lib.key" 2>/dev/null)" != "$key" ]; then
    rm -rf "${CILIUM:?}/lib"
    mkdir -p "$CILIUM/lib"
    cp -r "$share/bpf" "$CILIUM/lib/bpf"
    echo "$key" >"$CILIUM/lib.key"
  fi
  mountpoint -q "$CILIUM/bpffs" || mount -t bpf bpffs "$CILIUM/bpffs"
}

# apply_cilium_crds: once per version, because it takes two seconds
apply_cilium_crds() {
  local key crds
  key=$(component_key cilium)
  [ "$(cat "$CILIUM/crds.key" 2>/dev/null)" != "$key" ] || return 0
  crds=$CACHE/cilium/$key/share/pkg/k8s/apis/cilium.io/client/crds
  kubectl_admin apply --server-side --force-conflicts -f "$crds/v2" -f "$crds/v2alpha1" >"$LOG_DIR/cilium-crds.log" 2>&1 ||
    { show_log cilium-crds; die "Cilium's resource definitions were refused" "its log: $LOG_DIR/cilium-crds.log"; }
  echo "$key" >"$CILIUM/crds.key"
}

start_cilium() {
  # identity-change-grace-period: a changed label acts at once; policy-cidr-match-mode: ipBlock matches pods and nodes
  K8S_NODE_NAME=$NODE PATH=$CILIUM/path:$PATH process_start cilium "${ENTER_NODE[@]}" "$BIN/cilium-agent" \
    --k8s-kubeconfig-path="$STATE/cilium.kubeconfig" --lib-dir="$CILIUM/lib" --bpf-root="$CILIUM/bpffs" \
    --cgroup-root="$CILIUM/cgroup2" --enable-ipv4=true --enable-ipv6=false --ipam=kubernetes \
    --routing-mode=native --ipv4-native-routing-cidr="$POD_CIDR" --devices=eth0 --identity-allocation-mode=crd \
    --kube-proxy-replacement=false --bpf-lb-sock=false --enable-l7-proxy=false --enable-envoy-config=false \
    --enable-ipv4-masquerade=false --enable-bpf-masquerade=false --enable-bandwidth-manager=false \
    --enable-health-checking=false --enable-endpoint-health-checking=false --cni-exclusive=false \
    --write-cni-conf-when-ready="$CILIUM/ready/05-cilium.conflist" --cni-log-file="$LOG_DIR/cni.log" \
    --enable-hubble=true --preallocate-bpf-maps=false --policy-cidr-match-mode=nodes,pods \
    --identity-change-grace-period=100ms --bpf-ct-global-tcp-max=65536 --bpf-ct-global-any-max=32768 \
    --bpf-lb-map-max=4096 --bpf-auth-map-max=1024
}

cilium_ready() { test -s "$CILIUM/ready/05-cilium.conflist" && "$BIN/cilium-dbg" status --brief; }

# containerd 1.6 misses the agent's write-and-rename: the file is written in place, twice so that an event is seen
publish_cni_config() {
  for _ in 1 2; do cat "$CILIUM/ready/05-cilium.conflist" >"$STATE/cni/net.d/05-cilium.conflist"; done
}

policy_enforcement() { "$BIN/cilium-dbg" config get PolicyEnforcement 2>/dev/null | awk '{print $NF}'; }

policies_word() {
  case $(policy_enforcement) in
    never) echo OFF ;;
    '') echo unknown ;;
    *) echo on ;;
  esac
}

# The change makes a new revision of the rules, which each pod then takes over by itself.
policy_revision() { "$BIN/cilium-dbg" policy get -o json 2>/dev/null | jq -re .revision; }

revision_after() { [ "$(policy_revision)" -gt "$1" ]; }

# set_enforcement MODE: returns when it holds in every pod
set_enforcement() {
  local before
  [ "$(policy_enforcement)" != "$1" ] || return 0
  before=$(policy_revision)
  "$BIN/cilium-dbg" config "PolicyEnforcement=$1" >/dev/null || die "Cilium refused the change" "see $LOG_DIR/cilium.log"
  until_ok 30 "new rules after the change" revision_after "$before"
  "$BIN/cilium-dbg" policy wait $((before + 1)) --max-wait-time 30 --fail-wait-time 30 >/dev/null ||
    die "not every pod took over the change within 30 s" "see: cilium-dbg endpoint list"
}

command_policies() {
  local mode
  case "$*" in
    on) mode=default ;;
    off) mode=never ;;
    *) misuse "policies needs 'on' or 'off'" ;;
  esac
  require_root
  require_running
  set_enforcement "$mode"
  say "network policies are ${1}"
}
