"""``python -m gateway.testing.storm``."""

import sys

from gateway.testing.storm.command import main

sys.exit(main())
