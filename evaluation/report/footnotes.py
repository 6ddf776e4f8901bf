"""What must stand under every table so that its numbers mean something elsewhere; generated, never typed."""

from __future__ import annotations

from etl.artefacts import sha256
from evaluation.report.cells import Book

MARKS = (
    ("–", "undefined: no visit to average"),
    ("-", "suppressed: it would tell of fewer than 20 patients"),
    ("†", "a judge's figure that does not identify the true rate"),
    ("‡", "a judge without a certificate, or the reference's protocol"),
)


def split_digest(book: Book) -> str:
    """Return a digest of which visits were scored: two tables with the same one can be compared."""
    visits = book.sources.evaluation.visits
    scored = visits.filter(row=visits["row"][0])["hadm_id"].sort()
    return sha256("\n".join(map(str, scored)).encode())[:12]


def footnotes(book: Book) -> list[tuple[str, str]]:
    """Return the footnote of the main tables as pairs of subject and words."""
    about = book.about
    drawn, comparisons = about["redrawn"], about["comparisons"]
    source = ((book.sources.outside.get("cohort") or {}).get("source") or {}).get("version")
    return [
        ("Cohort", f"{about['cohort_sha256'][:12]}{f', {source}' if source else ''}; truth: the drugs ordered"),
        (
            "Visits",
            f"split {about['split']} by {about['settings'].get('split', 'patient')}, digest {split_digest(book)}: "
            f"{about['admissions']:,} admissions of {about['patients']:,} patients",
        ),
        ("Convention", "ours: per visit, then over visits; accuracy as the reference has it"),
        (
            "Empty lists",
            "a list without drugs is an answer; right (1) where nothing was ordered, dropped from accuracy, "
            "else 0; an answer that is no list counts 0",
        ),
        (
            "Estimand",
            "all visits; accuracy, drugs and length error: visits with a list; invented, off formulary: drafted drugs; "
            "PRAUC: rows that score every drug",
        ),
        ("Rung and rule", "names of drugs, as sets"),
        (
            "Baselines' lists",
            f"as long as those of {book.titles[about['selected']]}, visit by visit"
            if about["matched_lengths"]
            else "cut where F1 was highest on validation, as each is served",
        ),
        (
            "Intervals",
            f"95 %, cluster bootstrap by patient, B = {drawn['draws']:,}, seed {drawn['seed']}; percentile, widened "
            "to Student's t; all 0 or all 1: Clopper-Pearson on patients",
        ),
        ("Clustering", _clustering(about["clustering"])),
        (
            "Smallest detectable difference",
            "; ".join(
                f"{name} {found['smallest_detectable']:.3f}"
                for metric, found in sorted(comparisons.items())
                if found["smallest_detectable"] is not None
                for name in [{"jaccard": "Jaccard", "accuracy_all": "accuracy, all"}.get(metric, metric)]
            )
            or "not known: one checkpoint",
        ),
        (
            "Multiplicity",
            "ties with the best checkpoint of a column: all pairs, max-T; differences to "
            f"{book.titles[about['selected']]}, chosen on validation: simultaneous max-T intervals, Holm's p",
        ),
        ("Judge card", _judge(book)),
        ("Literature", "no row of another data set or label space stands in these tables"),
        ("Per-visit table", f"{about['per_visit_sha256'][:12]}; drug pairs {about['interactions_sha256'][:12]}"),
    ]


def _clustering(found: dict[str, float] | None) -> str:
    if found is None:
        return "not known: too few patients with several visits"
    correlation = f"{found['icc']:.2f}".replace("-", "−")
    return (
        f"visits of a patient correlate by {correlation} in Jaccard; design effect {found['design_effect']:.2f} "
        f"at {found['visits']:.1f} visits"
    )


def _judge(book: Book) -> str:
    cards = [
        f"{judge.card_id} ({judge.card['mode']})"
        for judge in (book.sources.judge, book.sources.parity)
        if judge is not None
    ]
    return ", ".join(cards) or "none: nobody was asked"
