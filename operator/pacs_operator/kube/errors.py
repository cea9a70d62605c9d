"""What the API answers, translated into the operator's own errors at the boundary."""

import json

from pacs_operator.domain.errors import ApiError, ConflictError, NotFoundError


class AlreadyExistsError(ConflictError):
    """Another object has this name (409 AlreadyExists)."""

    reason = "AlreadyExists"


class ApiForbiddenError(ApiError):
    """RBAC or admission refused (401, 403)."""

    reason = "ApiForbidden"


class ApiInvalidError(ApiError):
    """The API server's own validation refused the object (400, 422)."""

    reason = "ApiInvalid"


class ApiUnreachableError(ApiError):
    """No answer at all."""

    reason = "ApiUnreachable"


class ApiOverloadedError(ApiError):
    """Try later: too many requests, an expired list, or a failing server (410, 429, 5xx)."""

    reason = "ApiOverloaded"


_RBAC = "compare the operator's ClusterRole with the chart's, and look for an admission policy that refused"


def _details(body: str | bytes | None) -> tuple[str, str]:
    try:
        status = json.loads(body or "{}")
    except ValueError:
        return "", ""
    if not isinstance(status, dict):
        return "", ""
    return str(status.get("reason") or ""), str(status.get("message") or "")[:400]


def translate(status: int | None, body: str | bytes | None, what: str) -> ApiError:
    """Return the typed error for an HTTP status.

    Parameters
    ----------
    status
        HTTP status.
    body
        The ``Status`` object the server sent.
    what
        Method and path, for the message.
    """
    api_reason, message = _details(body)
    text = f"{what}: {status} {message}".strip()
    kind, action = _classify(status or 0, api_reason)
    return kind(text, action=action)


def _classify(status: int, api_reason: str) -> tuple[type[ApiError], str]:
    retried = "nothing: it is retried with growing pauses"
    if status == 409:
        return (AlreadyExistsError if api_reason == "AlreadyExists" else ConflictError), retried
    if status in (410, 429) or status >= 500:
        return ApiOverloadedError, retried
    return {
        404: (NotFoundError, "nothing when it was removed on purpose: it is looked up again"),
        401: (ApiForbiddenError, _RBAC),
        403: (ApiForbiddenError, _RBAC),
        400: (ApiInvalidError, "correct the field that the message names"),
        422: (ApiInvalidError, "correct the field that the message names"),
    }.get(status, (ApiError, retried))
