"""The doors of a hospital that does not exist."""

from __future__ import annotations

from sync.dashboard.site.places import NEEDS, Place

DOORS = 40

_ZONES: tuple[tuple[str, str, str, str], ...] = (
    ("st-mary", "pharmacy", "access", "Pharmacy, main door; Controlled drugs room; Pharmacy, goods in"),
    ("st-mary", "icu", "access", "Intensive care, main; Intensive care, staff; ICU medicine store"),
    (
        "st-mary", "theatre", "access",
        "Operating theatre 1; Operating theatre 2; Recovery room; Sterile supply; Anaesthetics store",
    ),
    ("st-mary", "nicu", "delayed", "Newborn unit, main; Newborn unit, nurses; Milk kitchen"),
    (
        "st-mary", "east-wing", "access",
        "East ward 1; East ward 2; East ward 3; East ward 4; East stairs; East linen; East staff room",
    ),
    (
        "st-mary", "west-wing", "access",
        "West ward 1; West ward 2; West ward 3; West ward 4; West stairs; West clinic",
    ),
    ("st-mary", "psychiatry", "clinical", "Psychiatry, main; Psychiatry, garden; Psychiatry, staff"),
    ("st-mary", "laboratory", "access", "Laboratory; Blood bank"),
    ("st-mary", "technical", "special", "Server room; Medical gases"),
    ("harbour-clinic", "day-surgery", "access", "Day surgery; Day surgery, recovery; Drug cupboard room"),
    ("harbour-clinic", "imaging", "access", "MRI suite; CT suite; Imaging, staff"),
)  # fmt: skip
_SENSITIVE = {
    "pharmacy": "Controlled drugs. Risk assessment of 12 March 2026.",
    "nicu": "Abduction. Risk assessment of 12 March 2026.",
}
_ZONE_LABELS = {
    "pharmacy": "Pharmacy",
    "icu": "Intensive care",
    "theatre": "Theatres",
    "nicu": "Newborn intensive care",
    "east-wing": "East wing",
    "west-wing": "West wing",
    "psychiatry": "Psychiatry",
    "laboratory": "Laboratory",
    "technical": "Technical rooms",
    "day-surgery": "Day surgery",
    "imaging": "Imaging",
}


def demo_places(doors: int) -> list[Place]:
    """The doors of two sites; behind the fortieth come the same again at other sites."""
    found: list[Place] = []
    while len(found) < doors:
        again = len(found) // DOORS
        found += _places(f"-{again + 1}" if again else "")
    return found[:doors]


def _places(suffix: str) -> list[Place]:
    found = []
    for place, zone, locking, labels in _ZONES:
        site = place + suffix
        for number, label in enumerate(labels.split("; "), start=1):
            drugs = zone == "pharmacy" or "drug" in label.lower()
            thresholds = (3.0, 4.6, 1.0) if drugs else (2.0, 3.0, 0.0)
            egress, why = " ".join(NEEDS[locking]), _SENSITIVE.get(zone, "")
            found.append(
                Place(
                    f"{site}/{zone}-{number}",
                    "door-1",
                    label,
                    zone,
                    _ZONE_LABELS[zone],
                    locking,
                    *thresholds,
                    egress,
                    why,
                )
            )
    return found
