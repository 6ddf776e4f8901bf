"""What hospitals send, as lists of resources: pages, failures, contained resources and references made plain.

Lenient: unknown elements are passed over and what has the wrong shape is as if it were not there, since one odd
record must not hide the others. What could not be read is told, never guessed. Nothing here knows medicine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MOST_RESOURCES = 1000
"""Of one search; the rest counts as a page that was not sent."""
MOST_CODINGS = 20
"""Of one concept that are looked at."""

Resource = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """What one query found.

    Attributes:
        resources: of the type that was asked for.
        given: whether the client answered at all; an empty answer is one.
        complete: whether that is all there is.
    """

    resources: tuple[Resource, ...] = ()
    given: bool = False
    complete: bool = False


def read_found(value: Any, resource_type: str, patient_id: str) -> Found:
    """Read one answer to a query: a resource, a searchset Bundle, null (there is none) or an OperationOutcome.

    Args:
        value: as sent; whatever is none of these counts as not given.
        resource_type: what the query asked for; other resources, such as included ones, are passed over.
        patient_id: resources about somebody else are left out, and the answer counts as incomplete.
    """
    if value is None:
        return Found(given=True, complete=True)
    kind = value.get("resourceType") if isinstance(value, dict) else None
    if kind not in ("Bundle", resource_type):
        return Found()
    found = list(entries(value)) if kind == "Bundle" else [value]
    own = [one for one in found if one.get("resourceType") == resource_type]
    about = tuple(one for one in own if is_about(one, patient_id))
    failed = any(one.get("resourceType") == "OperationOutcome" and _failed(one) for one in found)
    whole = not failed and not _has_next(value) and len(found) <= MOST_RESOURCES and len(about) == len(own)
    return Found(about[:MOST_RESOURCES], given=bool(about) or not failed, complete=whole)


def entries(bundle: Any) -> Iterator[Resource]:
    """Yield the resources of a Bundle, in its order."""
    for entry in objects(field(bundle, "entry")):
        resource = entry.get("resource")
        if isinstance(resource, dict):
            yield resource


def is_about(resource: Resource, patient_id: str) -> bool:
    """Tell whether a resource may be of this patient; one that names nobody may."""
    if resource.get("resourceType") == "Patient":
        return text(resource.get("id")) in (None, patient_id)
    for name in ("subject", "patient"):
        reference = text(field(resource.get(name), "reference"))
        if reference and "Patient/" in reference:
            return reference.partition("/_history/")[0].rpartition("/")[2] == patient_id
    return True


def resolve(reference: Any, within: Resource, others: dict[str, Resource]) -> Resource | None:
    """Find what a Reference points to, among what is contained and what came in the same Bundle.

    Args:
        reference: a FHIR Reference; "#id" means contained.
        within: the resource that refers.
        others: by `Type/id` and by fullUrl.
    """
    target = text(field(reference, "reference"))
    if not target:
        return None
    if target.startswith("#"):
        return next((one for one in objects(within.get("contained")) if one.get("id") == target[1:]), None)
    return others.get(target) or others.get("/".join(target.split("/")[-2:]))


def by_reference(bundle: Any) -> dict[str, Resource]:
    """Return a Bundle's resources by what refers to them."""
    named: dict[str, Resource] = {}
    for entry in objects(field(bundle, "entry")):
        resource = entry.get("resource")
        if isinstance(resource, dict):
            named[f"{resource.get('resourceType')}/{resource.get('id')}"] = resource
            if url := text(entry.get("fullUrl")):
                named[url] = resource
    return named


def codings(concept: Any) -> list[tuple[str, str, str | None]]:
    """Return (system, code, display) of each coding of a CodeableConcept that has a code."""
    found = objects(field(concept, "coding"))[:MOST_CODINGS]
    return [(text(one.get("system")) or "", code, text(one.get("display"))) for one in found if (code := _code(one))]


def codes(concept: Any) -> set[str]:
    """Return its codes, whatever their systems."""
    return {code for _, code, _ in codings(concept)}


def objects(value: Any) -> list[Resource]:
    """Return the objects of a list; a single one counts as a list of one."""
    listed = value if isinstance(value, list) else [value]
    return [one for one in listed if isinstance(one, dict)]


def field(value: Any, name: str) -> Any:
    """Return a field of what may be no object."""
    return value.get(name) if isinstance(value, dict) else None


def text(value: Any, most: int = 500) -> str | None:
    """Return a string with something to see in it, on one line and cut; None for anything else."""
    if not isinstance(value, str):
        return None
    seen = " ".join("".join(c if c.isprintable() else " " for c in value[: 4 * most]).split())[:most].strip()
    return seen or None


def _code(coding: Resource) -> str | None:
    return text(coding.get("code"), 100)


def _has_next(bundle: Resource) -> bool:
    return any(link.get("relation") == "next" for link in objects(bundle.get("link")))


def _failed(outcome: Resource) -> bool:
    return any(issue.get("severity") in ("fatal", "error", None) for issue in objects(outcome.get("issue"))) or not (
        objects(outcome.get("issue"))
    )
