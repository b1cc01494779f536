"""What the site brings: doors and their places, names of people, a demonstration."""
