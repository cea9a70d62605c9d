# Every pod of every archive: have its own leaves signed, nothing else.
#
# The path is filled in by Vault from the ServiceAccount that logged in, so a pod in namespace "radiology-edge" under
# ServiceAccount "gate" can use the roles "radiology-edge.gate.*" only. It can revoke nothing, read no role, list
# nothing. A request names a key and asks for a life; "not_after", "alt_names" and every other parameter that would
# widen a certificate is refused here already, whatever the role says.

path "pacs/+/peers/sign/{{identity.entity.aliases.@AUTH_ACCESSOR@.metadata.service_account_namespace}}.{{identity.entity.aliases.@AUTH_ACCESSOR@.metadata.service_account_name}}.*" {
  capabilities       = ["update"]
  allowed_parameters = { "csr" = [], "ttl" = [], "format" = ["pem"] }
}

path "pacs/+/internal/sign/{{identity.entity.aliases.@AUTH_ACCESSOR@.metadata.service_account_namespace}}.{{identity.entity.aliases.@AUTH_ACCESSOR@.metadata.service_account_name}}.*" {
  capabilities       = ["update"]
  allowed_parameters = { "csr" = [], "ttl" = [], "format" = ["pem"] }
}

path "pacs/+/control/sign/{{identity.entity.aliases.@AUTH_ACCESSOR@.metadata.service_account_namespace}}.{{identity.entity.aliases.@AUTH_ACCESSOR@.metadata.service_account_name}}.*" {
  capabilities       = ["update"]
  allowed_parameters = { "csr" = [], "ttl" = [], "format" = ["pem"] }
}

# Data keys: made and unwrapped under the Transit key that bears this ServiceAccount's name, with a context (the key is
# derived: what one context wrapped, no other opens). Nothing here reads, rotates, exports or deletes a Transit key.
path "pacs/+/data/datakey/plaintext/{{identity.entity.aliases.@AUTH_ACCESSOR@.metadata.service_account_namespace}}.{{identity.entity.aliases.@AUTH_ACCESSOR@.metadata.service_account_name}}" {
  capabilities        = ["update"]
  allowed_parameters  = { "context" = [], "bits" = ["256"] }
  required_parameters = ["context"]
}

path "pacs/+/data/decrypt/{{identity.entity.aliases.@AUTH_ACCESSOR@.metadata.service_account_namespace}}.{{identity.entity.aliases.@AUTH_ACCESSOR@.metadata.service_account_name}}" {
  capabilities        = ["update"]
  allowed_parameters  = { "context" = [], "ciphertext" = [] }
  required_parameters = ["context", "ciphertext"]
}

path "pacs/+/data/rewrap/{{identity.entity.aliases.@AUTH_ACCESSOR@.metadata.service_account_namespace}}.{{identity.entity.aliases.@AUTH_ACCESSOR@.metadata.service_account_name}}" {
  capabilities        = ["update"]
  allowed_parameters  = { "context" = [], "ciphertext" = [] }
  required_parameters = ["context", "ciphertext"]
}
