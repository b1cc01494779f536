"""Who may pass: challenge, attempt limits, history, rules, and the decision."""
