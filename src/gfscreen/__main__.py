"""`python -m gfscreen`."""

import logging
import os
import sys

from gfscreen.command.cli import command_of, main

code = main()
if command_of(sys.argv[1:]) == "predict":
    # All is written and closed. A network that still compiles, because nothing needed it, is not waited for, nor are
    # the libraries taken apart: both may take longer than the rest of a small scan.
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
sys.exit(code)
