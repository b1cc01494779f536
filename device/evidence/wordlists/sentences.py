"""What a challenge's words and digits are said as, beside the lists of single words."""

from __future__ import annotations

from device.evidence import german
from device.evidence.vocabulary import Language

DIGITS = {
    Language.ENGLISH: ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    Language.GERMAN: german.SAID,
}
CARRIERS = (
    "the {} and the {} are in our {} or the {}",
    "our {} is over the {} and under any {} or {}",
    "I saw the {} in her {} as you saw a new {} or {}",
    "any {} or the {} is as old as her {} and {}",
    "we owe you a new {} or the {} in our {} and {}",
    "her {} and your {} are on a low {} or {}",
    "you are in the {} on an old {} and our {} is my {}",
    "I owe every {} and every {} to my {} or the {}",
    "is the {} or the {} on our {} and your {}",
    "show my {} or an old {} in the {} and the {}",
    "now my {} is under every {} or in your {} and {}",
    "see how our {} and the {} are as new as my {} or {}",
    "do you see my {} or the {} in any {} and {}",
    "may I show her {} in the {} or a new {} and {}",
    "so the {} is on the {} and my {} is in our {}",
    "who saw the {} and my {} under her {} or {}",
)
"""Of the style `sentence`: short words that run into those drawn, so that a recording of a drawn word alone
lacks what its neighbours do to it."""
SENTENCE_WORDS = 4
