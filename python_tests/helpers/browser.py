"""A real headless Chromium for tests, driven by its command line."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

PATH = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
REASON = "no chromium on the path (Debian: apt-get install chromium)"
DARK, LIGHT = 0, 1


@dataclass(frozen=True)
class Visit:
    """What a visit to a page showed: the document after loading, and what the browser logged."""

    dom: str
    log: str

    def console(self) -> list[str]:
        """Messages of the page's console: errors, warnings, refused requests."""
        return re.findall(r"CONSOLE[:(].*", self.log)

    def requests(self) -> list[str]:
        """Addresses that the network stack was asked for."""
        return re.findall(r"(?:https?|wss?)://[^\s\"']+", "\n".join(self.console()))


def visit(
    page: Path, work: Path, *, width: int = 1000, height: int = 800, scheme: int = LIGHT, picture: Path | None = None
) -> Visit:
    """Opens a local page.

    A page narrower than 500 pixels is shown in a frame of that width: the browser's window cannot be smaller.

    Args:
        page: The file.
        work: Folder for the browser's profile.
        width: Width of the page.
        height: Height.
        scheme: `LIGHT` or `DARK`.
        picture: Where to put a screenshot, or `None` for the document instead.

    Returns:
        What was seen.
    """
    assert PATH is not None
    target = page
    if width < 500:
        target = work / f"frame-{width}.html"
        frame = f'<iframe src="{page.resolve().as_uri()}" width={width} height={height} style="border:0"></iframe>'
        target.write_text(f"<!DOCTYPE html><body style='margin:0'>{frame}", encoding="utf-8")
    action = ["--dump-dom"] if picture is None else [f"--screenshot={picture}"]
    command = [
        PATH, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
        "--disable-dev-shm-usage", "--disable-background-networking", "--disable-extensions", "--no-proxy-server",
        "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={work / 'profile'}", "--enable-logging=stderr",
        f"--window-size={max(width, 500)},{height}", f"--blink-settings=preferredColorScheme={scheme}", *action,
        target.resolve().as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(f"{PATH} ended with {done.returncode}: {done.stderr[-2000:]}")
    return Visit(done.stdout, done.stderr)
