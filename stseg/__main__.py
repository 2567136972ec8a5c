"""``python -m stseg``."""

import sys

from stseg.cli import main

sys.exit(main())
