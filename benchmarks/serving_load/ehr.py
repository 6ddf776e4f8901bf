"""An EHR that fires hooks: patient-view for a new patient each time, order-sign with two drugs that interact."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from serving_load.people import Caller, GaveUpError

ISSUER = "https://ehr.example.org"
PATIENT_VIEW, ORDER_SIGN = "rx-draft-patient-view", "rx-safety-order-sign"
PAUSE_SECONDS = 0.5
"""Between two hooks of one client."""
_RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"


def make_keys(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Write a private key into a folder, its public half beside it; return the private key's path and the setting."""
    private = ec.generate_private_key(ec.SECP384R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = {**jwt.algorithms.ECAlgorithm.to_jwk(private.public_key(), as_dict=True), "kid": "ec"}
    (folder / "ehr.pem").write_bytes(pem)
    (folder / "ehr.jwks.json").write_text(json.dumps({"keys": [public]}))
    return folder / "ehr.pem", {"issuer": ISSUER, "jwks_file": str(folder / "ehr.jwks.json")}


class Ehr:
    """One client: works until the time is over."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def work(self) -> None:
        """Fire one hook after another."""
        while not self._caller.over:
            for service, call in ((PATIENT_VIEW, _patient_view()), (ORDER_SIGN, _order_sign())):
                try:
                    await self._caller.ask(f"POST /cds-services/{service}", f"/cds-services/{service}", call)
                except GaveUpError as reason:
                    self._caller.book.answers[f"gave up: {reason}"] += 1
                await asyncio.sleep(PAUSE_SECONDS)


def signer(private_key: bytes, public_url: str) -> Callable[[str], str]:
    """Return what signs a token for one call to a path."""

    def sign(path: str) -> str:
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": public_url + path, "iat": now, "exp": now + 300, "jti": uuid.uuid4().hex}
        return jwt.encode(claims, private_key, "ES384", {"kid": "ec"})

    return sign


def _patient_view() -> dict[str, Any]:
    patient = uuid.uuid4().hex
    return _call("patient-view", patient, {}, {"conditions": _bundle(_condition(patient))})


def _order_sign() -> dict[str, Any]:
    patient = uuid.uuid4().hex
    orders = _bundle(_order(patient, "11289", "warfarin"), _order(patient, "5640", "ibuprofen"))
    return _call("order-sign", patient, {"draftOrders": orders}, {})


def _call(hook: str, patient: str, context: dict[str, Any], prefetch: dict[str, Any]) -> dict[str, Any]:
    known = {"patient": {"resourceType": "Patient", "id": patient, "gender": "female", "birthDate": "1950-01-01"}}
    return {
        "hook": hook,
        "hookInstance": str(uuid.uuid4()),
        "context": {"userId": "Practitioner/1", "patientId": patient, **context},
        "prefetch": {**known, **prefetch},
    }


def _bundle(*resources: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": one} for one in resources]}


def _condition(patient: str) -> dict[str, Any]:
    code = {"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "I50.9", "display": "Heart failure"}
    active = {"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}
    return {
        "resourceType": "Condition",
        "id": "c1",
        "subject": {"reference": f"Patient/{patient}"},
        "clinicalStatus": {"coding": [active]},
        "code": {"coding": [code]},
    }


def _order(patient: str, rxnorm: str, name: str) -> dict[str, Any]:
    return {
        "resourceType": "MedicationRequest",
        "id": uuid.uuid4().hex[:8],
        "status": "draft",
        "intent": "order",
        "subject": {"reference": f"Patient/{patient}"},
        "medicationCodeableConcept": {"text": name, "coding": [{"system": _RXNORM, "code": rxnorm, "display": name}]},
    }
