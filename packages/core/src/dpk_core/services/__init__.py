"""Services: files, video, augmentation, sampling, metrics and plugins; each usable alone."""
