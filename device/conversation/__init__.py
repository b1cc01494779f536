"""Who is speaking: recordings of several people, and whether the one who was claimed still speaks."""
