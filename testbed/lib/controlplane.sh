# shellcheck shell=bash
# etcd, API server, controller-manager, scheduler.

# Who wrote what, and nothing about reads or contents: tests count writes by it.
write_audit_policy() {
  cat >"$1" <<'EOF'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  verbs: [get, list, watch]
- level: None
  resources: [{group: coordination.k8s.io, resources: [leases]}]
- level: Metadata
EOF
}

# apiserver_flags PKI-FOLDER ETCD-URL LOG: those that both tiers share
apiserver_flags() {
  echo "--etcd-servers=$2"
  echo "--tls-cert-file=$1/apiserver.crt" "--tls-private-key-file=$1/apiserver.key" "--client-ca-file=$1/ca.crt"
  echo "--service-account-key-file=$1/sa.pub" "--service-account-signing-key-file=$1/sa.key"
  echo --service-account-issuer=https://kubernetes.default.svc.cluster.local
  echo "--service-cluster-ip-range=$SERVICE_CIDR" --allow-privileged=true
  echo "--audit-policy-file=$1/audit-policy.yaml" "--audit-log-path=$3" --audit-log-maxsize=100 --audit-log-maxbackup=1
}

start_etcd() {
  # without fsync: a test cluster may lose its last writes in a power cut of the whole machine
  process_start etcd "${ENTER_NODE[@]}" "$BIN/etcd" --data-dir "$STATE/etcd" --unsafe-no-fsync --log-level=warn \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380
}

start_apiserver() {
  local pki=$STATE/pki flags
  write_audit_policy "$pki/audit-policy.yaml"
  read -r -d '' -a flags < <(apiserver_flags "$pki" http://127.0.0.1:2379 "$LOG_DIR/audit.log") || true
  process_start apiserver "${ENTER_NODE[@]}" "$BIN/kube-apiserver" "${flags[@]}" --bind-address=0.0.0.0 \
    --advertise-address="$NODE_ADDRESS" --secure-port=6443 \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --kubelet-client-certificate="$pki/apiserver-kubelet.crt" --kubelet-client-key="$pki/apiserver-kubelet.key" \
    --kubelet-preferred-address-types=InternalIP --shutdown-watch-termination-grace-period=1s
}

apiserver_ready() { kubectl_admin get --raw /readyz; }

start_controllers() {
  local pki=$STATE/pki
  process_start controller-manager "${ENTER_NODE[@]}" "$BIN/kube-controller-manager" \
    --kubeconfig="$STATE/controller-manager.kubeconfig" --use-service-account-credentials --leader-elect=false \
    --service-account-private-key-file="$pki/sa.key" --root-ca-file="$pki/ca.crt" \
    --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" \
    --allocate-node-cidrs --cluster-cidr="$POD_CIDR" --node-cidr-mask-size=24 \
    --service-cluster-ip-range="$SERVICE_CIDR" --flex-volume-plugin-dir="$STATE/kubelet/volume-plugins"
  process_start scheduler "${ENTER_NODE[@]}" "$BIN/kube-scheduler" --kubeconfig="$STATE/scheduler.kubeconfig" --leader-elect=false
}
