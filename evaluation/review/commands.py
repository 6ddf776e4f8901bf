"""The subcommands `review make`, `review merge` and `review finalize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Have people review drafted drugs: sheets out, answers back, gold labels.")

Folder = Annotated[Path, typer.Argument(metavar="REVIEW", help="Folder of `rxdraft review make`.")]


@app.command()
def make(
    evaluation: Annotated[Path, typer.Option(help="Folder of `rxdraft evaluate`, with its drafts.")],
    out: Annotated[Path, typer.Option(help="Folder to write; it will hold patients' charts.")],
    data: Annotated[Path | None, typer.Option(help="Cohort of the drafts; that of the runs beside them, else.")] = None,
    raters: Annotated[int, typer.Option(min=1, help="People who see every item.")] = 2,
    n: Annotated[int, typer.Option("--n", min=1, help="Items on every sheet, the checks among them.")] = 200,
    decoys: Annotated[float, typer.Option(min=0, max=1, help="Share of wrong drugs that check the raters.")] = 0.15,
    true_drugs: Annotated[float, typer.Option(min=0, max=1, help="Share of ordered drugs that check them.")] = 0.10,
    negatives: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the drafted items that the judge did not approve.")
    ] = 0.25,
    row: Annotated[list[str] | None, typer.Option(help="Only drafts of this row; repeatable. All without it.")] = None,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
) -> None:
    """Draw drafted drugs and write a sheet for every rater, in XLSX, CSV, Label Studio and Potato form."""
    from evaluation.review.drawing import Settings
    from evaluation.review.make import make_review

    settings = Settings(raters, n, decoys, true_drugs, negatives, tuple(row or ()), seed)
    review = make_review(evaluation, data, out, settings)
    counts = review["counts"]
    typer.echo(f"{counts['items']} items of {counts['patients']} patients for {', '.join(review['raters'])}")
    for kind, number in counts["kinds"].items():
        typer.echo(f"  {kind.replace('_', ' '):<20} {number:>5}")
    for said, number in counts["judged"].items():
        typer.echo(f"  {'drafted, ' + said.replace('_', ' '):<20} {number:>5}")
    typer.echo(f"written to {out}; its sheets hold patients' charts ({review['provenance']} data), see README.md there")


@app.command()
def merge(review: Folder) -> None:
    """Read the filled sheets back, measure agreement, and write the sheet of disagreements to settle."""
    from evaluation.review.merge import merge_review

    merged = merge_review(review)
    for name in merged["absent"]:
        typer.echo(f"nothing came back from {name}")
    for name, rater in merged["raters"].items():
        caught, accepted = rater["decoys_caught"], rater["true_drugs_accepted"]
        checks = f"{caught['k']} of {caught['n']} decoys caught, {accepted['k']} of {accepted['n']} true drugs accepted"
        typer.echo(f"{name}: {rater['answered']} of {rater['asked']} answered, {checks}")
    for name, figure in merged["agreement"]["verdict"]["statistics"].items():
        value = "undefined" if figure["value"] is None else f"{figure['value']:.3f}"
        interval = "" if figure["lo"] is None else f"  [{figure['lo']:.3f}, {figure['hi']:.3f}]"
        typer.echo(f"  {name:<40} {value}{interval}")
    typer.echo(f"{merged['counts']['to_adjudicate']} disagreements to settle in {review / 'adjudication.xlsx'}")
    typer.echo(f"see {review / 'agreement.html'}")


@app.command()
def finalize(review: Folder) -> None:
    """Settle one verdict a drug and write the gold labels that correct the judge."""
    from evaluation.review.finalize import finalize_review

    counts = finalize_review(review)["counts"]
    typer.echo(
        f"{counts['labelled']} of {counts['drafted']} drafted drugs labelled, {counts['adjudicated']} adjudicated, "
        f"of {counts['patients']} patients"
    )
    for verdict, number in counts["verdicts"].items():
        typer.echo(f"  {verdict.replace('_', ' '):<40} {number:>5}")
    typer.echo(f"written to {review / 'gold.csv'}")
