"""``python -m csbviz``: the command line."""

import sys

from csbviz.cli import main

if __name__ == "__main__":
    sys.exit(main())
