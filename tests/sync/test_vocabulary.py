"""The audit vocabulary covers what the door can decide."""

from device.access.decision import Outcome, Reason
from sync.vocabulary import KINDS, REASONS


def test_everything_a_policy_can_decide_can_be_written_down() -> None:
    assert {str(outcome) for outcome in Outcome} <= KINDS
    assert {str(reason) for reason in Reason} <= REASONS
