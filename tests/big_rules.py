"""Rules of a large hospital."""

from __future__ import annotations


def big_rules(people: int, doors: int, kinds: int = 20) -> str:
    """A rules file of so many people and doors, in `kinds` roles and zones."""
    lines = ["version = 1", "[risks.standard]", *(f"[zones.z{zone}]" for zone in range(kinds))]
    for door in range(doors):
        lines += [f"[doors.d{door}]", f'zone = "z{door % kinds}"', 'risk = "standard"']
    for role in range(kinds):
        lines += ["[[allow]]", f'roles = ["r{role}"]', f'zones = ["z{role}"]']
    for person in range(people):
        lines += [f"[people.p{person}]", f'roles = ["r{person % kinds}"]', f'badges = ["{100_000 + person}"]']
        lines.append(f'spoken = "{500_000 + person}"')
    return "\n".join(lines)
