"""What recording and delivery cost, measured: ``python -m benchmarks``.

Everything that is compared is measured in the same run, in turns, and told as medians: figures of two runs,
or of two machines, say little about each other.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))  # the fleet of the example is measured
