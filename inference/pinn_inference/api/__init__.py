"""The wire: HTTP in, JSON out. Nothing here knows an equation."""
