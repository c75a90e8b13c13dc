"""`python -m midlayer_embed` is `midlayer-embed`."""

import sys

from midlayer_embed.cli.program import main

if __name__ == "__main__":
    sys.exit(main())
