"""The command `rxdraft`: the subcommands of the four packages, in the order the data flow."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Annotated

import typer

import etl.augment_commands
import etl.commands
import etl.format_commands
import evaluation.baseline_commands
import evaluation.commands
import evaluation.judge.commands
import evaluation.medqa.commands
import evaluation.report.commands
import evaluation.review.commands
import evaluation.statistics.commands
import evaluation.strategies.commands
import evaluation.sweep.commands
import serving.access.commands
import serving.batch.commands
import serving.commands
import serving.probabilities.commands
import serving.store.commands
import training.commands
import training.export_commands
import training.plan_commands
from etl.errors import RxdraftError

app = typer.Typer(
    name="rxdraft",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Draft prescription lists from MIMIC-IV admissions. No clinical use without review.",
)
for command in (
    etl.commands.synth,
    etl.commands.etl,
    training.plan_commands.plan,
    training.commands.train,
    evaluation.sweep.commands.sweep,
    training.export_commands.curves,
    training.export_commands.export_model,
    serving.probabilities.commands.calibrate,
    serving.commands.recommend,
    serving.batch.commands.predict,
    serving.commands.serve,
    evaluation.commands.evaluate,
    evaluation.baseline_commands.baselines,
    evaluation.strategies.commands.compare,
    evaluation.medqa.commands.medqa,
    evaluation.report.commands.report,
    evaluation.statistics.commands.simulate,
):
    app.command()(command)
app.command("export")(etl.format_commands.export)
app.command("import")(etl.format_commands.import_)
app.command()(etl.augment_commands.augment)
app.add_typer(serving.access.commands.app, name="keys")
app.add_typer(serving.store.commands.audit, name="audit")
app.add_typer(serving.store.commands.store, name="store")
app.add_typer(evaluation.judge.commands.app, name="judge")
app.add_typer(evaluation.review.commands.app, name="review")


@app.callback()
def _set_up(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every step to stderr.")] = False,
) -> None:
    """Set up logging, once."""
    # Between versions of transformers and peft, about names neither we nor a user can change.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for package in ("etl", "training", "serving", "evaluation"):
        logging.getLogger(package).setLevel(logging.INFO if verbose else logging.WARNING)


def main() -> None:
    """Run the command; a user's mistake is one line on stderr and exit status 2."""
    try:
        app()
    except RxdraftError as error:
        print(f"rxdraft: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a full disk, a folder that may not be written to
        print(f"rxdraft: {error.filename or 'input or output'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
