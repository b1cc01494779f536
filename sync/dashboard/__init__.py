"""The web page: every door at a glance, every decision explained, every log proven."""
