"""A row's appropriateness: the figure, what it may be called, and the badge it cannot be printed without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from etl.artefacts import read_json, sha256_file
from etl.errors import ContractError
from evaluation.judge.certificate import PAPER_PARITY, UNCERTIFIED, Certificate
from evaluation.judge.correction import Corrected, ppi
from evaluation.judge.decoys import Kind
from evaluation.judge.gold import Label
from evaluation.judge.intervals import Floats, clopper_pearson, clustered, half_width, identify, rogan_gladen
from evaluation.judge.items import Unit
from evaluation.judge.panel import Verdicts, approval
from evaluation.judge.protocol import Verdict

FOLDER, PARITY_FOLDER = "judge", "judge-paper-parity"
CARD, ROWS = "judge-card.json", "appropriateness.json"


@dataclass(frozen=True, slots=True)
class Appropriateness:
    """One row's figure.

    Attributes:
        value: in [0, 1]; corrected by human labels where there are enough, else raw; None where nothing can be said.
        lo, hi: 95 % interval of the corrected value, else the identification interval of the true rate.
        text: what a table prints, the badge aside.
        badge: must be printed with the text; "" for a judge that passed.
        status: corrected, identified, not identified, void, nothing judged, or paper-parity.
        raw: approved / judged, over all drugs of the row.
        visit_mean: mean over visits of the share approved, 0 for an answer that is no list; None without a visit.
        if_abstained: raw, had every drug without an opinion been inappropriate, and appropriate.
        mean: raw by the mean of a panel's judges, where `raw` is by veto.
        rogan_gladen: the point estimate from s and f; shown beside, never instead.
        drugs, visits, patients: judged ones.
        abstained, errors, open: drugs without an opinion.
    """

    value: float | None
    lo: float
    hi: float
    text: str
    badge: str
    status: str
    raw: float | None = None
    visit_mean: float | None = None
    if_abstained: tuple[float, float] | None = None
    mean: float | None = None
    rogan_gladen: float | None = None
    drugs: int = 0
    visits: int = 0
    patients: int = 0
    abstained: int = 0
    errors: int = 0
    open: int = 0


def badge(certificate: Certificate) -> str:
    """Return what must stand beside every figure of this judge; "" where it passed."""
    parts = [UNCERTIFIED] if certificate.reasons or certificate.void else []
    if certificate.open:
        parts.append(f"INCOMPLETE: {certificate.open} units open")
    return "; ".join(parts)


def row_table(drafts: pl.DataFrame, judges: Sequence[Verdicts], panel: Verdicts) -> pl.DataFrame:
    """Return the drafted drugs with their verdicts: row, subject_id, hadm_id, drug, verdict, weight, and more.

    `approval` is the mean over the judges; `verdict` is null where nobody has answered. No text of a chart.
    """
    units = [Unit(hadm_id, label) for hadm_id, label in drafts.select("hadm_id", "label").iter_rows()]
    found = [panel.get(unit) if unit.drug is not None else None for unit in units]
    means = [approval([judge.get(unit) for judge in judges]) if unit.drug is not None else None for unit in units]
    return drafts.with_columns(
        pl.Series("verdict", [verdict.value if verdict else None for verdict in found], pl.String),
        pl.Series("approval", means, pl.Float64),
    )


def judge_row(row: pl.DataFrame, certificate: Certificate, gold: Mapping[Unit, Label]) -> Appropriateness:
    """Return the appropriateness of one row.

    Args:
        row: its lines of `row_table`.
        certificate: of the judge.
        gold: human labels by unit; empty: none.
    """
    drugs = row.drop_nulls("drug")
    opinion = drugs.filter(pl.col("verdict").is_not_null() & (pl.col("verdict") != Verdict.ERROR))
    counts: dict[str, Any] = {
        "drugs": opinion.height,
        "visits": opinion["hadm_id"].n_unique(),
        "patients": opinion["subject_id"].n_unique(),
        "abstained": drugs.filter(pl.col("verdict") == Verdict.INSUFFICIENT).height,
        "errors": drugs.filter(pl.col("verdict") == Verdict.ERROR).height,
        "open": drugs["verdict"].null_count(),
    }
    mark = badge(certificate)
    if opinion.is_empty():
        return Appropriateness(None, 0.0, 1.0, "nothing judged", mark, "nothing judged", **counts)
    hits = (opinion["verdict"] == Verdict.APPROPRIATE).cast(pl.Float64).to_numpy()
    raw, spread = _clustered_share(hits, opinion)
    s, (_, f) = certificate.s, certificate.headline
    shown: dict[str, Any] = {
        "raw": raw,
        "visit_mean": _visit_mean(row),
        "if_abstained": _bounds(drugs),
        "mean": _weighted(opinion["approval"].to_numpy(), opinion),
        "rogan_gladen": None if s.est is None or f.est is None else rogan_gladen(raw, s.est, f.est),
        **counts,
    }
    if certificate.void:
        invented = certificate.f[Kind.FICTITIOUS]
        text = f"void ({100 * (invented.est or 0):.0f} % of {invented.n} invented drugs approved)"
        return Appropriateness(None, 0.0, 1.0, text, mark, "void", **shown)
    if corrected := _correct(opinion, gold):
        return Appropriateness(*_of(corrected), _corrected_text(corrected), mark, "corrected", **shown)
    left = identify(spread, (s.lo, s.hi), (f.lo, f.hi))
    if left.identified:
        text = f"{100 * raw:.1f} [{100 * left.lo:.0f}, {100 * left.hi:.0f}]"
        return Appropriateness(raw, left.lo, left.hi, text, mark, "identified", **shown)
    known = "f unknown" if f.est is None else f"f={_point(f.est)}"
    text = f"{100 * raw:.1f}† ({known}; not identified)"
    return Appropriateness(raw, left.lo, left.hi, text, mark, "not identified", **shown)


def parity_row(shares: Mapping[int, float], unscored: int, left_open: int) -> Appropriateness:
    """Return the reference's figure: the mean over lists of the share the judge counts as appropriate.

    Args:
        shares: by stay, of lists whose every drug was counted.
        unscored: lists without such a count; never appropriate.
        left_open: lists nobody has answered.
    """
    value = float(np.mean(list(shares.values()))) if shares else None
    text = "nothing judged" if value is None else f"{100 * value:.1f}‡"
    mark = PAPER_PARITY + (f"; INCOMPLETE: {left_open} lists open" if left_open else "")
    return Appropriateness(
        *(value, 0.0, 1.0, text, mark, "paper-parity"), raw=value, visits=len(shares), errors=unscored, open=left_open
    )


def _clustered_share(hits: Floats, opinion: pl.DataFrame) -> tuple[float, tuple[float, float]]:
    """Return the weighted share and its interval by patient; exact over patients where all or none are hits."""
    weights, patients = opinion["weight"].to_numpy(), opinion["subject_id"].to_numpy()
    raw = _weighted(hits, opinion)
    people = len(np.unique(patients))
    if hits.min() == hits.max():
        return raw, clopper_pearson(round(raw) * people, people)
    error, _ = clustered(weights * (hits - raw) / weights.sum(), patients)
    half = half_width(error, people - 1)
    return raw, (max(raw - half, 0.0), min(raw + half, 1.0))


def _weighted(values: Floats, lines: pl.DataFrame) -> float:
    return float(np.average(values, weights=lines["weight"].to_numpy()))


def _visit_mean(row: pl.DataFrame) -> float | None:
    """Return the failure-inclusive mean: a visit whose answer is no list counts 0, an empty list nothing."""
    judged = pl.col("verdict").is_not_null() & (pl.col("verdict") != Verdict.ERROR)
    approved = (pl.col("verdict") == Verdict.APPROPRIATE).cast(pl.Float64)
    visits = row.group_by("hadm_id", maintain_order=True).agg(
        (approved.filter(judged) * pl.col("weight").filter(judged)).sum().alias("approved"),
        pl.col("weight").filter(judged).sum().alias("judged"),
        pl.col("weight").filter(~pl.col("listed")).sum().alias("failed"),
    )
    of_lists = pl.col("approved") / pl.col("judged") * (1 - pl.col("failed"))  # of several answers, some may be none
    mean = pl.when(pl.col("judged") > 0).then(of_lists).when(pl.col("failed") > 0).then(0.0)
    means = visits.select(mean.alias("mean"))["mean"].drop_nulls().to_numpy()
    return float(means.mean()) if len(means) else None


def _bounds(drugs: pl.DataFrame) -> tuple[float, float]:
    approved = _weighted((drugs["verdict"] == Verdict.APPROPRIATE).fill_null(False).cast(pl.Float64).to_numpy(), drugs)
    denied = (drugs["verdict"] == Verdict.INAPPROPRIATE).fill_null(False).cast(pl.Float64).to_numpy()
    return approved, 1 - _weighted(denied, drugs)


def _correct(opinion: pl.DataFrame, gold: Mapping[Unit, Label]) -> Corrected | None:
    """Correct over the row's drugs; one drafted in several answers counts by its weight only in the raw rate."""
    if not gold:
        return None
    once = opinion.unique(["hadm_id", "label"], maintain_order=True)
    labels = [gold.get(Unit(*pair)) for pair in once.select("hadm_id", "label").iter_rows()]
    return ppi(
        once["approval"].to_numpy(),
        np.array([label.appropriate if label else np.nan for label in labels]),
        np.array([label.weight if label else 0.0 for label in labels]),
        once["subject_id"].to_numpy(),
    )


