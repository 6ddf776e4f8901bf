"""An EHR as a CDS Hooks client, which does what the public sandbox does on the wire.

It keys services by URL, signs every call with ES384 for exactly the URL it calls, fills prefetch templates from its
FHIR server, turns a clicked suggestion into a created resource, and sends feedback to the /feedback URL.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from tests.serving.cds.fhir_server import FhirServer

ISSUER = "https://ehr.example.org"
KID = "k1"


class Ehr:
    """One EHR with its key, its FHIR server and the services it knows."""

    def __init__(self, http: Any, base_url: str, fhir: FhirServer, key: ec.EllipticCurvePrivateKey) -> None:
        """Connect.

        Args:
            http: has `get` and `post` as httpx has: a client, or Starlette's TestClient.
            base_url: where discovery lies, without /cds-services.
            fhir: what prefetch is filled from.
            key: signs.
        """
        self.http, self.base_url, self.fhir, self.key = http, base_url, fhir, key
        self.services: dict[str, dict[str, Any]] = {}

    def discover(self) -> list[dict[str, Any]]:
        """Ask for the services and keep them by URL."""
        url = f"{self.base_url}/cds-services"
        answer = self.http.get(url, headers=self.signed(url))
        answer.raise_for_status()
        services: list[dict[str, Any]] = answer.json()["services"]
        self.services = {f"{url}/{service['id']}": service for service in services}
        return services

    def fire(self, hook: str, context: dict[str, Any] | None = None, /, **extra: Any) -> Any:
        """Call the service of a hook with its prefetch filled; returns the HTTP answer."""
        [(url, service)] = [one for one in self.services.items() if one[1]["hook"] == hook]
        whole = {"userId": "Practitioner/abc", "patientId": "p1", "encounterId": "e1", **(context or {})}
        body = {
            "hook": hook,
            "hookInstance": str(uuid.uuid4()),
            "context": whole,
            "prefetch": self.prefetch(service["prefetch"], whole),
            **extra,
        }
        return self.http.post(url, json=body, headers=self.signed(url))

    def prefetch(self, templates: dict[str, str], context: dict[str, Any]) -> dict[str, Any]:
        """Fill the tokens of each template and ask the FHIR server."""
        queries = {
            key: re.sub(r"{{context\.(\w+)}}", lambda token: str(context[token[1]]), template)
            for key, template in templates.items()
        }
        return {key: self.fhir.answer(query) for key, query in queries.items()}

    def click(self, hook: str, card: dict[str, Any], suggestion: dict[str, Any]) -> Any:
        """Take a suggestion: create what it proposes, and say so."""
        for action in suggestion["actions"]:
            assert action["type"] == "create"
            self.fhir.create(action["resource"])
        accepted = {"outcome": "accepted", "acceptedSuggestions": [{"id": suggestion["uuid"]}]}
        return self.tell(hook, {"card": card["uuid"], **accepted})

    def tell(self, hook: str, *outcomes: dict[str, Any]) -> Any:
        """Send feedback, signed for the /feedback URL."""
        url = next(url for url, service in self.services.items() if service["hook"] == hook) + "/feedback"
        stamped = [{"outcomeTimestamp": "2026-11-21T01:05:31Z", **outcome} for outcome in outcomes]
        return self.http.post(url, json={"feedback": stamped}, headers=self.signed(url))

    def signed(self, url: str, **claims: Any) -> dict[str, str]:
        """Return the header that a call of a URL carries."""
        now = int(time.time())
        payload = {"iss": ISSUER, "aud": url, "iat": now, "exp": now + 300, "jti": str(uuid.uuid4()), **claims}
        return {"Authorization": f"Bearer {jwt.encode(payload, self.key, 'ES384', headers={'kid': KID})}"}


def make_key(folder: Path) -> tuple[ec.EllipticCurvePrivateKey, Path]:
    """Make a key pair; returns the private key and a file with the public one as a JWK set."""
    key = ec.generate_private_key(ec.SECP384R1())
    public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": KID, "alg": "ES384"}
    path = folder / "jwks.json"
    path.write_text(json.dumps({"keys": [public]}))
    return key, path


def order(name: str | None, order_id: str = "n1", **more: Any) -> dict[str, Any]:
    """Return a draft order of a drug; None: one that names none."""
    drug = {} if name is None else {"medicationCodeableConcept": {"text": name}}
    return {"resourceType": "MedicationRequest", "id": order_id, "status": "draft", "intent": "order", **drug, **more}


def orders(*resources: dict[str, Any], selected: list[str] | None = None) -> dict[str, Any]:
    """Return a context's draft orders; `selected` ids as selections."""
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": one} for one in resources]}
    chosen = {} if selected is None else {"selections": [f"MedicationRequest/{one}" for one in selected]}
    return {"draftOrders": bundle, **chosen}
