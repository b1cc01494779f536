"""One speaker model follows another: does any impostor gain by it?"""
