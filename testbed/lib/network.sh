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

# remember_sandboxes: "CONTAINER NAMESPACE" of each container, read from the runtime's own files because they outlive it.
# Only ours are ever removed: another runtime on this machine names its namespaces alike.
remember_sandboxes() {
  local bundle
  for bundle in "$BUNDLES"/*; do
    [ -f "$bundle/config.json" ] || continue
    printf '%s %s\n' "${bundle##*/}" "$(jq -r \
      '.linux.namespaces[]? | select(.type == "network") | .path // empty | sub(".*/"; "")' "$bundle/config.json")"
  done >>"$STATE/sandboxes"
  sort -u -o "$STATE/sandboxes" "$STATE/sandboxes"
}

# sandboxes_down: namespaces and records of pods that are gone
sandboxes_down() {
  local container namespace
  [ -d "$STATE" ] || return 0
  remember_sandboxes
  while read -r container namespace; do
    [[ $namespace != cni-* ]] || ip netns delete "$namespace" 2>/dev/null || true
    rm -f /var/lib/cni/results/*-"$container"-*
  done <"$STATE/sandboxes"
}
