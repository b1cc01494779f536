"""Error rates with their intervals, calibration, plots and tables: what all parts of an evaluation share."""
