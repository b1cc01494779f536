"""Forgetting on purpose: months past their time, alarms dealt with, refusals and old commands."""
