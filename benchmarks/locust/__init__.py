"""The load test of a desk: 3:1:1 of report, forecast and health, with pass criteria."""
