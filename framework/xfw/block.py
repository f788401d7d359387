"""The unit of work of every executor: ``python -m xfw.block RUN_DIR BLOCK`` (see ``xfw.process.block``)."""

from __future__ import annotations

import sys

from xfw.process.block import command

if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
