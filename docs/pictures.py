"""Draws the pictures of README.md and docs/tutorial.md from the results of `make quickstart`.

    make quickstart && .venv/bin/python docs/pictures.py

It needs chromium, as the tests of the pages do.
"""

import io
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
OUTPUT = ROOT / "data" / "movielens-100k" / "runs" / "movielens-100k"
PICTURES = Path(__file__).parent / "pictures"
# Colours of a picture; pages have few, so that it stays small.
COLOURS = 256


def save(name: str, png: bytes) -> None:
    """Writes a picture with few colours."""
    PICTURES.mkdir(exist_ok=True)
    image = Image.open(io.BytesIO(png)).convert("RGB")
    path = PICTURES / f"{name}.png"
    # Colours that are rare, as those of a legend, stay what they are.
    rare = Image.Quantize.MAXCOVERAGE
    image.quantize(COLOURS, method=rare, dither=Image.Dither.NONE).save(path, optimize=True)
    print(
        f"{path.relative_to(ROOT)}: {image.width} x {image.height}, {path.stat().st_size:,} bytes"
    )


def of_report(page: Page) -> None:
    """Draws parts of the page of the evaluation."""
    page.goto((OUTPUT / "evaluation" / "report.html").as_uri())
    save("verdict", page.screenshot(clip={"x": 0, "y": 0, "width": 1000, "height": 640}))
    page.set_viewport_size({"width": 760, "height": 900})
    charts = page.locator("figure", has=page.locator("svg.chart"))
    save("trade-off", charts.filter(has_text="dial").first.screenshot())
    save("long-tail", page.locator("#tail figure").first.screenshot())
    page.set_viewport_size({"width": 1000, "height": 900})


def of_dashboard(page: Page) -> None:
    """Draws a run in the dashboard."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = f"sqlite:///{OUTPUT}/mlflow.db"
    command = [sys.executable, "-m", "recsys.cli", "dashboard", "--tracking-uri", store]
    process = subprocess.Popen([*command, "--port", str(port)])
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(120):
            try:
                urlopen(address).close()
                break
            except OSError:
                time.sleep(0.5)
        page.set_viewport_size({"width": 1280, "height": 860})
        page.goto(address)
        page.locator("main table a").first.click()
        page.wait_for_selector(".js-plotly-plot .main-svg")
        page.wait_for_timeout(1000)
        save("dashboard", page.screenshot())
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Draws all of them."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        options = {"executable_path": chromium, "args": ["--no-sandbox", "--disable-gpu"]}
        browser = playwright.chromium.launch(**options)
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        of_report(page)
        of_dashboard(page)
        browser.close()


if __name__ == "__main__":
    main()
