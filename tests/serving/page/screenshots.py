"""Take docs/images/page/*.png anew: `python -m tests.serving.page.screenshots --cohort FOLDER --write`, by hand.

Wants Chromium and a Korean font on the machine.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path
from typing import Any

from tests.serving.conftest import CHROMIUM
from tests.serving.page.running import Running, running
from tests.serving.page.states import STATES

IMAGES = Path(__file__).parents[3] / "docs" / "images" / "page"
LARGEST_BYTES = 60_000
COLOURS = (128, 64, 48, 32, 24)
TALLEST = 1080
"""Pixels; more of a long list is more of the same."""

WIDE = {"viewport": {"width": 1280, "height": 860}}
PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 1.5}
WARD = {"viewport": {"width": 1920, "height": 1080}}
VIEWS: dict[str, tuple[str, str, dict[str, Any]]] = {
    **{name.replace("_", "-"): (name, "en", WIDE) for name in STATES},
    "review-ko": ("review", "ko", WIDE),
    "filled-ko": ("filled", "ko", WIDE),
    "deciding-ko-phone": ("deciding", "ko", PHONE),
    "new-draft-phone": ("new_draft", "en", PHONE),
    "review-ward-dark": ("review", "ko", {**WARD, "color_scheme": "dark"}),
}


def main() -> None:
    """Take all pictures, or one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", type=Path, required=True, help="folder of rxdraft etl, of synthetic data")
    parser.add_argument("--model", type=Path, help="checkpoint; else a baseline of the cohort")
    parser.add_argument("--only", choices=VIEWS)
    parser.add_argument("--write", action="store_true", help=f"into {IMAGES}; else into a temporary folder")
    asked = parser.parse_args()
    folder = IMAGES if asked.write else Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as store, running(asked.cohort, Path(store), model=asked.model) as service:
        for name in [asked.only] if asked.only else VIEWS:
            path = folder / f"{name}.png"
            path.write_bytes(smaller(picture(service, *VIEWS[name])))
            print(path, path.stat().st_size)


def picture(service: Running, state: str, language: str, options: dict[str, Any]) -> bytes:
    """Bring a fresh browser into a state, and return what its whole page looks like."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(locale=language, timezone_id="Asia/Seoul", **options)
        context.request.post(f"{service.address}/session", data={"key": service.key})
        page = context.new_page()
        STATES[state](page, service)
        size = options["viewport"]
        height = page.evaluate("document.documentElement.scrollHeight")
        page.set_viewport_size({"width": size["width"], "height": min(max(height, size["height"]), TALLEST)})
        page.locator("#h-list" if state == "deciding" else "header.top").evaluate("part => part.scrollIntoView()")
        page.wait_for_timeout(300)
        taken: bytes = page.screenshot()
        browser.close()
    service.drafter.free.set()
    return taken


def smaller(png: bytes) -> bytes:
    """Return a picture in its most frequent colours, as many as fit into the largest size.

    Pillow's own palettes lose the pale washes that tell a warning from a note.
    """
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGB")
    frequent = [colour for _, colour in sorted(picture.getcolors(1 << 24), reverse=True)]
    for colours in COLOURS:
        palette, kept = Image.new("P", (1, 1)), io.BytesIO()
        palette.putpalette([part for colour in frequent[:colours] for part in colour])
        picture.quantize(palette=palette, dither=Image.Dither.NONE).save(kept, "png", optimize=True)
        if kept.tell() <= LARGEST_BYTES:
            break
    return kept.getvalue()


if __name__ == "__main__":
    main()
