"""What voiceprints learn from granted attempts: the next speaker model, and how owners sound of late."""
