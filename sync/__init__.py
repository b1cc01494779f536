"""What leaves the unit and what receives it: audit events, outbox, agent, registry, dashboard."""
