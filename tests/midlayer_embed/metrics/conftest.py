"""The plain metrics beside these tests are a module that the benchmark imports, too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
