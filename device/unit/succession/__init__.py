"""From one speaker model to the next: how voiceprints grow, and who has come over."""
