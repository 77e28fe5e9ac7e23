"""Find a Chromium for the journeys; run as a module, install one if need be."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
APT = ("apt-get", "install", "--yes", "--no-install-recommends", "chromium")


def find() -> str | None:
    """Return the path of a Chromium: the system's, or Playwright's own."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def install() -> None:
    if shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "--quiet"], check=False)
        subprocess.run(
            APT, check=False, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        )
    if find() is None:
        subprocess.run(
            [sys.executable, "-m", "playwright", "install", "chromium"], check=False
        )


def main() -> None:
    if find() is None:
        install()
    if find() is None:
        sys.exit(
            "The browser journeys need Chromium, and none could be installed."
            " Install your system's chromium package, then run this again."
        )


if __name__ == "__main__":
    main()
