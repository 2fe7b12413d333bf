"""`python -m gfscreen`."""

import sys

from gfscreen.cli import main

sys.exit(main())
