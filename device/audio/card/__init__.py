"""The sound card. PortAudio lives in processes of its own, because a call into it may never come back."""
