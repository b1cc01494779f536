"""`python -m research.joins --data SPEECH --work WORK`: trains the network for joins."""

from __future__ import annotations

from research.joins.fit import main

if __name__ == "__main__":
    main()
