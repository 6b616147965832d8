"""The refusals of paths that are relayed as they are: leaves of the tree in `proxy.errors`.

ApiError
|-- PathNotAllowed      403 path_not_allowed
|-- PathNotHeld         403 path_not_held
|-- TooManyObjects      403 too_many_objects
`-- ObjectNotFound      404 object_not_found
"""

from __future__ import annotations

from proxy.errors import ApiError


class ObjectNotFound(ApiError):
    """No such object at the provider for this tenant: it is gone, or another's."""

    status = 404
    type = "invalid_request_error"
    code = "object_not_found"


class PathNotAllowed(ApiError):
    """The path is relayed for nobody here, or not for this tenant."""

    status = 403
    type = "permission_error"
    code = "path_not_allowed"
    should_retry = False


class PathNotHeld(ApiError):
    """What the path spends cannot be held under the tenant's money cap, and no flat hold is set."""

    status = 403
    type = "permission_error"
    code = "path_not_held"
    should_retry = False


class TooManyObjects(ApiError):
    """The tenant keeps as many objects at the provider as it may."""

    status = 403
    type = "permission_error"
    code = "too_many_objects"
    should_retry = False
