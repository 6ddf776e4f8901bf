"""The subcommand `simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def simulate(
    worlds: Annotated[int, typer.Option(min=2, help="Worlds with effects, and as many without.")] = 1000,
    patients: Annotated[int, typer.Option(min=50, help="Patients in each, of 2.8 visits on average.")] = 200,
    draws: Annotated[int, typer.Option(min=100, help="Bootstrap draws in each.")] = 600,
    seed: Annotated[int, typer.Option(min=0, help="Of the worlds; the same seed prints the same table.")] = 0,
    json: Annotated[Path | None, typer.Option(help="File to write the findings to as well.")] = None,
) -> None:
    """Test the evaluation's statistics where the truth is known: coverage, false alarms, optimism."""
    from dataclasses import asdict

    from etl.artefacts import whole_or_absent, write_json
    from etl.progress import bar
    from evaluation.statistics.simulate import simulate as run
    from evaluation.statistics.simulate import to_markdown

    with bar("worlds", worlds) as told:
        findings = run(worlds, patients, draws, seed, told)
    print(to_markdown(findings))
    print(f"{worlds:,} worlds of each sort, {patients} patients in each, {draws} draws, seed {seed}")
    if json is not None:
        asked = {"worlds": worlds, "patients": patients, "draws": draws, "seed": seed}
        content = {"made_by": "rxdraft simulate", **asked, "findings": [asdict(f) | {"kept": f.kept} for f in findings]}
        with whole_or_absent(json) as new:
            write_json(new, content)
        print(f"written to {json}")
