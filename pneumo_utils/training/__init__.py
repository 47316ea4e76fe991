"""Training: a fastai Learner in one call from loaders, a trunk with its head, a loss and an optimiser, as each paper
describes them.
"""
