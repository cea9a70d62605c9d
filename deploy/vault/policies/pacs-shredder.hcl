# Shredding one archive's images: destroy the one Transit key above their data keys, and prove it beside a key that
# lives. deploy/vault/shred writes this for one lineage, hands out one token of minutes, and takes both away again.

path "pacs/@LINEAGE@/data/keys/@KEY@" {
  capabilities = ["read", "delete"]
}
path "pacs/@LINEAGE@/data/keys/@KEY@/config" {
  capabilities        = ["update"]
  allowed_parameters  = { "deletion_allowed" = [true, "true"] }
  required_parameters = ["deletion_allowed"]
}
path "pacs/@LINEAGE@/data/encrypt/@KEY@" {
  capabilities        = ["update"]
  allowed_parameters  = { "context" = [], "plaintext" = [] }
  required_parameters = ["context", "plaintext"]
}
path "pacs/@LINEAGE@/data/decrypt/@KEY@" {
  capabilities        = ["update"]
  allowed_parameters  = { "context" = [], "ciphertext" = [] }
  required_parameters = ["context", "ciphertext"]
}

# The twin of the proof: a key of this run's own.
path "pacs/@LINEAGE@/data/keys/shred-proof" {
  capabilities = ["create", "update", "read", "delete"]
}
path "pacs/@LINEAGE@/data/keys/shred-proof/config" {
  capabilities = ["update"]
}
path "pacs/@LINEAGE@/data/encrypt/shred-proof" {
  capabilities = ["update"]
}
path "pacs/@LINEAGE@/data/decrypt/shred-proof" {
  capabilities = ["update"]
}
