"""A small FHIR server: one patient, reads, searches and creates; in process, or over HTTP for a browser."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from serving.fhir.systems import LOINC

Resource = dict[str, Any]


def coded(system: str, code: str, display: str | None = None) -> Resource:
    """Return a CodeableConcept of one coding."""
    return {"coding": [{"system": system, "code": code, **({"display": display} if display else {})}]}


def patient_record(patient_id: str = "p1") -> list[Resource]:
    """Return the record of an invented patient: failing heart, penicillin allergy, warfarin, a creatinine."""
    subject = {"subject": {"reference": f"Patient/{patient_id}"}}
    icd = "http://hl7.org/fhir/sid/icd-10-cm"
    return [
        {
            "resourceType": "Patient",
            "id": patient_id,
            "gender": "male",
            "birthDate": "1950-01-01",
            "name": [{"text": "Test Patient", "family": "Patient", "given": ["Test"]}],
        },
        {"resourceType": "Condition", "id": "c1", "code": coded(icd, "I50.9"), **subject},
        {"resourceType": "Condition", "id": "c2", "code": coded(icd, "I10"), **subject},
        allergy("Penicillin", patient_id),
        {
            "resourceType": "MedicationRequest",
            "id": "m1",
            "status": "active",
            "intent": "order",
            "medicationCodeableConcept": {"text": "Warfarin"},
            **subject,
        },
        {
            "resourceType": "Observation",
            "id": "o1",
            "status": "final",
            "code": coded(LOINC, "2160-0"),
            "valueQuantity": {"value": 1.1, "unit": "mg/dL"},
            "effectiveDateTime": (datetime.now(UTC) - timedelta(hours=5)).isoformat(),
            **subject,
        },
    ]


def allergy(substance: str, patient_id: str = "p1") -> Resource:
    """Return an allergy in words."""
    whose = {"patient": {"reference": f"Patient/{patient_id}"}}
    return {"resourceType": "AllergyIntolerance", "id": f"allergy-{substance}", "code": {"text": substance}, **whose}


class FhirServer:
    """Resources in memory."""

    def __init__(self, resources: list[Resource]) -> None:
        self.resources = resources

    def answer(self, query: str) -> Resource | None:
        """Answer `Type/id` or `Type?parameters`; None: there is no such resource."""
        path, _, parameters = query.partition("?")
        kind, _, resource_id = path.partition("/")
        if resource_id:
            return next((one for one in self._all(kind) if one.get("id") == resource_id), None)
        return self._search(kind, dict(parse_qsl(parameters)))

    def create(self, resource: Resource) -> Resource:
        """Keep a new resource under an id of its own."""
        made = {**resource, "id": f"new-{len(self.resources)}"}
        self.resources.append(made)
        return made

    def _all(self, kind: str) -> list[Resource]:
        return [one for one in self.resources if one["resourceType"] == kind]

    def _search(self, kind: str, wanted: dict[str, str]) -> Resource:
        found = [one for one in self._all(kind) if _fits(one, wanted)]
        return {
            "resourceType": "Bundle",
            "type": "searchset",
            "total": len(found),
            "entry": [{"fullUrl": f"urn:example:{one['id']}", "resource": one} for one in found],
        }


def _fits(resource: Resource, wanted: dict[str, str]) -> bool:
    owner = (resource.get("subject") or resource.get("patient") or {}).get("reference", "").rpartition("/")[2]
    code = {coding["code"] for coding in resource.get("code", {}).get("coding", ())}
    return (
        wanted.get("patient", owner) == owner
        and wanted.get("status", resource.get("status")) == resource.get("status")
        and ("code" not in wanted or wanted["code"].rpartition("|")[2] in code)
    )


@contextmanager
def served(server: FhirServer) -> Iterator[str]:
    """Serve over HTTP on loopback, to any origin; yields the base URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(server)) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def _handler(server: FhirServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_OPTIONS(self) -> None:
            self._send(204, None)

        def do_GET(self) -> None:
            path = urlsplit(self.path)
            if path.path == "/metadata":
                return self._send(200, {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"})
            query = path.path.lstrip("/") + (f"?{path.query}" if path.query else "")
            return self._found(server.answer(query))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            kind, _, action = self.path.lstrip("/").partition("/")
            if action == "_search":
                return self._found(server.answer(f"{kind}?{body}"))
            return self._send(201, server.create(json.loads(body)))

        def _found(self, resource: Resource | None) -> None:
            self._send(404 if resource is None else 200, resource)

        def _send(self, status: int, content: Resource | None) -> None:
            body = b"" if content is None else json.dumps(content).encode()
            self.send_response(status)
            for name, value in (
                ("Content-Type", "application/fhir+json"),
                ("Content-Length", str(len(body))),
                ("Access-Control-Allow-Origin", "*"),
                ("Access-Control-Allow-Headers", "*, authorization"),
                ("Access-Control-Allow-Methods", "GET, POST, PUT"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
