# shellcheck shell=bash
# A modality is a device outside the cluster: a network namespace with its own address and a link to the node.

MODALITIES=$STATE/modality

modality_namespace() { echo "pacs-mod-$1"; }

check_modality_name() {
  [[ $1 =~ ^[a-z][a-z0-9-]{0,10}$ ]] ||
    misuse "'$1' is no modality name: a letter, then at most 10 letters, digits or '-'"
}

# check_modality_address ADDRESS: inside the benchmark range, outside the node's own network, not a gateway's
check_modality_address() {
  [[ $1 =~ ^198\.(18|19)\.([0-9]{1,3})\.([0-9]{1,3})$ ]] && [ "${BASH_REMATCH[2]}" -le 255 ] &&
    [ "${BASH_REMATCH[3]}" -ge 2 ] && [ "${BASH_REMATCH[3]}" -le 254 ] && [[ $1 != 198.18.0.* ]] ||
    misuse "'$1' is no modality address: 198.18.1.2 to 198.19.255.254, not in 198.18.0.0/24, last number 2 to 254"
}

known_modality() { [ -f "$MODALITIES/$1" ] || die "there is no modality '$1'" "see: testbed modality list"; }

# modality_up NAME ADDRESS: each address is a /32, so that devices of one subnet reach each other through the node
modality_up() {
  local name=$1 address=$2 namespace gateway=${2%.*}.1
  namespace=$(modality_namespace "$name")
  [ -e "/run/netns/$namespace" ] || ip netns add "$namespace"
  if ! ip -n "$NODE" link show "m-$name" >/dev/null 2>&1; then
    ip link add eth0 netns "$namespace" type veth peer name "m-$name" netns "$NODE"
  fi
  ip -n "$namespace" addr replace "$address/32" dev eth0
  ip -n "$namespace" link set lo up
  ip -n "$namespace" link set eth0 up
  ip -n "$NODE" addr replace "$gateway/32" dev "m-$name"
  ip -n "$NODE" link set "m-$name" up
  ip -n "$NODE" route replace "$address/32" dev "m-$name"
  ip -n "$namespace" route replace "$gateway/32" dev eth0
  ip -n "$namespace" route replace default via "$gateway" src "$address"
}

# start_modalities: those that were there before a reboot
start_modalities() {
  local file
  for file in "$MODALITIES"/*; do
    [ ! -f "$file" ] || modality_up "${file##*/}" "$(cat "$file")"
  done
}

modality_add() {
  local name=$1 address=$2 other
  mkdir -p "$MODALITIES"
  if [ -f "$MODALITIES/$name" ]; then
    [ "$(cat "$MODALITIES/$name")" = "$address" ] ||
      die "modality '$name' exists with the address $(cat "$MODALITIES/$name")" "delete it first, or take another name"
  fi
  other=$(grep -lx -F "$address" "$MODALITIES"/* 2>/dev/null | grep -v "/$name\$" | head -1) || true
  [ -z "$other" ] || die "the address $address belongs to modality '${other##*/}'" "take another"
  modality_up "$name" "$address"
  echo "$address" >"$MODALITIES/$name"
}

modality_delete() {
  local name=$1 namespace pid
  namespace=$(modality_namespace "$name")
  if [ -e "/run/netns/$namespace" ]; then
    for pid in $(ip netns pids "$namespace"); do end_process "$pid" TERM; done
    ip -n "$NODE" link delete "m-$name" 2>/dev/null || true
    ip netns delete "$namespace"
  fi
  rm -f "$MODALITIES/$name"
}

modality_list() {
  local file
  for file in "$MODALITIES"/*; do
    [ ! -f "$file" ] || printf '%s\t%s\n' "${file##*/}" "$(cat "$file")"
  done
}

command_modality() {
  [ $# -ge 1 ] || misuse "modality needs one of: add, delete, list, exec"
  local verb=$1
  shift
  case $verb in
    add)
      [ $# -eq 2 ] || misuse "modality add needs NAME and ADDRESS"
      check_modality_name "$1"
      check_modality_address "$2"
      require_root
      [ -e "/run/netns/$NODE" ] || die "there is no node to connect to" "run: testbed start"
      with_lock modality_add "$1" "$2" ;;
    delete)
      [ $# -eq 1 ] || misuse "modality delete needs NAME"
      check_modality_name "$1"
      require_root
      with_lock modality_delete "$1" ;;
    list) modality_list ;;
    exec)
      [ $# -ge 2 ] || misuse "modality exec needs NAME and COMMAND"
      check_modality_name "$1"
      require_root
      known_modality "$1"
      local name=$1
      shift
      exec nsenter --net="/run/netns/$(modality_namespace "$name")" -- "$@" ;;
    *) misuse "modality knows no '$verb', only: add, delete, list, exec" ;;
  esac
}
