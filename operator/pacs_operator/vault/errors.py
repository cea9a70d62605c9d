"""What can go wrong with Vault, each with its own reason; nothing of the client library leaks out.

All are worth trying again: an administrator may unseal, repair or re-bootstrap at any time, and Vault tells nobody.
"""

from pacs_operator.domain.errors import VaultError


class VaultSealedError(VaultError):
    """Vault is sealed or not initialised."""

    reason = "VaultSealed"


class VaultUnreachableError(VaultError):
    """No answer came: the connection was refused, reset, or the name does not resolve."""

    reason = "VaultUnreachable"


class VaultTimeoutError(VaultUnreachableError):
    """Vault accepted the connection, or was routed to, but did not answer in time."""

    reason = "VaultTimeout"


class VaultForbiddenError(VaultError):
    """Vault knows us and says no, or refuses the login of a token that is still valid."""

    reason = "VaultForbidden"


class VaultTokenExpiredError(VaultError):
    """The projected Kubernetes token with which we log in is past its end."""

    reason = "VaultTokenExpired"


class VaultMisconfiguredError(VaultError):
    """Vault works but lacks what the administrator's bootstrap, or the operator, sets up."""

    reason = "VaultMisconfigured"


class VaultUntrustedError(VaultMisconfiguredError):
    """Vault's server certificate is not signed by the configured authority, or bears another name."""

    reason = "VaultUntrusted"


class VaultFailedError(VaultError):
    """Vault answered with an internal error: no active node, a full audit disk, too many requests."""

    reason = "VaultFailed"
