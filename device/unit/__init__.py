"""One running unit: assembly, enrolment, audit events, upkeep, watch."""
