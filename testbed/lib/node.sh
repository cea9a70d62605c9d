# shellcheck shell=bash
# containerd, kubelet, kube-proxy.

VOLUMES=$STATE/volumes
BUNDLES=$RUN/containerd/io.containerd.runtime.v2.task/k8s.io

containerd_ctl() { ctr --address "$CONTAINERD_SOCKET" --namespace k8s.io "$@"; }

# The agent of Cilium names its plugin by this folder too, so all plugins are in one.
link_cni_plugins() {
  local plugin
  mkdir -p "$STATE/cni/bin" "$STATE/cni/net.d"
  for plugin in /usr/lib/cni/*; do ln -sfn "$plugin" "$STATE/cni/bin/"; done
  ln -sfn "$(readlink -f "$BIN/cilium-cni")" "$STATE/cni/bin/cilium-cni"
}

write_containerd_config() {
  cat >"$STATE/containerd.toml" <<EOF
version = 2
root = "$STATE/containerd"
state = "$RUN/containerd"
[grpc]
  address = "$CONTAINERD_SOCKET"
[plugins."io.containerd.internal.v1.opt"]
  path = "$STATE/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$PAUSE_IMAGE"
  # without CAP_SYS_RESOURCE runc fails with "can't get final child's PID from pipe"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$STATE/cni/bin"
    conf_dir = "$STATE/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "$RUN/runc"
EOF
}

start_containerd() {
  mkdir -p "$RUN" "$STATE/containerd"
  link_cni_plugins
  write_containerd_config
  process_start containerd "${ENTER_NODE[@]}" containerd --config "$STATE/containerd.toml"
}

write_kubelet_config() {
  echo "nameserver 127.0.0.1" >"$STATE/resolv.conf" # nobody's but the kubelet's own
  cat >"$STATE/kubelet.yaml" <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $STATE/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $STATE/pki/kubelet.crt
tlsPrivateKeyFile: $STATE/pki/kubelet.key
containerRuntimeEndpoint: unix://$CONTAINERD_SOCKET
clusterDNS: ["$DNS_ADDRESS"]
clusterDomain: cluster.local
resolvConf: $STATE/resolv.conf
podLogsDir: $STATE/podlogs
volumePluginDir: $STATE/kubelet/volume-plugins
cgroupDriver: cgroupfs
failCgroupV1: false # 1.35 refuses cgroup v1 otherwise
failSwapOn: false
# a shared machine: the kubelet must neither reserve nor evict because of what others do
enforceNodeAllocatable: []
evictionHard: {}
localStorageCapacityIsolation: false
EOF
}

start_kubelet() {
  mkdir -p "$STATE/kubelet" "$STATE/podlogs"
  write_kubelet_config
  process_start kubelet "${ENTER_NODE[@]}" "$BIN/kubelet" --config="$STATE/kubelet.yaml" \
    --kubeconfig="$STATE/kubelet-client.kubeconfig" --hostname-override="$NODE" --node-ip="$NODE_ADDRESS" \
    --root-dir="$STATE/kubelet"
}

start_proxy() {
  cat >"$STATE/proxy.yaml" <<EOF
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $STATE/proxy.kubeconfig}
mode: iptables
iptables: {minSyncPeriod: 100ms} # few rules here: what changed shall act soon
clusterCIDR: $POD_CIDR
hostnameOverride: $NODE
# limits of connection tracking belong to the whole machine: left alone
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
EOF
  process_start proxy "${ENTER_NODE[@]}" "$BIN/kube-proxy" --config="$STATE/proxy.yaml"
}

# start_volumes: file systems in image files are mounted again before the kubelet gives them to pods
start_volumes() {
  local file folder
  mkdir -p "$VOLUMES"
  for file in "$VOLUMES"/*.img; do
    [ -f "$file" ] || continue
    folder=${file%.img}
    mountpoint -q "$folder" || mount -o loop,nosuid,nodev "$file" "$folder"
  done
  process_start hostpath "${ENTER_NODE[@]}" "$BIN/hostpath" -kubeconfig "$STATE/hostpath.kubeconfig" -folder "$VOLUMES" -node "$NODE"
}

running_tasks() { containerd_ctl tasks ls 2>/dev/null | awk '$3 == "RUNNING" {print $1}'; }

no_running_tasks() { [ -z "$(running_tasks)" ]; }

# stop_containers SIGNAL: stopping containerd alone would leave them running
stop_containers() {
  [ -S "$CONTAINERD_SOCKET" ] && process_alive containerd || return 0
  remember_sandboxes
  local id
  if [ "$1" = TERM ]; then
    for id in $(running_tasks); do containerd_ctl tasks kill --signal SIGTERM "$id" 2>/dev/null || true; done
    until_ok 20 "containers end by themselves" no_running_tasks || say "the rest of the containers is killed"
  fi
  for id in $(running_tasks); do containerd_ctl tasks kill --signal SIGKILL "$id" 2>/dev/null || true; done
  until_ok 20 "killed containers are gone" no_running_tasks || true
}

node_ready() { kubectl_admin wait --for=condition=Ready "node/$NODE" --timeout=1s; }

# After a restart the API server still tells what was true before it: containers that run no more, nodes that are Ready.
# statuses_current: every container that it calls running is one that containerd runs
statuses_current() {
  local told running
  running=" $(running_tasks | tr '\n' ' ') "
  for told in $(kubectl_admin get pods -A -o json |
    jq -r '.items[].status | (.containerStatuses, .initContainerStatuses)[]? | select(.state.running) | .containerID'); do
    [[ $running == *" ${told##*/} "* ]] || return 1
  done
}

# end_container_remains: processes of our containers whose runtime is gone, found by the containers' own cgroups
end_container_remains() {
  local folder group pid
  for folder in "$BUNDLES"/*; do
    [ -d "$folder" ] || continue
    for group in $(grep -ls "/${folder##*/}" /proc/[0-9]*/cgroup || true); do
      pid=${group#/proc/}
      kill -s KILL "${pid%/cgroup}" 2>/dev/null || true
    done
  done
}
