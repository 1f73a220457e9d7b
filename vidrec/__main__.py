"""`python -m vidrec`: the same as the command `vidrec`."""

import sys

from vidrec.cli import main

if __name__ == "__main__":
    sys.exit(main())
