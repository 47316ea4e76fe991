"""Class weights of a loss: the usual ones, and the ones a paper got, its mistake included."""

from pneumo_utils.common.errors import StudyError


def balanced(counts: dict[str, int]) -> dict[str, float]:
    """Images / (classes x images of the class), as scikit-learn has it: the weights of all images sum to their
    number.
    """
    return {name: sum(counts.values()) / (len(counts) * count) for name, count in counts.items()}


def ratio(counts: dict[str, int]) -> dict[str, float]:
    """The most common class weighs 1, the others as many times more as they are rarer."""
    return {name: max(counts.values()) / count for name, count in counts.items()}


def class_weights(cohort, how: str) -> dict[str, float]:
    """Compute class weights: "balanced", "ratio" or "zhao"; raise `StudyError` if a class is empty."""
    counts = {name: int(count) for name, count in cohort.counts().items()}
    if empty := [name for name, count in counts.items() if not count]:
        raise StudyError(
            f"{cohort.name} has no image of the class {empty[0]!r}, so it has no weight. Leave the "
            f"class out, or take more images."
        )
    if how == "balanced":
        return balanced(counts)
    if how == "ratio":
        return ratio(counts)
    if how == "zhao":
        return ratio(_rows_of_the_box_table(cohort))
    raise StudyError(
        f'There are no weights called {how!r}: choose "balanced", "ratio" or "zhao" (box rows counted as images).'
    )


def _rows_of_the_box_table(cohort) -> dict[str, int]:
    """RSNA's table has a row a box: counted by rows, an image with three boxes counts three times."""
    rows = cohort.boxes["row"].value_counts().reindex(cohort.table.index).fillna(1)
    return {name: int(rows[(cohort.table["labels"] == name).to_numpy()].sum()) for name in cohort.classes}
