"""``python -m nco``: the command line."""

import sys

from nco.cli import main

if __name__ == "__main__":
    sys.exit(main())
