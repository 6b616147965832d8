"""Every refusal a client can see, in one tree; status, code and retryability are class attributes.

    ApiError                          OpenAI-shaped body, x-request-id, maybe x-should-retry
    |-- InvalidRequest                400 invalid_request_error
    |   |-- BrokenRequest             400, and the connection is closed
    |   |-- UnpricedModel             400 model_not_priced
    |   |-- UnsupportedParameter      400 unsupported_parameter
    |   |-- ContextTooLong            400 context_length_exceeded
    |   |-- UnsupportedByModel        400 unsupported_by_model
    |   |-- EventsRefused             400 events_refused
    |   `-- RequestExceedsBudget      400 request_exceeds_budget
    |-- InvalidApiKey                 401 invalid_api_key
    |-- ModelNotAllowed, TenantNotAllowed, LabelPinned                             403
    |-- ScopePaused, ScopeKilled      403 tenant_paused, run_killed, and so for every scope
    |-- PathNotAllowed, PathNotHeld, TooManyObjects     403, in passthrough_errors
    |-- ModelNotFound, PathNotFound                     404
    |-- ObjectNotFound                                  404, in passthrough_errors
    |-- (those of `proxy.passthrough_errors`)       403, 404
    |-- MethodNotAllowed              405
    |-- RequestTimeout                408
    |-- BodyTooLarge                  413
    |-- UnsupportedEncoding           415
    |-- SpendExhausted                429 insufficient_quota
    |   `-- CachedOnly                429 insufficient_quota
    |-- RateLimited                   429 rate_limit_exceeded
    |-- InternalError                 500
    |-- UpstreamFailed                502 upstream_error
    |   `-- UpstreamAuth              502 upstream_auth
    |-- Overloaded                    503
    |-- BudgetBackendUnavailable, BacklogFull, UsageNotRecorded                      503
    |-- EventsNotRecorded             503
    |-- UpstreamQuota, ProviderUnavailable                                           503
    `-- UpstreamTimeout               504

The shape `{"error": {message, type, param, code, metadata?}}` is OpenAI's (its API description,
`components.schemas.Error`); `code` is always a string or null. The SDKs retry 408, 409, 429 and
5xx unless `x-should-retry` says otherwise, so a refusal that waiting cannot mend says `false`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from proxy.error_words import ErrorWords

ERROR_SOURCE = "x-weir-error-source"


class ApiError(Exception):
    """A refusal on its way to the client: what happened, which thing, and what to do."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "api_error"
    code: ClassVar[str | None] = None
    should_retry: ClassVar[bool | None] = None
    """Sent as `x-should-retry` when not None; the stock SDKs obey it."""
    from_upstream: ClassVar[bool] = False
    closes: ClassVar[bool] = False
    """Whether the connection is closed after it: what else comes there cannot be trusted."""
    is_told = False  # whether the client has read of it in its stream already

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.metadata = metadata
        self._code = code
        self._headers = dict(headers or {})

    @property
    def words(self) -> ErrorWords:
        """What it says, for a wire format to give it its shape."""
        code = self._code or self.code
        return ErrorWords(self.status, self.message, self.type, code, self.param, self.metadata)

    def body(self) -> bytes:
        """The JSON body, in OpenAI's shape."""
        return self.words.openai_body()

    def headers(self) -> dict[str, str]:
        """Headers that belong to the refusal itself, beside those of every answer."""
        headers = dict(self._headers)
        if self.should_retry is not None:
            headers["x-should-retry"] = "true" if self.should_retry else "false"
        if self.from_upstream:
            headers[ERROR_SOURCE] = "upstream"
        return headers

    def add_headers(self, headers: Mapping[str, str]) -> None:
        """Headers of the answer this refusal becomes; its own go before them."""
        self._headers = {**headers, **self._headers}

    def again(self) -> Self:
        """The same refusal for another request: an exception object is raised once."""
        return type(self)(
            self.message,
            param=self.param,
            code=self._code,
            metadata=self.metadata,
            headers=self._headers,
        )

    @property
    def label(self) -> str:
        """The code for logs and metrics; never empty."""
        return self._code or self.code or self.type


class InvalidRequest(ApiError):
    """The body or a header cannot be accepted as it is; `param` names the field."""

    status = 400
    type = "invalid_request_error"


class BrokenRequest(InvalidRequest):
    """What came is not the HTTP that we speak; where a next request would begin is not known."""

    closes = True


class UnpricedModel(InvalidRequest):
    """The model has no price and the tenant has a money cap."""

    code = "model_not_priced"


class RequestExceedsBudget(InvalidRequest):
    """This request alone is larger than the whole cap; waiting would not help."""

    code = "request_exceeds_budget"


class UnsupportedParameter(InvalidRequest):
    """No upstream of the model speaks a wire format that can carry `param`."""

    code = "unsupported_parameter"


class ContextTooLong(InvalidRequest):
    """The prompt is longer than the feature, or the model, may take."""

    code = "context_length_exceeded"


