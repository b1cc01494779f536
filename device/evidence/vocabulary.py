"""The closed classes of words that spoken phrases are made of."""

from __future__ import annotations

from enum import StrEnum


class Language(StrEnum):
    """In which phrases are shown, said and heard."""

    ENGLISH = "en"
    GERMAN = "de"


DIGITS = {
    "zero": 0, "oh": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "niner": 9,
}  # fmt: skip
TEENS = {
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19,
}  # fmt: skip
TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80,
    "ninety": 90,
}  # fmt: skip
ORDINALS = {
    "first": "one", "second": "two", "third": "three", "fourth": "four", "fifth": "five", "sixth": "six",
    "seventh": "seven", "eighth": "eight", "ninth": "nine", "tenth": "ten", "eleventh": "eleven",
    "twelfth": "twelve", "thirteenth": "thirteen", "fourteenth": "fourteen", "fifteenth": "fifteen",
    "sixteenth": "sixteen", "seventeenth": "seventeen", "eighteenth": "eighteen", "nineteenth": "nineteen",
    "twentieth": "twenty", "thirtieth": "thirty",
}  # fmt: skip
REPEATS = {"double": 2, "triple": 3, "treble": 3, "quadruple": 4}
SCALES = {"hundred": 100, "thousand": 1000}
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
NATO = {
    "alpha": "a", "alfa": "a", "bravo": "b", "charlie": "c", "delta": "d", "echo": "e", "foxtrot": "f",
    "golf": "g", "hotel": "h", "india": "i", "juliet": "j", "juliett": "j", "kilo": "k", "lima": "l",
    "mike": "m", "november": "n", "oscar": "o", "papa": "p", "quebec": "q", "romeo": "r", "sierra": "s",
    "tango": "t",
    "uniform": "u", "victor": "v", "whiskey": "w", "whisky": "w", "xray": "x", "yankee": "y", "zulu": "z",
}  # fmt: skip
ABBREVIATIONS = {
    "mr": "mister", "mrs": "missus", "dr": "doctor", "ok": "okay", "nought": "zero", "naught": "zero",
}  # fmt: skip
HESITATIONS = frozenset({"uh", "um", "er", "erm", "ah", "eh", "hm", "hmm", "mm", "mhm", "uhm"})
INVENTED = frozenset(
    {
        "", "you", "thank you", "thanks", "thank you very much", "thanks for watching",
        "thank you for watching",
        "bye", "bye bye", "okay", "so", "the", "music", "blank audio", "silence", "applause", "the end",
        "please subscribe", "subscribe", "ill see you next time",
    }
)  # fmt: skip
"""What Whisper writes when nobody speaks (WhisperLive #185, whisper.cpp #1724)."""
WORDS: tuple[str, ...] = tuple(
    (  # noqa: SIM905
        "able about above after again also always another answer apple around autumn away baby "
        "balance basket beach before behind better between bicycle birthday blanket blossom bottle "
        "bread bridge bright brother bucket building butter cabin camera candle captain carpet "
        "carry castle center chair change chicken children choice circle city clean clear clever "
        "clock cloud coffee color common copper corner cotton country cousin cover daily dance "
        "danger dinner doctor dollar dragon dream early earth easy eleven empty energy engine "
        "evening every family farmer father favor feather field final finger finish fire flower "
        "follow forest forget friend future garden gentle giant glass golden grand great green "
        "ground guitar hammer handle happy harbor heavy holiday honey hospital hour house human "
        "hungry island jacket journey kitchen ladder language later laughter learn leather lemon "
        "letter level library light little lovely machine magic market matter meadow melon message "
        "middle minute mirror moment money morning mother mountain movie music napkin nation nature "
        "never night north number ocean office often orange other paper parent pencil people pepper "
        "picture pillow planet player pleasure pocket pretty problem public purple quarter question "
        "quiet rabbit radio reason ribbon river rocket sailor salad school season second secret "
        "seven shadow silver simple sister spider spring square station stone story street strong "
        "summer sunset table teacher thunder ticket tiger today together tomorrow travel tunnel "
        "umbrella uncle under valley velvet village violin voice wagon water weather wedding "
        "weekend window winter wisdom without wonder wood world writer yellow yesterday young zebra "
    ).split()
)
"""Common words, for rivals of a word that belongs to no class above."""
