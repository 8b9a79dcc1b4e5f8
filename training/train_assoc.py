"""`python training/train_assoc.py …` from a checkout; installed, it is `trackweave assoc train`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from trackweave.association.training.train_assoc import main

if __name__ == "__main__":
    sys.exit(main())
