"""A small encoder-decoder for dpk."""
