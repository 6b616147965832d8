"""The refusals that only the admin API has; the others are those of `proxy.errors`."""

from __future__ import annotations

from proxy.errors import ApiError, InvalidRequest


class InvalidAdminKey(ApiError):
    """No admin key, one that is not known, or a session that has ended."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_admin_key"


class TooManyLogins(ApiError):
    """So many keys of this address were wrong that no more of them are looked at for now."""

    status = 429
    type = "rate_limit_error"
    code = "too_many_logins"


class TooManyViewers(ApiError):
    """So many browsers follow what is live that the console serves no more of them."""

    status = 503
    type = "service_unavailable_error"
    code = "too_many_viewers"


class RoleTooLow(ApiError):
    """The key is known, and its role may not do this."""

    status = 403
    type = "permission_error"
    code = "role_too_low"


class CrossSite(ApiError):
    """A browser sends this on behalf of another page than ours."""

    status = 403
    type = "permission_error"
    code = "cross_site"


class NotFound(ApiError):
    """There is no such thing; the message says which."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"


class Conflict(ApiError):
    """It stands otherwise than the request presumes: it exists already, or was changed since."""

    status = 409
    type = "invalid_request_error"
    code = "conflict"


class ReadOnly(ApiError):
    """It is written in the configuration file, and is changed there."""

    status = 409
    type = "invalid_request_error"
    code = "read_only"


class FieldRefused(InvalidRequest):
    """The body has a field that is not known, or a value that cannot be; `param` names it."""

    code = "field_refused"


class LedgerUnavailable(ApiError):
    """The ledger cannot be read or written now; the message says why."""

    status = 503
    type = "service_unavailable_error"
    code = "ledger_unavailable"


class RedisUnavailable(ApiError):
    """Redis does not answer, and what was asked for is there."""

    status = 503
    type = "service_unavailable_error"
    code = "redis_unavailable"
