"""Run the command line as ``python -m bluejay_ws``."""

import sys

from bluejay_ws.cli import main

if __name__ == "__main__":
    sys.exit(main())
