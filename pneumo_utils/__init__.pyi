# The public names, by area and in the order of the work. `__init__.py`, editors and type checkers read this file.

# data
from .data.readers import read_cohort as read_cohort
from .phantom.writers.writer import write_release as write_release
from .phantom.writers.writer import cached_release as cached_release
from .phantom.writers.ground_truth import lesion_masks as lesion_masks
from .data.cohort import Cohort as Cohort
from .data.cohort import concat_cohorts as concat_cohorts
from .data.cohort import subsample_train as subsample_train
from .data.duplicates import near_duplicates as near_duplicates
from .data.loaders import Flip as Flip

# networks
from .models.create import trunk as trunk
from .models.blocks import with_head as with_head
from .models.blocks import Chain as Chain
from .models.freezing import set_trainable as set_trainable
from .models.freezing import trainable_table as trainable_table
from .models.registry import trunk_names as trunk_names
from .models.create import trunk_table as trunk_table
from .models.auto_rgn import AutoRGN as AutoRGN

# training
from .training.learner import learner as learner
from .training.learner import fitting as fitting
from .training.predict import predict as predict
from .training.random_state import seeded as seeded
from .training.feature_cache import feature_cache as feature_cache
from .training.learner import fit_phases as fit_phases
from .training.learner import Phase as Phase
from .training.optimizers import adam as adam
from .training.optimizers import sgd as sgd
from .training.losses import weighted_cross_entropy as weighted_cross_entropy
from .training.callbacks import MaxSteps as MaxSteps
from .training.callbacks import KeepBest as KeepBest
from .training.callbacks import StopAtNaN as StopAtNaN
from .training.checkpoint import Checkpoint as Checkpoint

# evaluation
from .evaluation.predictions import Predictions as Predictions
from .evaluation.scores import compute_score as compute_score
from .evaluation.predictions import score_table as score_table
from .evaluation.comparison import compare_models as compare_models
from .evaluation.baselines import grey_pixels as grey_pixels
from .evaluation.baselines import fit_baselines as fit_baselines
from .evaluation.thresholds import choose_threshold as choose_threshold
from .evaluation.thresholds import reliability_table as reliability_table
from .evaluation.comparison import mean_ci as mean_ci
from .evaluation.comparison import paired_difference as paired_difference

# explanation
from .explain.attribution import saliency_maps as saliency_maps
from .explain.map_metrics import deletion_curve as deletion_curve
from .explain.map_metrics import pointing_game as pointing_game
from .explain.randomisation import sanity_check as sanity_check

# plots
from .plots.images import image_grid as image_grid
from .plots.learning_curves import learning_curves as learning_curves
from .plots.comparison import forest_plot as forest_plot
from .plots.saliency import saliency_plot as saliency_plot

# errors
from .common.errors import StudyError as StudyError
