# shellcheck shell=bash
# The node's network namespace and its one link to the host. Each step may be repeated.

network_up() {
  [ -e "/run/netns/$NODE" ] || ip netns add "$NODE"
  if ! ip link show "v-$NODE" >/dev/null 2>&1; then
    ip link add "v-$NODE" type veth peer name eth0 netns "$NODE"
  fi
  ip addr replace "$HOST_ADDRESS/24" dev "v-$NODE"
  ip link set "v-$NODE" up
  ip -n "$NODE" addr replace "$NODE_ADDRESS/24" dev eth0
  ip -n "$NODE" link set lo up
  ip -n "$NODE" link set eth0 up
  ip -n "$NODE" route replace default via "$HOST_ADDRESS"
  in_node sysctl -qw net.ipv4.ip_forward=1
}

network_down() {
  [ -e "/run/netns/$NODE" ] || return 0
  local link
  for link in $(ip -n "$NODE" -o link | grep -oE '\b(lxc|cilium_)[0-9a-z_]+' | sort -u); do
    ip -n "$NODE" link delete "$link" 2>/dev/null || true
  done
  ip link delete "v-$NODE" 2>/dev/null || true
  ip netns delete "$NODE"
}

# pod_namespaces_down: the runtime's namespaces of pods that are gone
pod_namespaces_down() {
  local name
  for name in $(cat "$STATE/pod-namespaces" 2>/dev/null); do
    ip netns delete "$name" 2>/dev/null || true
  done
}

# remember_pod_namespaces: only those of our own pods, because another runtime on this machine names its own alike
remember_pod_namespaces() {
  containerd_ctl containers ls -q 2>/dev/null | while read -r id; do
    containerd_ctl containers info "$id" 2>/dev/null |
      jq -r '.Spec.linux.namespaces[]? | select(.type == "network") | .path // empty'
  done | grep -oE 'cni-[0-9a-f-]+$' | sort -u >"$STATE/pod-namespaces" || true
}
