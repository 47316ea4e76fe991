"""What ends a command with one clear message."""


class StudyError(Exception):
    """Something a user can mend; the message says what was wrong, where, and what to do."""


class ParameterError(StudyError, ValueError):
    """A parameter that the chapter has not, or a value that it cannot take."""


class ChapterFailed(StudyError):
    """A chapter that stopped in a cell."""


NO_ROOM = (
    "There is no room left to write {what}: {error}. Free some space, or choose another folder with --out; "
    "what was finished before is kept."
)
