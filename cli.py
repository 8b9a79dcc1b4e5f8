"""`python -m cli --video V [--log-level L] …` from a checkout; an installed trackweave has the `trackweave` command."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "src"))

from trackweave.cli.boxes import main

if __name__ == "__main__":
    main()
