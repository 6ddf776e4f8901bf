"""A reviewed draft as the API gives it, for the tests of what is made from it."""

from __future__ import annotations

from typing import Any

BASE = "https://rx.example.org"


def draft() -> dict[str, Any]:
    """Three drugs, one of them accepted, one changed, one rejected, and a fourth undecided; two alerts."""
    return {
        "status": "draft",
        "disclaimer_id": "research-v1",
        "draft_id": "d-1",
        "state": "ready",
        "version": 4,
        "created_at": "2026-11-21T01:00:00.123456+00:00",
        "drugs": [
            _row(1, "furosemide", ["C03CA01"], review={"decision": "accept"}),
            _row(2, "warfarin", ["B01AA03"], review={"decision": "edit", "edited_drug": "apixaban"}),
            _row(3, "aspirin", ["B01AC06", "N02BA01"], review={"decision": "reject", "reason_text": "bleeds"}),
            _row(4, "losartan / hydrochlorothiazide", ["C09CA01", "C03AA03"]),
        ],
        "versions": {"rxdraft": "0.1.0", "model": "rx-2026.11", "formulary_sha256": "0" * 64, "rules": "2026.11.0"},
        "screening": {
            "alerts": [
                _alert("a1", "onc-99", "critical", "DRG", ["i2"], ["amiodarone"]),
                _alert("a2", "lab-1", "warning", "LAB", ["i1", "i4"], []),
                _alert("a3", "age-1", "info", "AGE", ["i1"], []),
            ],
            "summary": {"en": "3 rules fired. 3 of 3 drugs screened.", "ko": "규칙 3건."},
        },
    }


def _row(rank: int, drug: str, atc: list[str], **more: Any) -> dict[str, Any]:
    return {"item_id": f"i{rank}", "rank": rank, "drug": drug, "atc": atc, "probability": 0.83, **more}


def _alert(name: str, rule: str, tier: str, code: str, items: list[str], current: list[str]) -> dict[str, Any]:
    return {
        "alert_id": name,
        "rule_id": rule,
        "rule_version": "1",
        "tier": tier,
        "code": code,
        "items": items,
        "current": current,
        "message": {"en": f"What {rule} says.", "ko": "규칙."},
    }