def _of(corrected: Corrected) -> tuple[float, float, float]:
    return corrected.est, corrected.lo, corrected.hi


def _corrected_text(corrected: Corrected) -> str:
    est, lo, hi = (100 * number for number in _of(corrected))
    return f"{est:.0f} [{lo:.0f}, {hi:.0f}] corrected, n={corrected.n}"


def _point(x: float) -> str:
    """Write a rate without its leading zero, as certificates do.

    >>> _point(0.914), _point(1.0)
    ('.91', '1.00')
    """
    return f"{x:.2f}".removeprefix("0")


def described(rows: Mapping[str, Appropriateness]) -> dict[str, dict[str, Any]]:
    """Return the rows as appropriateness.json holds them."""
    return {name: asdict(row) for name, row in rows.items()}


def read_appropriateness(evaluation: Path, *, paper_parity: bool = False) -> dict[str, Appropriateness] | None:
    """Return every judged row of an evaluation by name; None where no card stands, since no number prints without.

    Args:
        evaluation: the folder of `rxdraft evaluate`.
        paper_parity: those of the reference's protocol.

    Raises:
        ContractError: the figures are not those of the card.
    """
    folder = evaluation / (PARITY_FOLDER if paper_parity else FOLDER)
    if not (folder / CARD).is_file():
        return None
    kept = read_json(folder / ROWS, "rxdraft judge")
    if kept["card_sha256"] != sha256_file(folder / CARD):
        raise ContractError(f"{folder / ROWS} is not of the card beside it; run `rxdraft judge` again")
    rows = kept["rows"]
    return {name: Appropriateness(**{**row, "if_abstained": _pair(row["if_abstained"])}) for name, row in rows.items()}


def _pair(values: list[float] | None) -> tuple[float, float] | None:
    return None if values is None else (values[0], values[1])
