"""``python -m benchmarks``."""

import sys

from benchmarks.cli import main
from benchmarks.interrupts import interruptible

with interruptible():
    sys.exit(main())
