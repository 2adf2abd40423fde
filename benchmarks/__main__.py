"""``python -m benchmarks``."""

import sys

from benchmarks import interrupts
from benchmarks.cli import main

interrupts.listen()
code = main()
interrupts.ignore()
sys.exit(code)
