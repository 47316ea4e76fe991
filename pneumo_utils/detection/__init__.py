"""Object detection: detectors, training targets, metrics, and baselines that never see an image."""
