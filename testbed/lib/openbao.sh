# shellcheck shell=bash
# One OpenBao server: raft, static seal, TLS, audit. Its set-up (auth methods, policies) is the product's affair.

OPENBAO=$STATE/openbao
OPENBAO_URL=https://$NODE_ADDRESS:8200

prepare_openbao() {
  mkdir -p "$OPENBAO/raft"
  chmod 700 "$OPENBAO"
  pki_ca "$OPENBAO/pki" testbed-openbao-ca
  pki_server "$OPENBAO/pki" server /CN=openbao "DNS:openbao,DNS:localhost,IP:$NODE_ADDRESS,IP:127.0.0.1"
  cp "$OPENBAO/pki/ca.crt" "$OPENBAO/ca.pem"
  [ -s "$OPENBAO/seal.key" ] || (umask 077 && openssl rand 32 >"$OPENBAO/seal.key")
  cat >"$OPENBAO/config.hcl" <<EOF
cluster_name  = "testbed"
api_addr      = "$OPENBAO_URL"
cluster_addr  = "https://$NODE_ADDRESS:8201"
disable_mlock = true
ui            = false
listener "tcp" {
  address         = "$NODE_ADDRESS:8200"
  tls_cert_file   = "$OPENBAO/pki/server.crt"
  tls_key_file    = "$OPENBAO/pki/server.key"
  tls_min_version = "tls12"
}
storage "raft" {
  path    = "$OPENBAO/raft"
  node_id = "$NODE"
}
seal "static" {
  current_key_id = "testbed-1"
  current_key    = "file://$OPENBAO/seal.key"
}
audit "file" "log" {
  options {
    file_path = "$OPENBAO/audit.log"
    mode      = "0600"
  }
}
EOF
}

start_openbao() {
  prepare_openbao
  process_start openbao "${ENTER_NODE[@]}" "$BIN/bao" server -config="$OPENBAO/config.hcl"
}

# bao_command ARGUMENT...: as the administrator
bao_command() {
  BAO_ADDR=$OPENBAO_URL BAO_CACERT=$OPENBAO/ca.pem BAO_TOKEN=$(cat "$OPENBAO/root-token" 2>/dev/null || true) "$BIN/bao" "$@"
}

# bao status exits with 0 when unsealed, 2 when sealed or new, 1 when nothing answers
openbao_answers() {
  local code=0
  bao_command status >/dev/null 2>&1 || code=$?
  [ "$code" -ne 1 ]
}

openbao_unsealed() { bao_command status; }

openbao_active() { curl -fsS --max-time 2 --cacert "$OPENBAO/ca.pem" "$OPENBAO_URL/v1/sys/health"; }

# finish_openbao: initialises on the first start; the token is kept before anything else is done with it
finish_openbao() {
  local answer
  process_serves openbao 30 openbao_answers
  if ! bao_command operator init -status >/dev/null 2>&1; then
    answer=$(bao_command operator init -recovery-shares=1 -recovery-threshold=1 -format=json) ||
      { show_log openbao; die "OpenBao could not be initialised" "its log: $LOG_DIR/openbao.log"; }
    (umask 077
      jq -r '.recovery_keys_b64[0]' <<<"$answer" >"$OPENBAO/recovery-key"
      jq -r .root_token <<<"$answer" >"$OPENBAO/root-token.part")
    mv "$OPENBAO/root-token.part" "$OPENBAO/root-token"
  fi
  [ -s "$OPENBAO/root-token" ] ||
    die "OpenBao is initialised but its root token is lost" "an interrupted first start: run testbed wipe"
  process_serves openbao 30 openbao_active
}

openbao_sealed() { [ "$(bao_command status -format=json | jq .sealed)" = true ]; }

restart_openbao() {
  process_stop openbao
  start_openbao
  finish_openbao
}

command_openbao() {
  [ $# -eq 1 ] || misuse "openbao needs one of: seal, unseal, stop, start, env"
  case $1 in
    seal | unseal | stop | start) require_root; require_running ;;
    env) [ -s "$OPENBAO/root-token" ] || die "OpenBao was never started" "run: testbed start" ;;
    *) misuse "openbao knows no '$1', only: seal, unseal, stop, start, env" ;;
  esac
  "openbao_$1"
}

openbao_env() {
  printf 'export BAO_ADDR=%q\nexport BAO_CACERT=%q\nexport BAO_TOKEN=%q\n' \
    "$OPENBAO_URL" "$OPENBAO/ca.pem" "$(cat "$OPENBAO/root-token")"
}

openbao_seal() {
  process_alive openbao || die "OpenBao is stopped" "run: testbed openbao start"
  if ! openbao_sealed; then
    bao_command operator seal >/dev/null
    until_ok 10 "OpenBao is sealed" openbao_sealed
  fi
  say "OpenBao is sealed"
}

# With a static seal only a restart unseals: the recovery key does not hold the root key.
openbao_unseal() {
  process_alive openbao || die "OpenBao is stopped" "run: testbed openbao start"
  if openbao_sealed; then restart_openbao; fi
  say "OpenBao is unsealed"
}

openbao_stop() {
  process_stop openbao
  say "OpenBao is stopped"
}

openbao_start() {
  start_openbao
  finish_openbao
  say "OpenBao serves at $OPENBAO_URL"
}
