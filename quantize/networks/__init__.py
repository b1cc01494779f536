"""One module for each network of the bundle: how it is built, how it is proven, and its recipes."""
