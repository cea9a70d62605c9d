# shellcheck shell=bash
# What a cluster needs beside the node: cluster DNS, storage class, image registry.

start_registry() {
  mkdir -p "$STATE/registry"
  cat >"$STATE/registry.yaml" <<EOF
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: $STATE/registry}
  delete: {enabled: true}
http: {addr: "$REGISTRY", secret: testbed}
EOF
  OTEL_TRACES_EXPORTER=none process_start registry "${ENTER_NODE[@]}" "$BIN/registry" serve "$STATE/registry.yaml"
}

registry_ready() { in_node curl -fsS --max-time 2 "http://$REGISTRY/v2/"; }

apply_addons() {
  local image
  image=$(own_reference coredns)
  sed "s|@COREDNS_IMAGE@|$image|; s|@DNS_ADDRESS@|$DNS_ADDRESS|" "$TESTBED_DIR"/manifests/*.yaml |
    kubectl_admin apply --server-side --force-conflicts -f - >"$LOG_DIR/addons.log" 2>&1 ||
    { show_log addons; die "the cluster's own manifests were refused" "its log: $LOG_DIR/addons.log"; }
}

# dns_ready: asks the pod itself, because what the API server says of it may be from before a restart
dns_ready() {
  local address
  address=$(kubectl_admin get endpointslices -n kube-system -l kubernetes.io/service-name=kube-dns \
    -o jsonpath='{.items[*].endpoints[?(@.conditions.ready)].addresses[0]}')
  [ -n "$address" ] && in_node curl -fsS --max-time 2 "http://${address%% *}:8181/ready"
}
