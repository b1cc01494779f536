"""The live check's two networks as PyTorch modules."""
