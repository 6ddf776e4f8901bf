"""The drawings of the page: which figures they show, and what they say to those who cannot see them."""

from __future__ import annotations

from evaluation.drafts import Kind
from evaluation.figures import Figures, training_of
from evaluation.ladder import RUNGS, Rule
from evaluation.metrics import BY_NAME, Unit
from evaluation.report.cells import Book, head, number
from evaluation.report.plots import Drawn, Plot, Point, Series, draw

STEP_METRICS = ("output_rate", "accuracy", "jaccard")
LADDER = ("ladder_f1", "skill_f1")


def steps(book: Book) -> list[Drawn]:
    """Return output rate, accuracy and Jaccard by step, a line a rank, against the best baseline."""
    return [draw(plot) for metric in STEP_METRICS if (plot := _by_step(book, metric)) is not None]


def _by_step(book: Book, metric: str) -> Plot | None:
    unit = BY_NAME[metric].unit
    factor = 100 if unit is Unit.SHARE else 1
    cells = [row for row in book.about["rows"] if row["kind"] == Kind.CHECKPOINT]
    by_training: dict[str, list[Point]] = {}
    for row in sorted(cells, key=lambda row: (row["rank"], row["step"])):
        point = _point(row["step"], book.value(row["name"], metric), factor)
        if point is not None:
            by_training.setdefault(training_of(row, book.about), []).append(point)
    if not by_training:
        return None
    series = [Series(f"rank {name}", points, look) for look, (name, points) in enumerate(by_training.items())]
    told = "; ".join(f"{s.name}: " + ", ".join(f"{p.y:.3g} at step {p.x:g}" for p in s.points) for s in series)
    ticks = [(float(step), f"{step:,}") for step in sorted({row["step"] for row in cells})]
    rival = [] if metric == "output_rate" else best_baseline(book, metric)  # a rule always gives a list
    levels = [(factor * value, book.titles[name]) for value, name in rival]
    return Plot(f"steps-{metric}", f"{head(metric)} by step", told, "step", head(metric), series, levels, ticks)


def _point(x: float, line: dict[str, float | None], factor: float) -> Point | None:
    value, lo, hi = (None if line[name] is None else factor * (line[name] or 0.0) for name in ("value", "lo", "hi"))
    return None if value is None else Point(x, value, lo, hi)


def best_baseline(book: Book, metric: str) -> list[tuple[float, str]]:
    """Return value and name of the best baseline; empty where none has a value."""
    found = [
        (value, row["name"])
        for row in book.about["rows"]
        if row["kind"] == Kind.BASELINE and (value := book.value(row["name"], metric)["value"]) is not None
    ]
    return sorted(found, reverse=True)[:1]


def ladder(book: Book) -> list[Drawn]:
    """Return F1 and its skill over the rungs, one to one, of the checkpoint chosen on validation."""
    figures, selected = Figures(book.sources.evaluation.results), book.about["selected"]
    names = {"ladder_f1": "F1", "skill_f1": "skill: what another patient's list would score is 0"}
    series = []
    for look, metric in enumerate(LADDER):
        lines = [figures.find(selected, metric, rung=rung, rule=Rule.ONE_TO_ONE) for rung in RUNGS]
        points = [point for i, line in enumerate(lines) if (point := _point(i, line, 1)) is not None]
        if points:
            series.append(Series(names[metric], points, look))
    told = "; ".join(f"{s.name}: " + ", ".join(f"{p.y:.3f} at {RUNGS[int(p.x)]}" for p in s.points) for s in series)
    ticks = [(float(i), rung.upper() if rung.startswith("atc") else rung) for i, rung in enumerate(RUNGS)]
    plot = Plot("ladder-plot", "F1 and skill by rung", told, "coarser and coarser", "F1, skill", series, (), ticks)
    return [draw(plot, 520, 230)] if series else []


def reliability(book: Book) -> list[Drawn]:
    """Return how often a drug was ordered against how probable it was called, of each row that tells."""
    drawn = []
    for place, row in enumerate(book.about["rows"]):
        found = book.about["calibration"].get(row["name"])
        bins = found["formulary"]["reliability"] if found else []
        points = [Point(b["p"], b["y"], b["lo"], b["hi"]) for b in bins]
        if points:
            told = ", ".join(f"{p.x:.2f}: {p.y:.2f}" for p in points)
            title = book.titles[row["name"]]
            series = [Series(title, points)]
            plot = Plot(f"reliability-{place}", title, told, "probability", "ordered", series, diagonal=True)
            drawn.append(draw(plot, 230, 218))
    return drawn


def curves(book: Book) -> list[Drawn]:
    """Return training and validation loss by step, a drawing a training, in the order of the table."""
    drawn = []
    for place, (name, curve) in enumerate((book.sources.outside.get("curves") or {}).items()):
        series = [
            Series(loss, [Point(step, value) for step, value in curve[loss]], look, dots=loss == "validation")
            for look, loss in enumerate(("train", "validation"))
            if curve[loss]
        ]
        if series:
            told = "; ".join(f"{s.name}: from {s.points[0].y:.3f} to {s.points[-1].y:.3f}" for s in series)
            drawn.append(draw(Plot(f"loss-{place}", f"rank {name}", told, "step", "loss", series)))
    return drawn


def loss_text(book: Book, row: str) -> list[str]:
    """Return a checkpoint's training and validation loss as text."""
    losses = book.about["checkpoints"][row]["losses"]
    return [number(losses.get(name), Unit.SCORE, 4) for name in ("train", "validation")]
