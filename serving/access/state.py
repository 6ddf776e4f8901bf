"""What the checks of one application share, at app.state.access."""

from __future__ import annotations

from fastapi import Request

from serving.access.bearer import BearerTokens
from serving.access.jwks import KeySet
from serving.access.limits import MINUTE, Window, refuse_over
from serving.access.refused import RefusedError
from serving.operation import metrics
from serving.operation.logs import event
from serving.problems import ProblemError
from serving.settings import Settings
from serving.store.cds import Cds
from serving.store.counters import Counters
from serving.store.engine import Store
from serving.store.keys import Keys

_HARMLESS = ("nobody", "unknown_session")
"""A ward shares an address, and its open pages ask on after the sessions have ended."""


class Access:
    """Built once by `setup_access`."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store
        self.keys, self.counters, self.cds = Keys(store), Counters(store), Cds(store)
        self.bearer = BearerTokens(settings.oidc, store.keyed)
        self.cds_clients = {client.issuer: (client, KeySet(client)) for client in settings.cds_clients}
        self.calls = Window(settings.calls_per_minute)
        self._failures = Window(max(1, settings.calls_per_minute // 10))

    def refusal(self, request: Request, refused: RefusedError) -> ProblemError:
        """Return how a caller is told that they are not let in: never why, and not too often a minute."""
        event("caller_refused", reason=refused.reason)
        metrics.refused(refused.reason)
        if refused.reason not in _HARMLESS:
            refuse_over(self._failures.hit(address(request)))
        return ProblemError("unauthenticated")

    def slow_down(self, request: Request) -> None:
        """Count a call of somebody unknown that makes this service call another; raises ProblemError rate_limited."""
        refuse_over(self.calls.hit(f"from {address(request)}"))

    def failed_sign_in(self, request: Request, refused: RefusedError) -> ProblemError:
        """The same for sign-ins, counted over all processes; only failures count, for a ward shares one address."""
        event("sign_in_refused", reason=refused.reason)
        metrics.refused(refused.reason)
        bucket = f"sign-in {self.store.keyed(address(request))[:16]}"
        refuse_over(self.counters.hit(bucket, self.settings.sign_ins_per_minute, MINUTE))
        return ProblemError("unauthenticated")


def access_of(request: Request) -> Access:
    """Return the application's."""
    access: Access = request.app.state.access
    return access


def address(request: Request) -> str:
    """Return where a call comes from; what a proxy says of it counts only if the settings trust the proxy."""
    return request.client.host if request.client else ""
