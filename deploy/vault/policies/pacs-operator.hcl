# The operator: create an archive's authorities and roles, with the parameters pinned below. It can sign nothing but
# its own status client certificate, and cannot remove or tune mounts, delete or export keys, write policies, or touch
# its own login role. Vault compares pinned parameters as text or booleans, so the operator sends numbers as text.

# Authorities: three PKI mounts for each lineage, made once. No "delete", no "tune".
path "sys/mounts/pacs/+/peers" {
  capabilities       = ["create", "update", "read"]
  allowed_parameters = { "type" = ["pki"], "description" = [], "config" = [] }
}
path "sys/mounts/pacs/+/internal" {
  capabilities       = ["create", "update", "read"]
  allowed_parameters = { "type" = ["pki"], "description" = [], "config" = [] }
}
path "sys/mounts/pacs/+/control" {
  capabilities       = ["create", "update", "read"]
  allowed_parameters = { "type" = ["pki"], "description" = [], "config" = [] }
}

# Data keys of images are wrapped by a Transit key of each lineage. It is made once, not exportable, not deletable, and
# no rule here lets the operator use, configure, trim, export or delete it.
path "sys/mounts/pacs/+/data" {
  capabilities       = ["create", "update", "read"]
  allowed_parameters = { "type" = ["transit"], "description" = [] }
}
path "pacs/+/data/keys/+" {
  capabilities = ["create", "update", "read"]
  allowed_parameters = {
    "type"                   = ["aes256-gcm96"]
    "derived"                = [true]
    "exportable"             = [false]
    "allow_plaintext_backup" = [false]
  }
}

# One root each, its key made inside Vault. The pinned issuer name can be taken only once: no second root.
path "pacs/+/+/issuers/" {
  capabilities = ["list"]
}
path "pacs/+/+/root/generate/internal" {
  capabilities = ["create", "update"]
  allowed_parameters = {
    "common_name"     = []
    "issuer_name"     = ["root"]
    "key_type"        = ["ec"]
    "key_bits"        = ["256"]
    "ttl"             = ["87600h"]
    "max_path_length" = ["0"]
  }
  required_parameters = ["issuer_name", "key_type", "key_bits", "ttl", "max_path_length"]
}
path "pacs/+/+/config/crl" {
  capabilities = ["create", "update", "read"]
  allowed_parameters = {
    "expiry"                    = ["168h"]
    "auto_rebuild"              = [true]
    "auto_rebuild_grace_period" = ["167h"]
    "disable"                   = [false]
    "enable_delta"              = [false]
  }
}
path "pacs/+/+/config/urls" {
  capabilities = ["create", "update", "read"]
  allowed_parameters = {
    "issuing_certificates"    = []
    "crl_distribution_points" = []
    "enable_templating"       = [false]
  }
}

# Roles: exact names only. A write resets what it does not name, so what is absent here stays at Vault's default.
# (required_parameters would be stricter still, but OpenBao 2.7 then refuses reads of the same path as well.)
path "pacs/+/+/roles/" {
  capabilities = ["list"]
}
path "pacs/+/+/roles/*" {
  capabilities = ["create", "update", "read", "delete"]
  allowed_parameters = {
    "allowed_domains"             = []
    "allow_bare_domains"          = [true]
    "allow_ip_sans"               = [false]
    "allow_localhost"             = [false]
    "allow_wildcard_certificates" = [false]
    "client_flag"                 = []
    "server_flag"                 = []
    "cn_validations"              = ["hostname"]
    "key_type"                    = ["ec", "rsa", "any"]
    "key_bits"                    = ["256", "3072", "0"]
    "key_usage"                   = ["DigitalSignature", "DigitalSignature,KeyEncipherment"]
    # 20 s (a probe's leaf that is to expire), hours from 1 to 24 (break-glass readers have such), 7, 90 and 365 days.
    "max_ttl" = [
      "20s", "3600s", "7200s", "10800s", "14400s", "18000s", "21600s", "25200s", "28800s",
      "32400s", "36000s", "39600s", "43200s", "46800s", "50400s", "54000s", "57600s",
      "61200s", "64800s", "68400s", "72000s", "75600s", "79200s", "82800s", "86400s",
      "604800s", "7776000s", "31536000s"
    ]
    "ttl" = [
      "20s", "3600s", "7200s", "10800s", "14400s", "18000s", "21600s", "25200s", "28800s",
      "32400s", "36000s", "39600s", "43200s", "46800s", "50400s", "54000s", "57600s",
      "61200s", "64800s", "68400s", "72000s", "75600s", "79200s", "82800s", "86400s",
      "604800s", "7776000s", "31536000s"
    ]
    "not_after_bound"             = ["forbid"]
    "not_before_bound"            = ["forbid"]
  }
}

# Its own client certificate for the agents' status port: one name, client only, one hour.
path "pacs/+/control/roles/@OPERATOR_NAMESPACE@.@OPERATOR_SERVICE_ACCOUNT@.status" {
  capabilities = ["create", "update", "read", "delete"]
  allowed_parameters = {
    "allowed_domains"             = [["status.@OPERATOR_NAMESPACE@.svc"]]
    "allow_bare_domains"          = [true]
    "allow_ip_sans"               = [false]
    "allow_localhost"             = [false]
    "allow_wildcard_certificates" = [false]
    "client_flag"                 = [true]
    "server_flag"                 = [false]
    "cn_validations"              = ["hostname"]
    "key_type"                    = ["ec"]
    "key_bits"                    = ["256"]
    "key_usage"                   = ["DigitalSignature"]
    "max_ttl"                     = ["3600s"]
    "ttl"                         = ["3600s"]
    "not_after_bound"             = ["forbid"]
    "not_before_bound"            = ["forbid"]
  }
}
path "pacs/+/control/sign/@OPERATOR_NAMESPACE@.@OPERATOR_SERVICE_ACCOUNT@.status" {
  capabilities       = ["update"]
  allowed_parameters = { "csr" = [], "ttl" = [], "format" = ["pem"] }
}

# Login roles of the archives' ServiceAccounts: these names, in zone namespaces, with the component policy. The
# denied comma keeps a second namespace from hiding behind an allowed ending.
path "auth/@AUTH_PATH@/role/" {
  capabilities = ["list"]
}
path "auth/@AUTH_PATH@/role/+" {
  capabilities = ["create", "update", "read", "delete"]
  allowed_parameters = {
    "bound_service_account_names"      = ["gate", "orthanc", "postgres", "conformance", "importer"]
    "bound_service_account_namespaces" = ["*-edge", "*-archive", "*-data", "*-ops"]
    "audience"                         = []
    "token_policies"                   = ["pacs-component"]
    "token_no_default_policy"          = [true]
    "token_ttl"                        = ["900s"]
    "token_max_ttl"                    = ["900s"]
  }
  denied_parameters = {
    "bound_service_account_namespaces" = ["*,*"]
  }
}
path "auth/@AUTH_PATH@/role/pacs-operator" {
  capabilities = ["deny"]
}
