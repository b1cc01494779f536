"""`python -m quantize.train.joins --data SPEECH --work WORK`: trains the network for joins."""

from __future__ import annotations

from quantize.train.joins.fit import main

if __name__ == "__main__":
    main()
