"""Little of everything: the settings under which tests run the chapters. The book under test is bound from runs with the same settings as those that the chapters' own tests look at, so that
what both train is trained once."""

OF_THE_BOOK = {
    "1": {"phantom_adults": 100, "phantom_children": 200, "image_size": 32, "adaptation_images": 20, "validation_images": 20, "saliency_images": 40, "source_epochs": 1, "epochs": 2, "draws": 2, "survey_draws": 2,
          "more_draws": 2, "treatment_images": 50, "more_source_epochs": 2, "max_steps": 2},
    "2": {"phantom_children": 200, "image_size": 32, "seeds": 2, "survey_seeds": 2, "more_seeds": 2, "batches": 2, "threshold": 1, "epochs": 2, "rate_step": 1, "mapped": 30, "looked_at": 8, "units": 16},
    "3": {"phantom_images": 100, "phantom_children": 200, "image_size": 32, "folds": 3, "units": 16, "epochs": 1, "batches": 2, "borrowed": 30, "borrowed_draws": 2, "studies": 4, "survey_folds": 2, "repeats": 2},
    "4": {"phantom_children": 100, "phantom_curated": 150, "image_size": 32, "seeds": 2, "survey_seeds": 2, "more_seeds": 2, "batches": 2, "epochs": 1, "tuning_epochs": 1, "views": 2, "retraining_epochs": 1},
    "5": {"phantom_images": 240, "image_size": 32, "batch_size": 64, "steps": 2, "baseline_epochs": 5, "baseline_steps": 0, "grid_layers": [0, 2], "grid_sizes": [50, 100], "grid_epochs": 1, "plain_cells": 2, "redraws": 2,
          "tested_layers": [2, 5], "tested_sizes": [100, 60], "long_epochs": 2, "seeds": 2, "survey_seeds": 2, "survey_epochs": 1, "more_seeds": 2},
    "5b": {"phantom_images": 300, "train_images": 24, "fewer_images": 20, "few_share": 0.4, "image_size": 32, "yolo_image_size": 32, "epochs": 1, "yolo_epochs": 1, "yolo_more_epochs": 1, "open_epochs": 1,
           "reference_epochs": 1, "classifier_epochs": 1, "seeds": 2, "survey_seeds": 2, "folds": 2, "coarse_size": 16, "resamples": 20},
    "synthesis": {"trunks": ["resnet18", "vgg16"], "phantom_children": 160, "phantom_adults": 60, "image_size": 32, "images": 20, "amounts": [30, 40], "validation_images": 20, "steps": 2, "seeds": 2, "batch_size": 8},
    "trunks": {"full_size": 96, "pocket_size": 48, "drawings": 4},
    "speed": {"image_size": 32, "batch_size": 8, "steps": 4},
}


def of_the_book(chapter) -> dict:
    return OF_THE_BOOK.get(chapter.number or chapter.name, {})
