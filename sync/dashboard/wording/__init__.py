"""What the page says: words for events and reasons, languages, pictures."""
