"""What the judge's card and the reviewers' labels say, in rows of words."""

from __future__ import annotations

from typing import Any

from evaluation.figures import UNDEFINED
from evaluation.judge.certificate import PAPER_PARITY, UNCERTIFIED
from evaluation.report.cells import Book, Cell, judged
from evaluation.report.sections import Table
from evaluation.report.sources import Judge

_JSON = dict[str, Any]


def rows(book: Book, judge: Judge) -> Table:
    """Return the judge's figure of every row, with its bounds."""
    lines = []
    for name, title in book.titles.items():
        if name in judge.rows:
            found = judge.rows[name]
            bounds = found.if_abstained and f"{_percent(found.if_abstained[0])} to {_percent(found.if_abstained[1])}"
            cells = (_percent(found.raw), _percent(found.visit_mean), bounds or UNDEFINED, f"{found.drugs:,}")
            lines.append((title, [judged(judge, name), *map(Cell, cells)]))
    heads = [
        "printed, %",
        "raw, %",
        "mean of visits, no list 0, %",
        "abstained as wrong to as right, %",
        "drugs judged",
    ]
    return Table("Appropriateness as a judge has it; read it with the card below.", heads, lines)


def verdict(judge: Judge) -> str:
    """Return what the judge may be called."""
    if judge.card["mode"] == "paper-parity":
        return PAPER_PARITY
    return "certified" if judge.card["certified"] else UNCERTIFIED


def facts(judge: Judge) -> list[tuple[str, str]]:
    """Return the card as pairs of name and words; what it does not have is left out."""
    card = judge.card
    models = "; ".join(
        f"{model['requested']} ({', '.join(model['returned']) or 'never answered'}"
        f"{', shut down ' + model['shutdown_date'] if model['shutdown_date'] else ''})"
        for model in card["models"]
    )
    found = [
        ("card", judge.card_id),
        ("verdict", verdict(judge)),
        ("reasons", "; ".join(card["reasons"])),
        ("judges", models),
        ("prompt", card["prompt_sha256"][:12]),
        ("protocol", card["protocol_version"]),
        ("asked", " to ".join(card["dates"]) if card.get("dates") else ""),
        ("units, patients", f"{card['n_items']:,}, {card['n_patients']:,}"),
        ("data", card["provenance"]),
        ("tokens in, out", f"{card['usage']['tokens_in']:,}, {card['usage']['tokens_out']:,}"),
        ("cost", "" if card["usage"]["cost_usd"] is None else f"US$ {card['usage']['cost_usd']:.2f}"),
        ("answers kept", card["ledger_sha256"][:12]),
    ]
    return [(name, words) for name, words in [*found, *_quality(card)] if words]


def _quality(card: _JSON) -> list[tuple[str, str]]:
    """Return what the decoys showed; nothing for a protocol without decoys."""
    if "s" not in card:
        return []
    gap, left = card["swap_gap"], card["identification"]
    return [
        ("true orders approved (s)", _share(card["s"])),
        *((f"approved among {kind.replace('_', ' ')} (f)", _share(f)) for kind, f in card["f"].items() if f["n"]),
        ("invented drugs approved", f"{card['canary']['accepted']} of {card['canary']['n']}"),
        (
            "swap gap",
            ""
            if gap is None
            else f"{gap['est']:.2f} [{gap['ci'][0]:.2f}, {gap['ci'][1]:.2f}]; near 0 it reads no chart",
        ),
        ("changed when asked again", f"{_percent(card['retest_flip']['est'])} % of {card['retest_flip']['n']}"),
        ("abstained", f"{_percent(card['abstention'].get('overall'))} %"),
        ("quotes not in the chart", f"{_percent(card['unsupported_evidence'])} %"),
        ("raw rate, all rows", f"{_percent(card['raw_rate'])} %"),
        (
            "true rates left possible",
            f"{_percent(left['lo'])} to {_percent(left['hi'])} %; {'' if left['identified'] else 'not '}identified",
        ),
    ]


def human(book: Book) -> list[tuple[str, str]]:
    """Return what people said, from the card or from the review; empty where nobody was asked."""
    review = book.sources.outside.get("review")
    card = book.sources.judge.card.get("human") if book.sources.judge else None
    found: list[tuple[str, str]] = []
    if card:
        found.append(("labelled drugs, patients", f"{card['n']:,}, {card['n_patients']:,}"))
        if ppi := card["ppi"]:
            found.append(("rate over all rows, corrected", _corrected(ppi)))
    if review:
        found += [("labels", review["tripod_llm"]["8b"]), ("agreement", review["tripod_llm"]["8c"])]
        said = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in review["counts"]["verdicts"].items())
        found += [("verdicts", said), ("gold labels", review["gold_sha256"][:12])]
    return found


def _corrected(ppi: _JSON) -> str:
    lo, hi = ppi["ci"]
    return f"{_percent(ppi['est'])} % [{_percent(lo)}, {_percent(hi)}], λ = {ppi['lambda']:.2f}"


def _share(found: _JSON) -> str:
    if found["est"] is None:
        return f"{UNDEFINED} of {found['n']}"
    return f"{_percent(found['est'])} % [{_percent(found['ci'][0])}, {_percent(found['ci'][1])}] of {found['n']}"


def _percent(share: float | None) -> str:
    return UNDEFINED if share is None else f"{100 * share:.1f}"
