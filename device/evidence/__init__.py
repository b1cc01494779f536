"""What was heard: one answer, the three checks side by side, phrases, galleries."""
