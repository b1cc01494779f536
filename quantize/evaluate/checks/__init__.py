"""Each check of the door by itself, against recordings: the words, the voice, the live human."""
