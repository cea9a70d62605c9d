# shellcheck shell=bash
# What must be there before anything is changed. Each check says what is wrong and what to do.

# command:Debian package
NODE_COMMANDS=(containerd:containerd runc:runc iptables:iptables ipset:ipset conntrack:conntrack clang-19:clang-19
  llc-19:llvm-19 skopeo:skopeo jq:jq ip:iproute2 nsenter:util-linux mount:mount openssl:openssl mkfs.ext4:e2fsprogs
  modprobe:kmod curl:curl)

# install_commands COMMAND:PACKAGE...: installs the packages of the commands that are not there
install_commands() {
  local pair missing=()
  for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  local by_hand="apt-get install --no-install-recommends ${missing[*]}"
  [ -z "${PACS_TESTBED_NO_APT:-}" ] || die "these Debian packages are missing: ${missing[*]}" "run: $by_hand"
  command -v apt-get >/dev/null || die "these programs are missing and there is no apt-get: ${missing[*]}" \
    "install them by this system's own means"
  require_root
  say "installing Debian packages: ${missing[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" >"$CACHE/apt.log" 2>&1 ||
    { apt-get update >>"$CACHE/apt.log" 2>&1 && DEBIAN_FRONTEND=noninteractive \
      apt-get install -y --no-install-recommends "${missing[@]}" >>"$CACHE/apt.log" 2>&1; } ||
    die "installing ${missing[*]} failed" "see $CACHE/apt.log; by hand: apt-get update; $by_hand"
}

# require_build_tools COMPONENT...: compilers, only when something has to be built
require_build_tools() {
  local component version minimum
  for component in "$@"; do
    case $component in
      pause) install_commands gcc:gcc
        [ -e "$(gcc -print-file-name=libc.a)" ] || die "the static C library is missing" "install libc6-dev" ;;
      openbao) python3 -m pip --version >/dev/null 2>&1 || install_commands pip3:python3-pip ;;
      *)
        minimum=$(awk '$1 == "go" {print $2}' "$BUILD_DIR/$component/go.mod")
        command -v go >/dev/null || die "Go is not installed" "install Go $minimum or later"
        # Asked inside the module: from 1.21 on an older Go fetches the one that go.mod names.
        version=$(cd "$BUILD_DIR/$component" && go env GOVERSION) ||
          die "Go cannot be used for $component; what it said is above" "install Go $minimum or later"
        version=${version#go}
        printf '%s\n%s\n' "$minimum" "$version" | sort -V -C ||
          die "Go $version is too old for $component" "install Go $minimum or later" ;;
    esac
  done
}

# require_space FOLDER GIBIBYTES WHAT-FOR
require_space() {
  local free
  free=$(df --output=avail -k "$1" | tail -1)
  [ "$free" -ge $(($2 * 1024 * 1024)) ] ||
    die "$((free / 1024 / 1024)) GiB are free at $1; $2 GiB are needed $3" "free some space or use another folder"
}

require_memory() {
  local available
  available=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)
  [ "$available" -ge $((2 * 1024 * 1024)) ] ||
    die "$((available / 1024)) MiB of memory are available; the cluster needs 2048" "end something"
}

require_kernel() {
  [ -r /sys/kernel/btf/vmlinux ] || die "this kernel has no BTF type information" "Cilium needs CONFIG_DEBUG_INFO_BTF"
  [ -d /sys/fs/cgroup ] || die "cgroups are not mounted at /sys/fs/cgroup" "mount them"
  local module
  for module in br_netfilter overlay; do # built in on some kernels: failure shows later, where it is needed
    modprobe -q "$module" 2>/dev/null || true
  done
}

# require_addresses: nobody else's interface or route may lie in the node's network
require_addresses() {
  local taken
  taken=$( (ip -4 -o address show to 198.18.0.0/15 && ip -4 -o route show root 198.18.0.0/15) | grep -v "v-$NODE" | head -1) || true
  [ -z "$taken" ] || die "a part of 198.18.0.0/15 is in use on this machine: $taken" \
    "the testbed needs that range for itself: release it"
}

# clear_leftovers: what a crash or a reboot left behind
clear_leftovers() {
  local file
  for file in "$PROCESS_DIR"/*; do
    [ -f "$file" ] || continue
    process_alive "${file##*/}" || rm -f "$file"
  done
  end_strays "$CACHE/"
}

preflight() {
  require_root
  mkdir -p "$CACHE" "$STATE"
  install_commands "${NODE_COMMANDS[@]}"
  [ -x /usr/lib/cni/loopback ] || install_cni_plugins
  require_kernel
  require_space "$STATE" 4 "for images and volumes"
  require_memory
  require_addresses
  clear_leftovers
}

# The plugins are no commands on the PATH, so they are looked for by file.
install_cni_plugins() {
  install_commands /usr/lib/cni/loopback:containernetworking-plugins
  [ -x /usr/lib/cni/loopback ] || die "/usr/lib/cni/loopback is missing" "install containernetworking-plugins"
}
