"""What others published: pinned, fetched, proven by its hash, and read without running what it carries."""
