"""A violation reduced to a few operations, told as text and drawn as a picture."""
