"""`python -m research.attacks --data SPEECH --out ATTACKS`: makes every attack that packages allow."""

from __future__ import annotations

from research.attacks.make import main

if __name__ == "__main__":
    main()
