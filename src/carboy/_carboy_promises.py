"""What of the native module is about promises; its types are in a stub of their own."""

from carboy._carboy import (
    Promise,
    PromiseAwaiter,
    PromiseResolver,
    PromiseScope,
    call_on_own_stack,
    detached_promises,
    find_request_scope,
    holds_promises,
    keep_causes,
)

__all__ = [
    "Promise",
    "PromiseAwaiter",
    "PromiseResolver",
    "PromiseScope",
    "call_on_own_stack",
    "detached_promises",
    "find_request_scope",
    "holds_promises",
    "keep_causes",
]
