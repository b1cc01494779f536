"""Evidence of a recording: who speaks, a person or a machine, where it was joined, what nobody can say."""