class UnsupportedByModel(InvalidRequest):
    """No upstream of the model can do what the request uses, or is what it asks for."""

    code = "unsupported_by_model"


class EventsRefused(InvalidRequest):
    """None of the events of a request can be taken; the metadata has the fault of each."""

    code = "events_refused"


class InvalidApiKey(ApiError):
    """No key, or one that is not known; the body is the same for both."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


class ModelNotAllowed(ApiError):
    """The tenant's allow-list does not have this model."""

    status = 403
    type = "permission_error"
    code = "model_not_allowed"


class TenantNotAllowed(ApiError):
    """The body asks for another tenant than the key's."""

    status = 403
    type = "permission_error"
    code = "tenant_not_allowed"
    should_retry = False


class LabelPinned(ApiError):
    """The request names another feature, user, session or run than its key is pinned to."""

    status = 403
    type = "permission_error"
    code = "label_pinned"
    should_retry = False


class ScopePaused(ApiError):
    """The tenant, or another scope of the request, was paused by a person or by a guard.

    The code of another scope than the tenant names its kind: `key_paused`.
    """

    status = 403
    type = "permission_error"
    code = "tenant_paused"
    should_retry = False


class ScopeKilled(ApiError):
    """The run, or another scope of the request, was stopped for good.

    The code of another scope than a run names its kind: `session_killed`.
    """

    status = 403
    type = "permission_error"
    code = "run_killed"
    should_retry = False


class ModelNotFound(ApiError):
    """No model of that name is configured."""

    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class PathNotFound(ApiError):
    """No such path here."""

    status = 404
    type = "invalid_request_error"
    code = "unknown_url"


class MethodNotAllowed(ApiError):
    """The path exists, the method does not."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class RequestTimeout(ApiError):
    """The request's headers or its body did not arrive in time."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"
    closes = True


class BodyTooLarge(ApiError):
    """The request's body is over `server.max_body_mb`."""

    status = 413
    type = "invalid_request_error"
    code = "request_too_large"
    closes = True


class UnsupportedEncoding(ApiError):
    """A compressed request body: refused unread, it could unpack to anything."""

    status = 415
    type = "invalid_request_error"
    code = "unsupported_content_encoding"
    closes = True


class SpendExhausted(ApiError):
    """What is spent leaves too little room under a cap; retrying soon cannot help."""

    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"
    should_retry = False


class CachedOnly(SpendExhausted):
    """A degradation step lets cached answers through only, and there is none."""


class RateLimited(ApiError):
    """A rate is used up, too many run at once, or only what they hold is in the way; Retry-After
    says when there is room again."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class InternalError(ApiError):
    """A bug of ours; the log has the cause under the request id."""

    status = 500
    type = "api_error"
    code = "internal_error"


class UpstreamFailed(ApiError):
    """The upstream could not be reached, broke off, or gave what is not its protocol."""

    status = 502
    type = "api_error"
    code = "upstream_error"
    from_upstream = True


class UpstreamAuth(UpstreamFailed):
    """The upstream refused our credentials; its words stay in our log."""

    code = "upstream_auth"


class Overloaded(ApiError):
    """This process has no room for one more connection or exchange."""

    status = 503
    type = "service_unavailable_error"
    code = "overloaded"
    should_retry = True
    closes = True

    def headers(self) -> dict[str, str]:
        """Comes with Retry-After: room frees as soon as somebody leaves."""
        return {"Retry-After": "1", **super().headers()}


class BudgetBackendUnavailable(ApiError):
    """Spend cannot be checked now: Redis is away, or its windows are being rebuilt."""

    status = 503
    type = "service_unavailable_error"
    code = "budget_backend_unavailable"
    should_retry = True


class BacklogFull(ApiError):
    """Usage that nobody settles has piled up in Redis; more would not find room there."""

    status = 503
    type = "service_unavailable_error"
    code = "backlog_full"
    should_retry = True


class UsageNotRecorded(ApiError):
    """The upstream answered, and neither Redis nor the disk took what that used.

    Not to be sent again at once: the upstream has worked, and would work unrecorded again.
    """

    status = 503
    type = "service_unavailable_error"
    code = "usage_not_recorded"
    should_retry = False


class EventsNotRecorded(ApiError):
    """Neither Redis nor the disk took some of the events; sending all again counts each once."""

    status = 503
    type = "service_unavailable_error"
    code = "events_not_recorded"
    should_retry = True


class UpstreamQuota(ApiError):
    """Our account at the upstream is out of quota."""

    status = 503
    type = "service_unavailable_error"
    code = "upstream_quota"
    should_retry = False
    from_upstream = True


class ProviderUnavailable(ApiError):
    """The provider is configured but cannot be called: its credential is not set."""

    status = 503
    type = "service_unavailable_error"
    code = "provider_unavailable"
    should_retry = False


class UpstreamTimeout(ApiError):
    """The upstream did not answer, or stopped answering, within `providers.*.timeout_s`."""

    status = 504
    type = "timeout_error"
    code = "upstream_timeout"
    from_upstream = True
