"""One person, and who answers for temporary people until when."""
