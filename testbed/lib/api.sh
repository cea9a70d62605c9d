# shellcheck shell=bash
# The API-only tier: etcd and kube-apiserver on loopback, for schema, CEL, admission, RBAC. Disposable, needs no root.

API_STATE=$PACS_TESTBED_API_STATE
API_KUBECONFIG=$API_STATE/admin.kubeconfig

port_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

api_ready() { "$API_STATE/bin/kubectl" --kubeconfig="$API_KUBECONFIG" get --raw /readyz; }

api_pki() {
  local pki=$API_STATE/pki
  pki_ca "$pki" testbed-api-ca
  pki_service_accounts "$pki"
  pki_server "$pki" apiserver /CN=kube-apiserver "DNS:localhost,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1"
  pki_client "$pki" admin /O=system:masters/CN=admin
  write_kubeconfig "$API_KUBECONFIG" "https://127.0.0.1:$PACS_TESTBED_API_PORT" "$pki" admin
  write_audit_policy "$pki/audit-policy.yaml"
}

api_start() {
  local port=$PACS_TESTBED_API_PORT client=$((PACS_TESTBED_API_PORT + 1)) peer=$((PACS_TESTBED_API_PORT + 2)) flags taken
  if process_alive api-apiserver && process_alive api-etcd && api_ready >/dev/null 2>&1; then
    say "the API server runs already: $API_KUBECONFIG"
    return
  fi
  mkdir -p "$CACHE" 2>/dev/null || true
  build_components "${API_COMPONENTS[@]}"
  api_stop
  for taken in "$port" "$client" "$peer"; do
    ! port_taken "$taken" || die "port $taken of 127.0.0.1 is in use" "set PACS_TESTBED_API_PORT to another"
  done
  mkdir -p "$API_STATE"
  echo "state folder of testbed api" >"$API_STATE/.testbed"
  link_binaries "$API_STATE/bin" "${API_COMPONENTS[@]}"
  api_pki
  process_start api-etcd "$API_STATE/bin/etcd" --data-dir "$API_STATE/etcd" --unsafe-no-fsync --log-level=warn \
    --listen-client-urls "http://127.0.0.1:$client" --advertise-client-urls "http://127.0.0.1:$client" \
    --listen-peer-urls "http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer" \
    --initial-cluster "default=http://127.0.0.1:$peer"
  read -r -d '' -a flags < <(apiserver_flags "$API_STATE/pki" "http://127.0.0.1:$client" "$LOG_DIR/audit.log") || true
  # no controller makes ServiceAccounts here: their admission would refuse every pod
  process_start api-apiserver "$API_STATE/bin/kube-apiserver" "${flags[@]}" --bind-address=127.0.0.1 \
    --advertise-address=127.0.0.1 --secure-port="$port" --authorization-mode=RBAC \
    --disable-admission-plugins=ServiceAccount --endpoint-reconciler-type=none
  process_serves api-apiserver 60 api_ready
  say "the API server serves; its kubeconfig: $API_KUBECONFIG"
}

# api_stop: the API server may go at once, its data are thrown away
api_stop() {
  process_stop api-apiserver KILL
  process_stop api-etcd KILL
  [ -e "$API_STATE" ] || return 0
  [ -f "$API_STATE/.testbed" ] || [ -z "$(ls -A "$API_STATE")" ] ||
    die "$API_STATE is not a state folder of testbed api: not removed" "set PACS_TESTBED_API_STATE to another folder"
  rm -rf "$API_STATE"
}

command_api() {
  [ $# -eq 1 ] || misuse "api needs one of: start, stop, kubeconfig"
  PROCESS_DIR=$API_STATE/run
  LOG_DIR=$API_STATE/log
  case $1 in
    start | stop)
      mkdir -p "$(dirname "$API_STATE")" 2>/dev/null || true
      exec 9>"$API_STATE.lock" || die "cannot write beside $API_STATE" "set PACS_TESTBED_API_STATE"
      flock 9
      "api_$1"
      if [ "$1" = stop ]; then rm -f "$API_STATE.lock"; say "the API server is stopped, its state removed"; fi ;;
    kubeconfig)
      [ -s "$API_KUBECONFIG" ] || die "the API server does not run" "run: testbed api start"
      echo "$API_KUBECONFIG" ;;
    *) misuse "api knows no '$1', only: start, stop, kubeconfig" ;;
  esac
}
