"""What an evaluation found, as one value, as JSON and as a page."""
