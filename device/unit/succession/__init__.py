"""From one speaker model to the next: whose voiceprint grows, by what rule, and who has come over."""
