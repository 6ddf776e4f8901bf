"""The same items for annotation tools: Label Studio and Potato. Projects out, their own exports back.

Sources: labelstud.io/guide/task_format for tasks and exported results; potato's docs/configuration and
potato/export/cli.py (2.12) for its configuration and user_state.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from etl.errors import ContractError
from evaluation.review.form import FIELDS

Returned = tuple[str, str, str, dict[str, Any]]
"""A rater's answers to one item: who, where they stand (for errors), item_id, answers by field."""

# --- Label Studio --------------------------------------------------------------------------------------


def label_studio_config() -> str:
    """Return the labelling interface: the chart beside the questions, the verdict required."""
    view = ElementTree.Element("View", style="display: flex; gap: 2rem")
    chart = ElementTree.SubElement(view, "View", style="flex: 1; white-space: pre-wrap")
    ElementTree.SubElement(chart, "Text", name="chart", value="$chart")
    form = ElementTree.SubElement(view, "View", style="flex: 1")
    ElementTree.SubElement(form, "Header", value="$drug")
    for field in FIELDS:
        ElementTree.SubElement(form, "Header", value=field.question, size="5")
        asked = {"name": field.name, "toName": "chart"}
        if not field.answers:
            ElementTree.SubElement(form, "TextArea", asked, rows="2", maxSubmissions="1", editable="true")
            continue
        required = {"required": "true"} if field.name == "verdict" else {}
        choices = ElementTree.SubElement(form, "Choices", asked | required, choice="single", showInline="true")
        for answer in field.answers:
            ElementTree.SubElement(choices, "Choice", value=answer)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def label_studio_tasks(items: Sequence[Mapping[str, str]], rater: str) -> list[dict[str, Any]]:
    """Return one rater's tasks, in the order they are to be shown; nothing is predicted, so nothing leads."""
    return [{"data": {**item, "rater": rater}, "predictions": [], "annotations": []} for item in items]


def read_label_studio(path: Path) -> list[Returned]:
    """Read Label Studio's JSON export of one or several raters' projects; skipped tasks have no answers.

    Raises:
        ContractError: it is no such export.
    """
    try:
        tasks = json.loads(path.read_text("utf-8"))
        return [_answered(path, number, task) for number, task in enumerate(tasks, 1)]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ContractError(f"{path.name} is no Label Studio export; export as JSON, not JSON-MIN or CSV") from None


def _answered(path: Path, number: int, task: dict[str, Any]) -> Returned:
    given = [annotation for annotation in task["annotations"] if not annotation.get("was_cancelled")]
    if len(given) > 1:
        raise ContractError(f"{path.name} task {number} has {len(given)} annotations, wanted one a rater's project")
    answers: dict[str, Any] = {}
    for result in given[0]["result"] if given else []:
        value = result["value"]
        answers[result["from_name"]] = " ".join(value.get("choices") or value.get("text") or [])
    if given and given[0].get("lead_time") is not None:
        answers["seconds"] = float(given[0]["lead_time"])
    return task["data"]["rater"], f"{path.name} task {number}", task["data"]["item_id"], answers


# --- Potato --------------------------------------------------------------------------------------------


def potato_config(raters: Sequence[str], items: int) -> dict[str, Any]:
    """Return Potato's configuration; raters sign in by the names given here, each in an order of their own."""
    return {
        "annotation_task_name": "Review of drafted drugs",
        "port": 8000,
        "task_dir": ".",
        "data_files": ["items.jsonl"],
        "item_properties": {"id_key": "item_id", "text_key": "text"},
        "output_annotation_dir": "annotation_output/",
        "annotation_codebook_url": "",
        "user_config": {"allow_all_users": False, "users": [{"username": name, "password": ""} for name in raters]},
        "require_password": False,
        "assignment_strategy": "random",
        "max_annotations_per_user": items,
        "max_annotations_per_item": len(raters),
        "annotation_schemes": [_potato_scheme(field) for field in FIELDS],
        "site_dir": "default",
    }


def _potato_scheme(field: Any) -> dict[str, Any]:
    scheme = {"name": field.name, "description": field.question}
    if not field.answers:
        return {"annotation_type": "text", **scheme, "multiline": True, "rows": 2, "cols": 60}
    required = {"label_requirement": {"required": True}} if field.name == "verdict" else {}
    return {"annotation_type": "radio", **scheme, "labels": list(field.answers), "horizontal": True, **required}


def potato_items(items: Sequence[Mapping[str, str]]) -> str:
    """Return the items as JSON lines; Potato shows `text`, in which lines must be HTML's."""
    lines = []
    for item in items:
        text = f"<b>{_escaped(item['drug'])}</b><br><br>" + _escaped(item["chart"]).replace("\n", "<br>")
        lines.append(json.dumps({"item_id": item["item_id"], "text": text}, ensure_ascii=False))
    return "".join(f"{line}\n" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def read_potato(path: Path) -> list[Returned]:
    """Read one rater's user_state.json of Potato's annotation_output/.

    Raises:
        ContractError: it is no such file.
    """
    where = f"{path.parent.name}/{path.name}"
    try:
        state = json.loads(path.read_text("utf-8"))
        labelled = state["instance_id_to_label_to_value"]
        return [
            (str(state["user_id"]), f"{where} item {number}", item_id, _potato_answers(labels))
            for number, (item_id, labels) in enumerate(labelled.items(), 1)
        ]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ContractError(f"{where} is no Potato user state; copy annotation_output/ as it is") from None


def _potato_answers(labels: Any) -> dict[str, Any]:
    """Return answers from [[{schema, name}, value], …], or from {schema: {name: value}}, which docs show."""
    if isinstance(labels, dict):
        labels = [[{"schema": s, "name": n}, v] for s, named in labels.items() for n, v in named.items()]
    listed = {field.name for field in FIELDS if field.answers}
    answers: dict[str, Any] = {}
    for label, value in labels:
        if value not in (None, "", False, "false"):
            answers[label["schema"]] = label["name"] if label["schema"] in listed else value
    return answers
