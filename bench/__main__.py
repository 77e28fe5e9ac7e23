"""`python -m bench` measures all; `python -m bench clicks` one part."""

import sys

from bench import clicks, crowd, pages

PARTS = {"pages": pages.main, "clicks": clicks.main, "crowd": crowd.main}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
        print()
