"""`keras.ops.image`: images in batches or alone."""
