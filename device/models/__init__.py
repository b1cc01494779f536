"""The networks that check words, voice and liveness, and their front ends."""
