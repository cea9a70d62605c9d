# shellcheck shell=bash
# Keys and certificates of a test cluster: elliptic curve, ten years, made once.

PKI_DAYS=3650

# pki_ca FOLDER NAME: ca.key and ca.crt
pki_ca() {
  mkdir -p "$1"
  chmod 700 "$1"
  [ -s "$1/ca.crt" ] && return
  openssl ecparam -name prime256v1 -genkey -noout -out "$1/ca.key"
  openssl req -x509 -new -key "$1/ca.key" -subj "/CN=$2" -days "$PKI_DAYS" -out "$1/ca.crt.part" \
    -addext "keyUsage=critical,keyCertSign,cRLSign"
  mv "$1/ca.crt.part" "$1/ca.crt"
}

# pki_leaf FOLDER NAME SUBJECT EXTENSIONS: signed by the folder's CA
pki_leaf() {
  local name=$1/$2
  [ -s "$name.crt" ] && return
  openssl ecparam -name prime256v1 -genkey -noout -out "$name.key"
  openssl req -new -key "$name.key" -subj "$3" -out "$name.csr"
  openssl x509 -req -in "$name.csr" -CA "$1/ca.crt" -CAkey "$1/ca.key" -CAcreateserial -days "$PKI_DAYS" \
    -extfile <(printf '%s\n' "$4") -out "$name.crt.part" 2>/dev/null
  mv "$name.crt.part" "$name.crt"
  rm -f "$name.csr"
}

# pki_server FOLDER NAME SUBJECT ALTERNATIVE-NAMES
pki_server() { pki_leaf "$1" "$2" "$3" "extendedKeyUsage=serverAuth"$'\n'"subjectAltName=$4"; }

# pki_client FOLDER NAME SUBJECT
pki_client() { pki_leaf "$1" "$2" "$3" "extendedKeyUsage=clientAuth"; }

# pki_service_accounts FOLDER: the key that signs ServiceAccounts' tokens
pki_service_accounts() {
  [ -s "$1/sa.pub" ] && return
  openssl genrsa -out "$1/sa.key" 2048 2>/dev/null
  openssl rsa -in "$1/sa.key" -pubout -out "$1/sa.pub.part" 2>/dev/null
  mv "$1/sa.pub.part" "$1/sa.pub"
}

# write_kubeconfig FILE SERVER FOLDER CLIENT: self-contained, so that it works wherever it is copied
write_kubeconfig() {
  local pki=$3
  (umask 077 && cat >"$1.part") <<EOF
apiVersion: v1
kind: Config
clusters:
- name: testbed
  cluster: {server: "$2", certificate-authority-data: $(base64 -w0 <"$pki/ca.crt")}
users:
- name: $4
  user: {client-certificate-data: $(base64 -w0 <"$pki/$4.crt"), client-key-data: $(base64 -w0 <"$pki/$4.key")}
contexts:
- name: testbed
  context: {cluster: testbed, user: $4}
current-context: testbed
EOF
  mv "$1.part" "$1"
}

cluster_pki() {
  local pki=$STATE/pki user
  pki_ca "$pki" testbed-ca
  pki_service_accounts "$pki"
  pki_server "$pki" apiserver /CN=kube-apiserver \
    "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:$NODE_ADDRESS,IP:10.96.0.1,IP:127.0.0.1"
  pki_server "$pki" kubelet "/CN=$NODE" "DNS:$NODE,IP:$NODE_ADDRESS"
  pki_client "$pki" apiserver-kubelet /O=system:masters/CN=apiserver-kubelet-client
  pki_client "$pki" admin /O=system:masters/CN=admin
  pki_client "$pki" controller-manager /CN=system:kube-controller-manager
  pki_client "$pki" scheduler /CN=system:kube-scheduler
  pki_client "$pki" kubelet-client "/O=system:nodes/CN=system:node:$NODE"
  pki_client "$pki" proxy /CN=system:kube-proxy
  pki_client "$pki" cilium /O=system:masters/CN=cilium
  pki_client "$pki" hostpath /O=system:masters/CN=hostpath-provisioner
  for user in admin controller-manager scheduler kubelet-client proxy cilium hostpath; do
    [ -s "$STATE/$user.kubeconfig" ] ||
      write_kubeconfig "$STATE/$user.kubeconfig" "https://$NODE_ADDRESS:6443" "$pki" "$user"
  done
}
