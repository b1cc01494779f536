"""Evidence about a recording: who speaks, person or machine, where it was joined, what stays open."""
