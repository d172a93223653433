"""Names of columns: their words, and whether they are known ones."""

import re
from collections.abc import Iterable

# Words in names of columns whose numbers name things, and so are categories.
CODE_WORD = re.compile(
    "brand|categor(y|ies)|class|cluster|codes?|cohort|decade|genre|group|id|kind|label|month|postal"
    "|postcode|region|segment|status|type|weekday|year|zip|zipcode"
)

# Words in names of columns with places, which are often `city, state, country`.
PLACE_WORD = re.compile(
    "address|birthplace|city|country|geo|home|hometown|loc|locale|location|origin|place|region"
    "|residence|venue"
)
# Words in names of measures, whose numbers may be in order by chance or because rows are sorted.
MEASURE_WORD = re.compile(
    "ages?|amount|average|avg|balance|budget|capacity|cents?|clicks?|comments?|cost|counts?|cnt"
    "|dates?|days?|depth|discount|distance|downloads?|duration|episodes?|fees?|followers?|grade"
    "|height|hours?|income|kg|km|lat|latitude|length|likes?|lng|lon|longitude|mass|max|mean|median"
    "|mileage|min|minutes?|months?|ms|orders?|pages?|percent|players?|plays|points?|popularity"
    "|population|position|prices?|priority|qty|quantity|rank|ranking|rates?|ratings?|ratio|revenue"
    "|reviews?|runtime|salary|sales|score|seasons?|seconds?|size|sold|stars?|stock|streams|sum"
    "|temperature|times?|timestamp|total|value|views?|visits|volume|votes?|weeks?|weight|width"
    "|words?|years?"
)
# Words in names of columns with dates and times, which may be numbers.
DATE_WORD = re.compile(
    "added|aired|at|birth|birthdate|birthday|born|created|dates?|datetime|debut|dob|dt|joined"
    "|launch(ed)?|listed|premiered?|publication|published|registered|registration|released?|since"
    "|start|times?|timestamp|ts|until|updated"
)
# Words of the calendar among them, whose numbers have an order, too.
CALENDAR_WORD = re.compile("decade|month|year")


def normalised(name: str) -> str:
    """Removes case and punctuation from a name: `User_ID` and `userId` are the same."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def words_of(name: str) -> list[str]:
    """Splits a name into words: `movieTitle` and `movie_title` are movie and title."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name)]


def named(columns: Iterable[str], names: str) -> list[str]:
    """Returns the columns that have one of the names, the most preferred first.

    A column inside others, such as `payload.user.id`, also has the names `user.id` and `id`.

    Args:
        columns: Names of columns.
        names: Known names, `normalised` and separated by blanks, in order of preference.
    """
    order = names.split()
    preference: dict[str, tuple[int, int]] = {}
    for name in columns:
        parts = name.split(".")
        known = [normalised(".".join(parts[depth:])) for depth in range(len(parts))]
        matches = [(depth, order.index(k)) for depth, k in enumerate(known) if k in order]
        if matches:
            preference[name] = matches[0]
    return sorted(preference, key=lambda name: preference[name])


def has_word(name: str, words: re.Pattern[str]) -> bool:
    """Returns whether a name has one of some words."""
    return any(words.fullmatch(word) for word in words_of(name))
