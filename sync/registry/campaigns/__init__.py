"""Attacks that belong together: prints in campaigns, the watch list, what units are warned of."""
