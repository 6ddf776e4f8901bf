"""Who asks, and what they may do. Light: settings and commands import it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """One kind of thing to do; a key can be held to some of them."""

    DRAFT = "draft"
    """Make, cancel, review and finalise drafts."""
    READ = "read"
    """Read one's own drafts."""
    READ_ALL = "read-all"
    """Read everybody's drafts and reviews."""
    SCREEN = "screen"
    SEARCH = "search"
    MODELS = "models"
    AUDIT = "audit"


class Role(StrEnum):
    """What somebody is here for."""

    CLINICIAN = "clinician"
    """Makes and reviews drafts, and sees only their own."""
    EVALUATOR = "evaluator"
    """Reads all drafts and reviews, and changes nothing."""
    ADMIN = "admin"
    """Looks after keys and the audit, and sees no patient."""


ROLE_SCOPES: dict[Role, frozenset[Scope]] = {
    Role.CLINICIAN: frozenset({Scope.DRAFT, Scope.READ, Scope.SCREEN, Scope.SEARCH, Scope.MODELS}),
    Role.EVALUATOR: frozenset({Scope.READ, Scope.READ_ALL, Scope.SEARCH, Scope.MODELS}),
    Role.ADMIN: frozenset({Scope.AUDIT, Scope.MODELS}),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who has shown who they are.

    Attributes:
        id: opaque, fit for logs and the audit: "key:…", "oidc:…", "cds:…" or "dev".
        name: as shown to themselves; never logged.
        roles: what they are here for; none for an EHR.
        csrf: what unsafe calls of a signed-in browser must carry; None: no browser's session.
        only: holds them to these scopes of their roles; None: to all of them.
    """

    id: str
    name: str
    roles: frozenset[Role]
    csrf: str | None = None
    only: frozenset[Scope] | None = None

    @property
    def scopes(self) -> frozenset[Scope]:
        """All that they may do."""
        given = frozenset[Scope]().union(*(ROLE_SCOPES[role] for role in self.roles))
        return given if self.only is None else given & self.only

    def may(self, scope: Scope) -> bool:
        """Tell whether they may."""
        return scope in self.scopes
