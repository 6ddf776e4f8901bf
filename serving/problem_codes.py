"""The codes of problems: which status, which words, which issue of FHIR, and which errors of ours become which."""

from __future__ import annotations

CODES: dict[str, tuple[int, str, str]] = {
    "unreadable": (400, "The body cannot be read as JSON", "invalid"),
    "ambiguous_length": (400, "The request has two lengths", "invalid"),
    "foreign_host": (400, "This service does not answer to that Host", "invalid"),
    "wrong_hook": (400, "The body is for another hook", "invalid"),
    "unauthenticated": (401, "Sign in, or send a key that works", "login"),
    "forbidden": (403, "Not allowed with this key or role", "forbidden"),
    "csrf": (403, "The call does not come from this service's own page", "forbidden"),
    "not_found": (404, "Not found", "not-found"),
    "method_not_allowed": (405, "Method not allowed", "not-supported"),
    "version_conflict": (409, "Somebody has changed the draft; read it again", "conflict"),
    "finalised": (409, "The draft is final", "conflict"),
    "draft_not_ready": (409, "The draft is not made yet, or not to be had", "conflict"),
    "undecided": (409, "Some drugs are not decided yet", "conflict"),
    "key_running": (409, "A request with this Idempotency-Key is still running", "conflict"),
    "prefetch_missing": (412, "Prefetch is required and missing", "processing"),
    "too_large": (413, "The body is too large", "too-long"),
    "not_json": (415, "The body's content type is not JSON", "not-supported"),
    "invalid": (422, "The request does not fit the schema", "structure"),
    "too_long": (422, "The drugs alone are more than the model's prompt holds; give fewer", "too-long"),
    "reason_required": (422, "This decision needs a reason", "required"),
    "key_reused": (422, "The Idempotency-Key belongs to another body", "invalid"),
    "gone": (499, "The caller has gone", "timeout"),
    "rate_limited": (429, "Too many calls; wait a little", "throttled"),
    "internal_error": (500, "Something went wrong here", "exception"),
    "busy": (503, "Too many drafts are asked for", "transient"),
    "not_ready": (503, "The model is still loading", "transient"),
    "draining": (503, "The service is about to stop", "transient"),
    "store_unavailable": (503, "The store cannot be reached", "transient"),
    "engine_unavailable": (503, "The model cannot be reached", "transient"),
    "drafting_off": (503, "Drafting is switched off here", "transient"),
    "identity_unavailable": (503, "The identity provider cannot be reached", "transient"),
    "late": (504, "The draft was not done in time", "timeout"),
}
"""Code -> status, what people read, and FHIR's issue type."""

BY_STATUS = {
    400: "unreadable",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "not_json",
    422: "invalid",
    429: "rate_limited",
}
BY_ERROR: dict[str, tuple[str, str | None]] = {
    "StoreError": ("store_unavailable", None),
    "UnknownDraftError": ("not_found", None),
    "VersionConflictError": ("version_conflict", None),
    "FinalisedError": ("finalised", None),
    "NotReadyError": ("draft_not_ready", None),
    "KeyReusedError": ("key_reused", None),
    "KeyRunningError": ("key_running", None),
    "ReasonRequiredError": ("reason_required", None),
    "UndecidedError": ("undecided", None),
    "BusyError": ("busy", None),
    "LateError": ("late", None),
    "TooLongError": ("too_long", None),
    "EngineDownError": ("engine_unavailable", None),
    "ModelNotReadyError": ("not_ready", None),
    "DraftingOffError": ("drafting_off", None),
    "SearchNotReadyError": ("not_ready", "The search is still being prepared"),
    "UnknownModelError": ("not_found", "No such model is served; GET /v1/models names them"),
    "RepeatedDrugError": ("invalid", "The list holds this drug already"),
    "UnknownItemError": ("invalid", "The draft has no such row"),
    "GoneError": ("gone", None),
}
"""Errors of parts that know nothing of HTTP, by class, so that none need be imported; their text stays there."""

RETRY_AFTER = {
    "key_running": 1,
    "busy": 1,
    "not_ready": 5,
    "draining": 5,
    "store_unavailable": 5,
    "engine_unavailable": 10,
    "drafting_off": 3600,
    "identity_unavailable": 60,
}
"""Seconds, where a code has a usual wait."""
