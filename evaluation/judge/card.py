"""What judge-card.json says beside the certificate: who was asked, of what, when, at what cost, and what humans say."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from etl import artefacts
from etl.artefacts import sha256_file
from etl.outside.budget import read_prices
from etl.outside.firewall import Passage
from evaluation.judge.certificate import Certificate, approvals
from evaluation.judge.correction import ppi
from evaluation.judge.intervals import clustered, half_width, identify
from evaluation.judge.items import Unit
from evaluation.judge.ledger import Kept, digest
from evaluation.judge.panel import Verdicts, approval
from evaluation.judge.run import Case, Settings

PROTOCOL = "1"
"""Of decoys, certificate and figures together; figures of two protocols do not compare."""


def about(
    settings: Settings,
    case: Case,
    passages: Sequence[Passage],
    answers: Sequence[Any],
    failures: dict[str, dict[str, int]],
) -> dict[str, Any]:
    """Return what a card says of who was asked, of what, when, and at what cost."""
    kept = [[answer for answer in of_one if answer] for of_one in answers]
    flat = [answer for of_one in kept for answer in of_one]
    dates = sorted(answer.created_at[:10] for answer in flat)
    return {
        "protocol_version": PROTOCOL,
        "split": case.split,
        "cohort_sha256": sha256_file(settings.cohort / "cohort.json"),
        "provenance": case.provenance.value,
        "affirmation_sha256": next((one.affirmation_sha256 for one in passages if one.affirmation_sha256), None),
        "decoding": settings.decoding.described(),
        "seed": settings.seed,
        "models": [_model(model, of_one) for (model, _), of_one in zip(settings.models, kept, strict=True)],
        "dates": [dates[0], dates[-1]] if dates else None,
        "states": dict(sorted(Counter(answer.state for answer in flat).items())),
        "failed_requests": failures,
        "usage": _usage(settings, kept),
        "ledger_sha256": digest(flat),
    }


def _model(requested: str, kept: Sequence[Kept]) -> dict[str, Any]:
    returned = sorted({answer.model_returned for answer in kept})
    shutdown = sorted({answer.shutdown_date for answer in kept if answer.shutdown_date})
    return {"requested": requested, "returned": returned, "shutdown_date": shutdown[0] if shutdown else None}


def _usage(settings: Settings, kept: Sequence[Sequence[Kept]]) -> dict[str, Any]:
    """Return all tokens these answers ever took, and what they cost; None where a price is unknown."""
    prices = read_prices(settings.prices) if settings.prices else {}
    spent = [(sum(a.tokens_in for a in one), sum(a.tokens_out for a in one)) for one in kept]
    known = all(model in prices for model, _ in settings.models)
    usd = [prices[model].of(*tokens) for (model, _), tokens in zip(settings.models, spent, strict=True) if known]
    return {
        "tokens_in": sum(tokens for tokens, _ in spent),
        "tokens_out": sum(tokens for _, tokens in spent),
        "cost_usd": sum(usd) if known else None,
    }


def evidence(answers: Sequence[Mapping[Unit, Kept | None]]) -> dict[str, Any]:
    """Return how often a quote does not stand in the chart, and a verdict does not follow from its criteria."""
    kept = [answer for of_one in answers for answer in of_one.values() if answer and answer.criteria]
    quoted = [answer.evidence_ok for answer in kept if answer.evidence_ok is not None]
    differ = [json.loads(answer.criteria or "")["derived"] != answer.verdict for answer in kept]
    return {
        "unsupported_evidence": quoted.count(False) / len(quoted) if quoted else None,
        "criteria_vs_verdict_disagreement": sum(differ) / len(differ) if differ else None,
    }


def overall(drafted: Sequence[Unit], panel: Verdicts, certificate: Certificate, case: Case) -> dict[str, Any]:
    """Return the raw rate over the distinct drafted units of all rows, and which true rates it leaves possible."""
    hits, patients = approvals(drafted, panel, case.charts.subject)
    if not len(hits):
        return {"raw_rate": None, "identification": {"lo": 0.0, "hi": 1.0, "identified": False}}
    raw = float(hits.mean())
    error, people = clustered((hits - raw) / len(hits), patients)
    half = half_width(error, people - 1)
    f = certificate.headline[1]
    s = certificate.s
    left = identify((max(raw - half, 0.0), min(raw + half, 1.0)), (s.lo, s.hi), (f.lo, f.hi))
    return {"raw_rate": raw, "identification": {"lo": left.lo, "hi": left.hi, "identified": left.identified}}


def human(settings: Settings, case: Case, drafted: Sequence[Unit], judges: Sequence[Verdicts]) -> dict[str, Any] | None:
    """Return what humans said of the drafted units, and the rate over all of them corrected by it."""
    labelled = {unit: label for unit, label in case.gold.items() if unit in set(drafted)}
    if not labelled:
        return None
    scores = {unit: approval([judge.get(unit) for judge in judges]) for unit in drafted}
    judged = [unit for unit in drafted if scores[unit] is not None]
    corrected = ppi(
        np.array([scores[unit] for unit in judged], float),
        np.array([labelled[unit].appropriate if unit in labelled else np.nan for unit in judged]),
        np.array([labelled[unit].weight if unit in labelled else 0.0 for unit in judged]),
        np.array([case.charts.subject(unit.hadm_id) for unit in judged], np.int64),
    )
    beside = settings.gold.with_suffix(".json") if settings.gold else None
    review = artefacts.read_json(beside, "rxdraft review finalize") if beside and beside.is_file() else {}
    return {
        "n": len(labelled),
        "n_patients": len({case.charts.subject(unit.hadm_id) for unit in labelled}),
        "raters": review.get("raters"),
        "agreement": review.get("agreement"),
        "gold_sha256": sha256_file(settings.gold) if settings.gold else None,
        "ppi": corrected.described() if corrected else None,
    }
