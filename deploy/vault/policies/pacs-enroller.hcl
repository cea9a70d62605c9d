# People who enrol modalities: sign a DicomPeer's request, read which identity its role stands for, revoke a
# modality's certificate and publish the CRL. No component's role, no role's change.

path "pacs/+/peers/sign/peer.*" {
  capabilities       = ["update"]
  allowed_parameters = { "csr" = [], "ttl" = [], "format" = ["pem"] }
}

path "pacs/+/peers/roles/peer.*" {
  capabilities = ["read"]
}

path "pacs/+/peers/revoke" {
  capabilities        = ["update"]
  allowed_parameters  = { "serial_number" = [] }
  required_parameters = ["serial_number"]
}

path "pacs/+/peers/crl/rotate" {
  capabilities = ["read"]
}
