"""The subcommands of `rxdraft audit` and `rxdraft store`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from serving.store.engine import Store

STORE = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="SQLite file, or URL of SQLite or PostgreSQL; left out, $RXDRAFT_STORE or a file in the data folder.",
    ),
]

audit = typer.Typer(name="audit", no_args_is_help=True, help="Prove that nothing recorded was changed since.")
store = typer.Typer(name="store", no_args_is_help=True, help="Look after the store of drafts and reviews.")


@audit.command()
def verify(
    store: STORE = None,
    head: Annotated[
        str | None, typer.Option(help="A hash that `rxdraft audit head` printed earlier: finds a cut end.")
    ] = None,
) -> None:
    """Walk the audit trail and compare drafts and reviews with it; exit status 1 if anything was changed."""
    from serving.store import verification

    found = verification.verify(_open(store), head)
    for problem in found.problems:
        print(problem)
    print(f"{found.events:,} events, {len(found.problems)} problems, head {found.head}")
    if found.problems:
        raise typer.Exit(1)


@audit.command()
def head(store: STORE = None) -> None:
    """Print the newest event's hash, to be kept elsewhere."""
    from serving.store.audit import Audit

    print(Audit(_open(store)).head())


@store.command()
def migrate(store: STORE = None) -> None:
    """Make a store, or bring its tables up to date; `rxdraft serve` does the same when it starts."""
    from serving.store.engine import open_store
    from serving.store.location import store_url
    from serving.store.migrate import head as newest

    print(f"{open_store(store_url(store)).name} is at schema {newest()}")


@store.command()
def check(store: STORE = None) -> None:
    """Say whether the store can be read and has this version's tables."""
    opened = _open(store)
    opened.check()
    print(f"{opened.name} answers")


@store.command()
def purge(
    store: STORE = None,
    settings: Annotated[Path | None, typer.Option(help="TOML of settings, for its ages and its store.")] = None,
    drafts_days: Annotated[
        float | None, typer.Option(min=0, help="Age at which drafts lose their content; keep_drafts_days, else.")
    ] = None,
    reasons_days: Annotated[
        float | None, typer.Option(min=0, help="Age at which free-text reasons are removed; keep_reasons_days, else.")
    ] = None,
    cds_days: Annotated[
        float | None, typer.Option(min=0, help="Age at which CDS cards and feedback are deleted; as drafts, else.")
    ] = None,
) -> None:
    """Remove what is older than its age, what has none stays; digests do, so that the audit trail still verifies."""
    from serving.settings import read_settings
    from serving.store import retention

    given = read_settings(settings, store=store)
    drafts = given.keep_drafts_days if drafts_days is None else drafts_days
    reasons = given.keep_reasons_days if reasons_days is None else reasons_days
    ages = retention.ages_of_days(drafts, reasons, drafts if cds_days is None else cds_days)
    for kind, count in retention.purge(_open(given.store), ages).items():
        print(f"{kind.replace('_', ' '):16} {count:>9,}")


@store.command()
def export(
    out: Annotated[Path, typer.Argument(help="File to write: .jsonl or .parquet.")],
    store: STORE = None,
    days: Annotated[float | None, typer.Option(min=0, help="Only drafts of the last days; all, else.")] = None,
    free_text: Annotated[
        bool, typer.Option("--free-text", help="With reasons as written, which may name a patient.")
    ] = False,
) -> None:
    """Write a row for each drafted drug: rank, probability, rules that fired, decision and reason code."""
    from datetime import timedelta

    from serving.store.export import export as write

    opened = _open(store)
    since = None if days is None else opened.now() - timedelta(days)
    print(f"{out}: {write(opened, out, since=since, free_text=free_text):,} rows")


@store.command()
def backup(
    out: Annotated[Path, typer.Argument(help="New file; it holds patients' data and the store's secret.")],
    store: STORE = None,
) -> None:
    """Copy a SQLite store while it is in use, and verify the copy."""
    from serving.store.backup import backup as copy

    found = copy(_open(store), out)
    print(f"{out}: {found.events:,} events, head {found.head}")


@store.command()
def restore(
    copy: Annotated[Path, typer.Argument(help="A backup made by `rxdraft store backup`.")], store: STORE = None
) -> None:
    """Make a store out of a backup, where none stands, and verify it."""
    from serving.store.backup import restore as put_back
    from serving.store.location import store_url

    url = store_url(store)
    found = put_back(copy, url)
    print(f"{url}: {found.events:,} events, head {found.head}")


def _open(store: str | None) -> Store:
    from serving.store.engine import open_store
    from serving.store.location import store_url

    return open_store(store_url(store), upgrade=False)
