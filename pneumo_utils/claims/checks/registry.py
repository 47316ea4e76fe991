"""How a room of judges collects its functions."""


def room():
    """A dictionary of judges and the decorator that fills it under each function's own name."""
    judges = {}

    def judge(function):
        judges[function.__name__] = function
        return function

    return judges, judge
